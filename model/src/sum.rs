//! Adding floats without losing anything.

/// A sum kept as an unevaluated pair, so that adding many small differences to a large total costs
/// no ulp: the error of each addition is exact (Knuth, *Seminumerical Algorithms*, 4.2.2, theorem B)
/// and goes into the low part.
///
/// For finite numbers only: `inf − inf` would poison it. Callers keep others apart.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    pub(crate) high: f64,
    pub(crate) low: f64,
}

impl Sum {
    #[inline]
    pub(crate) fn add(&mut self, number: f64) {
        let high = self.high + number;
        let of_number = high - self.high;
        let of_high = high - of_number;
        self.low += (self.high - of_high) + (number - of_number);
        self.high = high;
    }

    /// Adds the exact difference of two numbers, which may have no float of its own.
    #[inline]
    pub(crate) fn add_difference(&mut self, now: f64, before: f64) {
        self.add(now);
        self.add(-before);
    }

    #[inline]
    pub(crate) fn value(self) -> f64 {
        self.high + self.low
    }
}

/// What counts of observations add up to, modulo 2^64 as everywhere: a total of differences may be
/// beyond that for a moment, and a hostile writer's for ever.
pub(crate) fn sum_of_counts(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_thousand_differences_cost_no_ulp() {
        let mut total = Sum::default();
        let (mut before, mut now) = (0.0, 0.0);
        for _ in 0..200_000 {
            now += 0.1;
            total.add_difference(now, before);
            before = now;
        }
        assert_eq!(total.value(), now);
    }

    #[test]
    fn a_large_total_does_not_swallow_small_steps() {
        let mut total = Sum::default();
        total.add(1e16);
        for _ in 0..2048 {
            total.add(1.0 / 1024.0);
        }
        assert_eq!(total.value(), 1e16 + 2.0);
    }
}
