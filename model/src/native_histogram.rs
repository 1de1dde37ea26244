//! Native histograms: sparse buckets whose bounds are powers of one base.
//!
//! # How it works
//!
//! The *schema* n sets the base 2^(2^-n): bucket number i counts the observations in (base^(i-1),
//! base^i], with the signs reversed on the negative side. The zero bucket counts observations whose
//! absolute value is at most the *zero threshold*. A schema one lower joins pairs of buckets, so
//! any two histograms can be brought to the lower schema of both, exactly. They can also be brought
//! to the higher zero threshold of both, unless it would cut a bucket with observations.
//!
//! Schemas from -4 to 8, bucket bounds and the meaning of the zero bucket are those of the
//! [Prometheus specification of native
//! histograms](https://prometheus.io/docs/specs/native_histograms/).

mod codec;

/// The schemas with exponential buckets: the base is 2^(2^-schema).
pub const NATIVE_SCHEMAS: std::ops::RangeInclusive<i8> = -4..=8;
/// Default zero threshold of the Prometheus client libraries: 2^-128.
pub const DEFAULT_ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;
/// Maximum number of buckets, of both signs together, that a writer may send of one histogram.
pub const MAX_NATIVE_BUCKETS: usize = 4096;
/// Up to one in so many buckets is added on its own; if more change, both lists are merged.
const FEW_OF: usize = 16;
/// A limit above the number of the bucket of +Inf in the finest schema, and below (negated) that of
/// the smallest number.
pub(crate) const MAX_BUCKET_NUMBER: i32 = 1100 << 8;

/// The state of a native histogram. Its counts are not cumulative.
///
/// ```
/// use metrics_model::{NativeHistogram, upper_bound};
///
/// // Two observations in (1, 2] and one in (2, 4]: in schema 0 each bucket is twice as wide as the
/// // one before.
/// let mut histogram = NativeHistogram::empty(0, 0.0);
/// histogram.positive = vec![(1, 2), (2, 1)];
/// histogram.sum = 6.5;
/// assert_eq!(histogram.count(), 3);
/// assert_eq!([1, 2].map(|bucket| upper_bound(histogram.schema, bucket)), [2.0, 4.0]);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NativeHistogram {
    /// The resolution.
    pub schema: i8,
    /// Largest absolute value of an observation in the zero bucket.
    pub zero_threshold: f64,
    /// Number of observations in the zero bucket.
    pub zero_count: u64,
    /// The sum of all observations.
    pub sum: f64,
    /// Buckets of observations above zero, by number, ascending.
    pub positive: SparseBuckets,
    /// Buckets of observations below zero, by the number of their absolute value.
    pub negative: SparseBuckets,
}

/// Numbers of buckets and their counts, ascending by number.
pub type SparseBuckets = Vec<(i32, u64)>;

impl NativeHistogram {
    /// Returns a histogram without observations.
    pub fn empty(schema: i8, zero_threshold: f64) -> Self {
        Self {
            schema,
            zero_threshold,
            ..Self::default()
        }
    }

    /// Returns the number of observations.
    pub fn count(&self) -> u64 {
        self.checked_count().unwrap_or(u64::MAX)
    }

    /// Returns the same; `None` if it exceeds the type.
    pub(crate) fn checked_count(&self) -> Option<u64> {
        let mut sides = self.positive.iter().chain(&self.negative);
        sides.try_fold(self.zero_count, |sum, (_, count)| sum.checked_add(*count))
    }

    /// Returns the number of buckets, without the zero bucket.
    pub fn len(&self) -> usize {
        self.positive.len() + self.negative.len()
    }

    /// Returns whether it has no bucket except the zero bucket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts one observation, which must not be NaN; the caller adds it to the sum.
    pub(crate) fn count_in(&mut self, observation: f64) {
        if observation.abs() <= self.zero_threshold {
            self.zero_count = self.zero_count.wrapping_add(1);
            return;
        }
        let number = bucket_of(self.schema, observation.abs());
        let side = if observation > 0.0 {
            &mut self.positive
        } else {
            &mut self.negative
        };
        add_to(side, number, 1);
    }

