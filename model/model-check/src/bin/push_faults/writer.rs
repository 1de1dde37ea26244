//! A writer: its series, and the session that sends them.

use metrics_model::{
    FamilySpec, FamilyType, Layout, NativeHistogram, Point, SeriesDef, SeriesLife, Session,
    SessionOptions, Source,
};

const OPTIONS: SessionOptions = SessionOptions {
    registry_ttl_ms: 0,
    tombstone_retention_ms: 604_800_000,
};

/// Families whose totals must be exact.
pub(crate) const COUNTED: [&str; 3] = ["c", "h", "n"];

pub(crate) struct Writer {
    pub(crate) series: Series,
    pub(crate) session: Session,
    /// For each series, the value that a registry had acknowledged before it lost everything.
    lost: Vec<f64>,
}

#[derive(Debug)]
pub(crate) struct Series(Vec<One>);

#[derive(Debug)]
struct One {
    family: &'static str,
    family_type: FamilyType,
    layout: Option<Layout>,
    labels: Vec<(Box<str>, Box<str>)>,
    point: Point,
}

impl Writer {
    pub(crate) fn new(id: String) -> Self {
        let of = |family, family_type, layout, point| One {
            family,
            family_type,
            layout,
            labels: Vec::new(),
            point,
        };
        let buckets = Point::Buckets {
            sum: 0.0,
            counts: vec![0; 3],
        };
        let native = Point::Native(Box::new(NativeHistogram::empty(3, 0.0)));
        let series = vec![
            of("c", FamilyType::Counter, None, Point::Scalar(0.0)),
            of(
                "h",
                FamilyType::Histogram,
                Layout::new(["1", "2"]).ok(),
                buckets,
            ),
            of("n", FamilyType::NativeHistogram, None, native),
        ];
        Self {
            series: Series(series),
            session: Session::new(id.into_bytes(), OPTIONS),
            lost: Vec::new(),
        }
    }

    pub(crate) fn count(&mut self, by: u64) {
        for one in &mut self.series.0[..3] {
            match &mut one.point {
                Point::Scalar(value) => *value += by as f64,
                Point::Buckets { sum, counts } => {
                    *sum += by as f64;
                    counts[by as usize % 3] += by;
                }
                Point::Native(native) => match native.positive.last_mut() {
                    Some(last) => last.1 += by,
                    None => native.positive.push((2, by)),
                },
                Point::Timed { .. } => {}
            }
        }
    }

    /// Adds a label set to the counter; returns its label.
    pub(crate) fn grow(&mut self) -> String {
        let label = self.series.0.len().to_string();
        self.series.0.push(One {
            family: "c",
            family_type: FamilyType::Counter,
            layout: None,
            labels: vec![("n".into(), label.as_str().into())],
            point: Point::Scalar(1.0),
        });
        label
    }

    /// Notes that the registry has lost everything.
    pub(crate) fn lose(&mut self) {
        let acked = |number| Some(size(&self.session.saved_point(number)?.acked));
        let numbers = 0..self.series.0.len();
        self.lost = numbers
            .map(|number| acked(number).unwrap_or_default())
            .collect();
    }

    /// Returns what all series of a family have counted since the last loss.
    pub(crate) fn counted(&self, family: &str) -> f64 {
        let of_family = self
            .series
            .0
            .iter()
            .enumerate()
            .filter(|(_, one)| one.family == family);
        let lost = |number: usize| self.lost.get(number).copied().unwrap_or(0.0);
        of_family
            .map(|(number, one)| size(&one.point) - lost(number))
            .sum()
    }

    /// Replaces the session with one that another process restores from the saved state.
    pub(crate) fn succeed(&mut self) {
        let session = &self.session;
        self.session = Session::resume(session.writer().to_vec(), OPTIONS, session.saved());
    }
}

fn size(point: &Point) -> f64 {
    match point {
        Point::Scalar(value) | Point::Timed { value, .. } => *value,
        Point::Buckets { counts, .. } => counts.iter().sum::<u64>() as f64,
        Point::Native(native) => native.count() as f64,
    }
}

impl Source for Series {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn series(&self, number: usize) -> SeriesDef<'_> {
        let one = &self.0[number];
        SeriesDef {
            family: FamilySpec::new(one.family, one.family_type),
            layout: one.layout.as_ref(),
            labels: &one.labels,
            pid: "",
            ttl_ms: 0,
        }
    }

    fn point(&self, number: usize) -> Point {
        self.0[number].point.clone()
    }

    fn life(&self, _number: usize) -> SeriesLife {
        SeriesLife::Live
    }
}
