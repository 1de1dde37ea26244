//! Totals of histograms, summaries and native histograms.

use crate::ids::LayoutId;
use crate::registry::Reason;
use crate::sum::Sum;
use crate::{
    MAX_BUCKETS_OF_SERIES, MAX_LAYOUTS_OF_SERIES, MAX_NATIVE_BUCKETS, NATIVE_SCHEMAS,
    NativeHistogram,
};

/// Totals of a histogram, one for each bucket layout of its writers; a summary has one.
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct Buckets {
    pub(in crate::registry) parts: Vec<Part>,
    /// Number of all observations, in any layout.
    pub(in crate::registry) count: u64,
}

#[derive(Debug, Clone)]
pub(in crate::registry) struct Part {
    pub(in crate::registry) layout: LayoutId,
    pub(in crate::registry) sum: ObservedSum,
    /// Not cumulative; the last is `+Inf`.
    pub(in crate::registry) counts: Box<[u64]>,
}

impl Buckets {
    /// Returns the total of that layout.
    pub(in crate::registry) fn part(&mut self, layout: LayoutId, buckets: usize) -> &mut Part {
        let at = self
            .parts
            .iter()
            .position(|part| part.layout == layout)
            .unwrap_or_else(|| {
                self.parts.push(Part {
                    layout,
                    sum: ObservedSum::default(),
                    counts: vec![0; buckets].into(),
                });
                self.parts.len() - 1
            });
        &mut self.parts[at]
    }

    /// Returns the sum of a layout after so many more observations, by which the writer's sum went
    /// from `before` to `now`.
    ///
    /// # Errors
    ///
    /// The count, the sum of the layout or that of all layouts would be too large; there would be
    /// too many layouts side by side; or no observations can take the writer's sum from `before` to
    /// `now`.
    pub(in crate::registry) fn sum_with(
        &self,
        (layout, buckets): (LayoutId, usize),
        more: u64,
        now: f64,
        before: f64,
    ) -> Result<ObservedSum, Reason> {
        let is_new = self.parts.iter().all(|part| part.layout != layout);
        let all = self.parts.iter().map(|part| part.counts.len());
        if is_new
            && (self.parts.len() >= MAX_LAYOUTS_OF_SERIES
                || all.sum::<usize>() + buckets > MAX_BUCKETS_OF_SERIES)
        {
            return Err(Reason::Size);
        }
        self.count.checked_add(more).ok_or(Reason::Overflow)?;
        let (mut sum, mut others) = (ObservedSum::default(), 0.0);
        for part in &self.parts {
            if part.layout == layout {
                sum = part.sum;
            } else {
                others += part.sum.finite.value();
            }
        }
        let sum = sum.plus(now, before)?;
        let is_finite = (sum.finite.value() + others).is_finite();
        is_finite.then_some(sum).ok_or(Reason::Overflow)
    }
}

/// The total of a native histogram.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Native {
    /// In the lowest schema and with the highest zero threshold of all its writers; in a still
    /// lower schema if it would have more than [`MAX_NATIVE_BUCKETS`].
    pub(in crate::registry) histogram: NativeHistogram,
    pub(in crate::registry) sum: ObservedSum,
}

impl Default for Native {
    /// An empty total, which takes the schema and the zero threshold of the first histogram that is
    /// added.
    fn default() -> Self {
        Self {
            histogram: NativeHistogram::empty(*NATIVE_SCHEMAS.end(), 0.0),
            sum: ObservedSum::default(),
        }
    }
}

impl Native {
    /// Returns the sum after adding what was counted since `before`, which was the sum then.
    ///
    /// # Errors
    ///
    /// Those of [`Buckets::sum_with`].
    pub(in crate::registry) fn sum_with(
        &self,
        counted: &NativeHistogram,
        before: f64,
    ) -> Result<ObservedSum, Reason> {
        let more = counted.checked_count().ok_or(Reason::Overflow)?;
        let count = self.histogram.checked_count().ok_or(Reason::Overflow)?;
        count.checked_add(more).ok_or(Reason::Overflow)?;
        self.sum.plus(counted.sum, before)
    }

    /// Adds what was counted; `sum` is the result of [`sum_with`](Self::sum_with).
    pub(in crate::registry) fn add(&mut self, mut counted: NativeHistogram, sum: ObservedSum) {
        self.histogram.align(&mut counted);
        self.histogram.add_counts(&counted);
        while self.histogram.len() > MAX_NATIVE_BUCKETS
            && self.histogram.schema > *NATIVE_SCHEMAS.start()
        {
            self.histogram.lower_schema(self.histogram.schema - 1);
        }
        self.sum = sum;
        self.histogram.sum = sum.value();
    }
}

/// A sum of observations, some of which may be infinite.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::registry) struct ObservedSum {
    pub(in crate::registry) finite: Sum,
    /// Sum of the infinite observations; 0 if there are none.
    pub(in crate::registry) odd: f64,
}

impl ObservedSum {
    /// Returns the sum of one writer.
    pub(in crate::registry) fn of(sum: f64) -> Self {
        let mut total = Self::default();
        if sum.is_finite() {
            total.finite.high = sum;
        } else {
            total.odd = sum;
        }
        total
    }

    /// Returns this sum plus the difference between a writer's sum and its earlier value.
    ///
    /// # Errors
    ///
    /// The sum of finite observations would be infinite; or an infinite sum has become finite,
    /// which no observation can cause.
    pub(in crate::registry) fn plus(self, now: f64, before: f64) -> Result<Self, Reason> {
        if now.is_finite() && before.is_finite() {
            let finite = self.finite.plus_difference(now, before);
            let finite = finite.ok_or(Reason::Overflow)?;
            return Ok(Self { finite, ..self });
        }
        if now == before || (now.is_nan() && before.is_nan()) {
            return Ok(self);
        }
        if before.is_finite() || now.is_nan() {
            let odd = self.odd + now;
            return Ok(Self { odd, ..self });
        }
        Err(Reason::Value)
    }

    pub(in crate::registry) fn value(self) -> f64 {
        if self.odd == 0.0 {
            self.finite.value()
        } else {
            self.odd
        }
    }
}