    /// Brings it to a lower schema: each 2^steps buckets become one.
    pub(crate) fn lower_schema(&mut self, schema: i8) {
        if schema >= self.schema {
            return;
        }
        let steps = u32::from((self.schema - schema).unsigned_abs());
        for side in [&mut self.positive, &mut self.negative] {
            *side = joined(side, steps);
        }
        self.schema = schema;
    }

    /// Brings it to a higher zero threshold; buckets that lie below it join the zero bucket.
    /// Returns whether a bucket with observations crosses the threshold; that bucket stays as it
    /// is.
    pub(crate) fn raise_zero_threshold(&mut self, threshold: f64) -> bool {
        let mut cuts = false;
        if threshold > self.zero_threshold {
            self.zero_threshold = threshold;
            let within = bucket_of(self.schema, threshold);
            let whole = upper_bound(self.schema, within) <= threshold;
            for side in [&mut self.positive, &mut self.negative] {
                side.retain(|(number, count)| {
                    let goes = *number < within || (*number == within && whole);
                    let joins = if goes { *count } else { 0 };
                    self.zero_count = self.zero_count.wrapping_add(joins);
                    cuts |= *number == within && !whole;
                    !goes
                });
            }
        }
        cuts
    }

    /// Brings both to one schema and one zero threshold: the lower schema, and the higher
    /// threshold, raised further if it would cut a bucket.
    pub(crate) fn align(&mut self, other: &mut Self) {
        let schema = self.schema.min(other.schema);
        self.lower_schema(schema);
        other.lower_schema(schema);
        let mut threshold = self.zero_threshold.max(other.zero_threshold);
        loop {
            let cuts = self.raise_zero_threshold(threshold);
            let others = other.raise_zero_threshold(threshold);
            if !(cuts || others) {
                return;
            }
            threshold = upper_bound(schema, bucket_of(schema, threshold));
        }
    }

    /// Adds the counts of a histogram with the same schema and zero threshold.
    pub(crate) fn add_counts(&mut self, other: &Self) {
        self.zero_count = self.zero_count.wrapping_add(other.zero_count);
        for (side, others) in [
            (&mut self.positive, &other.positive),
            (&mut self.negative, &other.negative),
        ] {
            if others.len() * FEW_OF < side.len() {
                for (number, count) in others {
                    add_to(side, *number, *count);
                }
            } else {
                merge(side, others, u64::wrapping_add);
            }
        }
    }

    /// Returns what was counted since `before`, which is brought to this schema and zero threshold;
    /// `None` if any count has fallen. The sum is that of `self`.
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        if self.schema > before.schema || self.zero_threshold < before.zero_threshold {
            return None;
        }
        let mut before = before.clone();
        before.lower_schema(self.schema);
        before.raise_zero_threshold(self.zero_threshold);
        let mut difference = self.clone();
        difference.zero_count = self.zero_count.checked_sub(before.zero_count)?;
        for (now, before) in [
            (&mut difference.positive, &before.positive),
            (&mut difference.negative, &before.negative),
        ] {
            for (number, count) in before {
                let at = now.binary_search_by_key(number, |bucket| bucket.0).ok()?;
                now[at].1 = now[at].1.checked_sub(*count)?;
            }
            now.retain(|(_, count)| *count > 0);
        }
        Some(difference)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.positive.capacity() + self.negative.capacity()) * size_of::<(i32, u64)>()
    }
}

/// Returns the upper bound of a bucket on the positive side: base^number.
pub fn upper_bound(schema: i8, number: i32) -> f64 {
    if schema <= 0 {
        let exponent = i64::from(number) << -schema;
        return power_of_two(exponent);
    }
    let fraction = number & ((1 << schema) - 1);
    let mut bound = 1.0;
    for (at, root) in ROOTS.iter().enumerate().take(schema as usize) {
        if fraction & (1 << (schema as usize - 1 - at)) != 0 {
            bound *= root;
        }
    }
    bound * power_of_two(i64::from(number >> schema))
}

