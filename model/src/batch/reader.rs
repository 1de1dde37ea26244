//! Reading the entries of a batch.

use super::{
    BucketChanges, Define, Entry, MAX_BOUNDS, MAX_LABELS, Pairs, TAG_DEFINE, TAG_EXEMPLAR,
    TAG_FAMILY, TAG_HISTOGRAM, TAG_LAYOUT, TAG_NATIVE, TAG_RETIRE, TAG_START, TAG_TIMED,
    TAG_VALUES, VALUE_BYTES, Values,
};
use crate::bytes::{DecodeError, Reader};
use crate::sizes::{CELLS_OF_BOUND, CELLS_OF_LABEL};
use crate::{FamilySpec, FamilyType, Layout, NativeHistogram, Point};

/// Reads entries one after the other, and remembers the families and layouts of earlier ones.
pub(super) struct Entries<'a> {
    pub(super) reader: Reader<'a>,
    families: Vec<FamilyType>,
    bounds_of_layouts: Vec<usize>,
    /// Cost of applying the entries read so far, see [`MAX_BATCH_CELLS`](crate::MAX_BATCH_CELLS).
    pub(super) cells: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(body),
            families: Vec::new(),
            bounds_of_layouts: Vec::new(),
            cells: 0,
        }
    }

    #[inline]
    pub(super) fn read(&mut self) -> Result<Entry<'a>, DecodeError> {
        let at = self.reader.at();
        match self.reader.u8()? {
            TAG_VALUES => {
                let count = self.reader.count(VALUE_BYTES)?;
                let records = self.reader.take(count * VALUE_BYTES)?.as_chunks().0;
                Ok(Entry::Values(Values(records)))
            }
            TAG_HISTOGRAM => self.buckets(),
            TAG_TIMED => Ok(Entry::Timed {
                index: self.index()?,
                value: self.reader.float()?,
                time: self.reader.float()?,
            }),
            TAG_DEFINE => self.define(),
            TAG_FAMILY => self.family(),
            TAG_LAYOUT => self.layout(),
            TAG_RETIRE => Ok(Entry::Retire {
                index: self.index()?,
            }),
            TAG_NATIVE => Ok(Entry::Native {
                index: self.index()?,
                histogram: Box::new(self.native()?),
            }),
            TAG_EXEMPLAR => Ok(Entry::Exemplar {
                index: self.index()?,
                value: self.reader.float()?,
                time: self.reader.float()?,
                labels: self.labels()?,
            }),
            TAG_START => self.start(),
            tag => Reader::refuse("entry tag", tag.into(), "1 to 10", at),
        }
    }

    fn start(&mut self) -> Result<Entry<'a>, DecodeError> {
        let index = self.index()?;
        let at = self.reader.at();
        let time = self.reader.float()?;
        if time >= 0.0 && time.is_finite() {
            return Ok(Entry::Start { index, time });
        }
        Reader::refuse("start time", 0, "a number of seconds from 0 on", at)
    }

    fn index(&mut self) -> Result<u32, DecodeError> {
        let at = self.reader.at();
        let index = self.reader.varint()?;
        u32::try_from(index).or_else(|_| Reader::refuse("index", index, "below 2^32", at))
    }

    fn family(&mut self) -> Result<Entry<'a>, DecodeError> {
        let at = self.reader.at();
        let (kind, mode) = (self.reader.u8()?, self.reader.u8()?);
        let Some(family_type) = FamilyType::from_numbers(kind, mode) else {
            return Reader::refuse(
                "family type and mode",
                u64::from(kind) << 8 | u64::from(mode),
                "a pair that this version knows",
                at,
            );
        };
        self.families.push(family_type);
        Ok(Entry::Family(FamilySpec {
            family_type,
            name: self.reader.text()?,
            help: self.reader.text()?,
            unit: self.reader.text()?,
        }))
    }

    fn layout(&mut self) -> Result<Entry<'a>, DecodeError> {
        let at = self.reader.at();
        let count = self.reader.count(1)?;
        if count > MAX_BOUNDS {
            return Reader::refuse("number of bounds", count as u64, "at most 1000", at);
        }
        self.cells += CELLS_OF_BOUND * count;
        let bounds = (0..count)
            .map(|_| self.reader.text())
            .collect::<Result<Vec<_>, _>>()?;
        let layout =
            Layout::new(bounds).map_err(|wrong| DecodeError::Bound { bound: wrong.0, at })?;
        self.bounds_of_layouts.push(count);
        Ok(Entry::Layout(layout))
    }

    fn define(&mut self) -> Result<Entry<'a>, DecodeError> {
        let at = self.reader.at();
        let family = self.reader.varint()?;
        let Some(&family_type) = self.families.get(family as usize) else {
            return Reader::refuse("family", family, "a family of this batch", at);
        };
        let ttl_ms = self.reader.varint()?;
        let labels = self.labels()?;
        let pid = self.reader.text()?;

        let (layout, buckets) = match family_type {
            FamilyType::Histogram => {
                let at = self.reader.at();
                let number = self.reader.varint()?;
                let Some(&bounds) = self.bounds_of_layouts.get(number as usize) else {
                    return Reader::refuse("layout", number, "a layout of this batch", at);
                };
                (Some(number as usize), bounds + 1)
            }
            _ => (None, 1),
        };
        let point = self.point(family_type, buckets)?;
        let at = self.reader.at();
        let base = match (self.reader.u8()?, family_type) {
            (0, _) => None,
            (1, FamilyType::Gauge(mode)) if mode.is_timed() => {
                return Reader::refuse("base", 1, "none for a mostrecent gauge", at);
            }
            (1, FamilyType::Info | FamilyType::StateSet) => {
                return Reader::refuse("base", 1, "none for an info or a stateset", at);
            }
            (1, _) => Some(self.point(family_type, buckets)?),
            (found, _) => return Reader::refuse("base", found.into(), "0 or 1", at),
        };
        let family = family as usize;
        Ok(Entry::Define(Box::new(Define {
            family,
            ttl_ms,
            labels,
            pid,
            layout,
            point,
            base,
        })))
    }

    fn labels(&mut self) -> Result<Pairs<'a>, DecodeError> {
        let at = self.reader.at();
        let count = self.reader.count(2)?;
        if count > MAX_LABELS {
            return Reader::refuse("number of labels", count as u64, "at most 64", at);
        }
        self.cells += CELLS_OF_LABEL * count;
        let start = self.reader.at();
        for _ in 0..2 * count {
            self.reader.text()?;
        }
        Ok(Pairs(self.reader.since(start)))
    }

    fn point(&mut self, family_type: FamilyType, buckets: usize) -> Result<Point, DecodeError> {
        match family_type {
            FamilyType::Gauge(mode) if mode.is_timed() => Ok(Point::Timed {
                value: self.reader.float()?,
                time: self.reader.float()?,
            }),
            FamilyType::Counter
            | FamilyType::Gauge(_)
            | FamilyType::Info
            | FamilyType::StateSet => Ok(Point::Scalar(self.reader.float()?)),
            FamilyType::NativeHistogram => Ok(Point::Native(Box::new(self.native()?))),
            FamilyType::Histogram | FamilyType::Summary => {
                self.cells += buckets;
                Ok(Point::Buckets {
                    sum: self.reader.float()?,
                    counts: (0..buckets)
                        .map(|_| self.reader.varint())
                        .collect::<Result<_, _>>()?,
                })
            }
        }
    }

    fn native(&mut self) -> Result<NativeHistogram, DecodeError> {
        let histogram = NativeHistogram::get(&mut self.reader)?;
        self.cells += histogram.len();
        Ok(histogram)
    }

    fn buckets(&mut self) -> Result<Entry<'a>, DecodeError> {
        let index = self.index()?;
        let sum = self.reader.float()?;
        let count = self.reader.count(2)?;
        self.cells += count;
        let start = self.reader.at();
        let mut above = 0;
        for _ in 0..count {
            let at = self.reader.at();
            let bucket = self.reader.varint()?;
            if bucket < above || bucket > MAX_BOUNDS as u64 {
                return Reader::refuse("bucket", bucket, "ascending, at most 1000", at);
            }
            above = bucket + 1;
            self.reader.varint()?;
        }
        let changes = BucketChanges(self.reader.since(start));
        Ok(Entry::Buckets {
            index,
            sum,
            changes,
        })
    }
}