/// Returns the bucket of a number above zero.
pub(crate) fn bucket_of(schema: i8, above_zero: f64) -> i32 {
    if above_zero == f64::INFINITY {
        return bucket_of(schema, f64::MAX) + 1;
    }
    let (mantissa, exponent) = split(above_zero);
    if schema <= 0 {
        // The bound 2^exponent itself belongs to the bucket that ends with it.
        let number = if mantissa == 1.0 {
            exponent
        } else {
            exponent + 1
        };
        let steps = u32::from(schema.unsigned_abs());
        return ceil_shift(number, steps);
    }
    // Finds the largest bound below the mantissa bit by bit, with products of the same roots as in
    // `upper_bound`, so that both agree on every machine.
    let (mut below, mut number) = (1.0, 0);
    for (at, root) in ROOTS.iter().enumerate().take(schema as usize) {
        if below * root < mantissa {
            below *= root;
            number |= 1 << (schema as usize - 1 - at);
        }
    }
    if below < mantissa {
        number += 1;
    }
    number + (exponent << schema)
}

/// 2^(1/2), 2^(1/4), and so on.
const ROOTS: [f64; 8] = [
    std::f64::consts::SQRT_2,
    1.189_207_115_002_721,
    1.090_507_732_665_257_7,
    1.044_273_782_427_413_8,
    1.021_897_148_654_116_6,
    1.010_889_286_051_700_5,
    1.005_429_901_112_802_7,
    1.002_711_275_050_202_5,
];

/// Splits a number above zero into mantissa × 2^exponent, the mantissa from 1 to below 2.
fn split(number: f64) -> (f64, i32) {
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = number.to_bits();
    match (bits >> 52) as i32 {
        0 => {
            let (mantissa, exponent) = split(number * 2f64.powi(54));
            (mantissa, exponent - 54)
        }
        biased => (
            f64::from_bits((bits & FRACTION) | 1023 << 52),
            biased - 1023,
        ),
    }
}

fn power_of_two(exponent: i64) -> f64 {
    match exponent {
        1024.. => f64::INFINITY,
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        -1074..=-1023 => f64::from_bits(1 << (exponent + 1074)),
        _ => 0.0,
    }
}

/// Returns number / 2^steps, rounded up.
fn ceil_shift(number: i32, steps: u32) -> i32 {
    (number + (1 << steps) - 1) >> steps
}

fn joined(side: &SparseBuckets, steps: u32) -> SparseBuckets {
    let mut joined = SparseBuckets::new();
    for (number, count) in side {
        let number = ceil_shift(*number, steps);
        match joined.last_mut() {
            Some((last, total)) if *last == number => *total = total.wrapping_add(*count),
            _ => joined.push((number, *count)),
        }
    }
    joined
}

fn add_to(side: &mut SparseBuckets, number: i32, count: u64) {
    match side.binary_search_by_key(&number, |bucket| bucket.0) {
        Ok(at) => side[at].1 = side[at].1.wrapping_add(count),
        Err(at) => side.insert(at, (number, count)),
    }
}

fn merge(side: &mut SparseBuckets, other: &SparseBuckets, two: fn(u64, u64) -> u64) {
    let mut merged = SparseBuckets::with_capacity(side.len().max(other.len()));
    let (mut left, mut right) = (side.iter().peekable(), other.iter().peekable());
    loop {
        let bucket = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(l), Some(r)) if l.0 == r.0 => {
                let both = (l.0, two(l.1, r.1));
                left.next();
                right.next();
                Some(&both).copied()
            }
            (Some(l), Some(r)) if l.0 < r.0 => left.next().copied(),
            (Some(_), None) => left.next().copied(),
            _ => right.next().copied(),
        };
        merged.extend(bucket);
    }
    *side = merged;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl NativeHistogram {
        /// Returns whether a histogram can have these numbers.
        fn is_sound(&self) -> bool {
            let is_sound = |side: &SparseBuckets| {
                side.is_sorted_by(|a, b| a.0 < b.0)
                    && side
                        .iter()
                        .all(|(number, count)| number.abs() <= MAX_BUCKET_NUMBER && *count > 0)
            };
            NATIVE_SCHEMAS.contains(&self.schema)
                && self.zero_threshold >= 0.0
                && self.zero_threshold.is_finite()
                && is_sound(&self.positive)
                && is_sound(&self.negative)
        }
    }

    fn positive() -> impl Strategy<Value = f64> {
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("above zero, finite", |v| v.is_finite() && *v > 0.0)
    }

    fn histogram() -> impl Strategy<Value = NativeHistogram> {
        let threshold = prop_oneof![Just(0.0), Just(DEFAULT_ZERO_THRESHOLD), 0.0..2.0];
        let observations = prop::collection::vec(-100.0..100.0, 0..40);
        (NATIVE_SCHEMAS, threshold, observations).prop_map(|(schema, threshold, observations)| {
            let mut histogram = NativeHistogram::empty(schema, threshold);
            for observation in observations {
                histogram.count_in(observation);
            }
            histogram
        })
    }

    proptest! {
        #[test]
        fn an_observation_is_between_the_bounds_of_its_bucket(
            schema in NATIVE_SCHEMAS, value in positive(),
        ) {
            let number = bucket_of(schema, value);
            prop_assert!(value <= upper_bound(schema, number));
            prop_assert!(upper_bound(schema, number - 1) < value);
        }

        #[test]
        fn a_bound_is_in_the_bucket_that_it_ends(schema in NATIVE_SCHEMAS, number in -1000..1000i32) {
            let bound = upper_bound(schema, number);
            if bound > f64::MIN_POSITIVE && bound.is_finite() {
                prop_assert_eq!(bucket_of(schema, bound), number);
            }
        }

        #[test]
        fn a_lower_schema_counts_as_if_it_had_been_so_from_the_start(
            from in NATIVE_SCHEMAS, to in NATIVE_SCHEMAS,
            observations in prop::collection::vec(-1e9..1e9, 0..50),
        ) {
            let (from, to) = (from.max(to), from.min(to));
            let (mut fine, mut coarse) =
                (NativeHistogram::empty(from, 0.0), NativeHistogram::empty(to, 0.0));
            for observation in observations {
                fine.count_in(observation);
                coarse.count_in(observation);
            }
            fine.lower_schema(to);
            prop_assert_eq!(fine, coarse);
        }

        #[test]
        fn aligning_loses_no_observation(mut a in histogram(), mut b in histogram()) {
            let counts = (a.count(), b.count());
            a.align(&mut b);
            prop_assert_eq!((a.schema, a.zero_threshold), (b.schema, b.zero_threshold));
            prop_assert_eq!((a.count(), b.count()), counts);
            prop_assert!(a.is_sound() && b.is_sound());
        }

        #[test]
        fn the_earlier_state_and_the_difference_add_up_to_the_later_state(
            before in histogram(), more in prop::collection::vec(-100.0..100.0, 0..40),
        ) {
            let mut now = before.clone();
            for observation in more {
                now.count_in(observation);
            }
            let since = now.since(&before).expect("nothing has decreased");
            let mut again = before.clone();
            again.add_counts(&since);
            prop_assert_eq!(again.count(), now.count());
            prop_assert_eq!(again.positive, now.positive);
        }
    }

    #[test]
    fn infinity_has_the_bucket_after_the_largest_number() {
        for schema in NATIVE_SCHEMAS {
            let number = bucket_of(schema, f64::INFINITY);
            assert_eq!(upper_bound(schema, number), f64::INFINITY);
            assert!(number <= MAX_BUCKET_NUMBER);
            assert!(bucket_of(schema, 5e-324) >= -MAX_BUCKET_NUMBER);
        }
    }

    #[test]
    fn a_histogram_below_what_it_was_has_no_difference() {
        let mut before = NativeHistogram::empty(3, 0.0);
        before.count_in(1.5);
        assert_eq!(NativeHistogram::empty(3, 0.0).since(&before), None);
        assert_eq!(NativeHistogram::empty(4, 0.0).since(&before), None);
    }
}
