//! Adds floats without loss.

use crate::footprint::allocated;

/// A sum kept as an unevaluated pair, so that adding many small differences to a large total costs
/// no ulp: the error of each addition is exact (Knuth, *Seminumerical Algorithms*, 4.2.2, theorem B)
/// and goes into the low part.
///
/// For finite numbers only: `inf − inf` would spoil it. Callers keep other numbers apart, and
/// refuse numbers that would make the sum infinite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    pub(crate) high: f64,
    pub(crate) low: f64,
}

impl Sum {
    #[cfg(test)]
    pub(crate) fn add(&mut self, number: f64) {
        if let Some(sum) = self.plus_difference(number, 0.0) {
            *self = sum;
        }
    }

    /// Returns the sum plus the exact difference of two finite numbers, which a float may not be
    /// able to hold; `None` only if the result is beyond the largest float, even if intermediate
    /// results are.
    #[inline]
    pub(crate) fn plus_difference(self, now: f64, before: f64) -> Option<Self> {
        let (difference, of_difference) = two_sum(now, -before);
        let (high, of_high) = two_sum(self.high, difference);
        let low = self.low + (of_high + of_difference);
        if (high + low).is_finite() {
            return Some(Self { high, low });
        }
        self.plus_large_difference(now, before)
    }

    /// The same if intermediate results are too large.
    #[cold]
    fn plus_large_difference(self, now: f64, before: f64) -> Option<Self> {
        let mut exact = ExactSum::default();
        for number in [self.high, self.low, now, -before] {
            exact.add(number);
        }
        let high = exact.value();
        exact.add(if high.is_finite() { -high } else { 0.0 });
        let low = exact.value();
        high.is_finite().then_some(Self { high, low })
    }

    /// Returns the sum plus one number, if the pair holds it without loss.
    fn plus_exactly(self, number: f64) -> Option<Self> {
        let (high, of_high) = two_sum(self.high, number);
        let (low, lost) = two_sum(self.low, of_high);
        let is_exact = lost == 0.0 && high.is_finite() && low.is_finite();
        is_exact.then_some(Self { high, low })
    }

    #[inline]
    pub(crate) fn value(self) -> f64 {
        self.high + self.low
    }
}

/// Returns the rounded sum of two numbers, and its error (Knuth). The error is NaN if an
/// intermediate result overflows.
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    let of_a = sum - of_b;
    (sum, (a - of_a) + (b - of_b))
}

/// The exact sum of finite numbers that come and go, rounded once when it is read. When numbers go,
/// it is the sum of those that are left, however large the others were.
///
/// Nearly every sum fits into a pair of floats. The first number that does not fit turns it into a
/// number of 2,176 bits, which can hold every sum of floats.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExactSum {
    pair: Sum,
    wide: Option<Box<Wide>>,
}

impl ExactSum {
    #[inline]
    pub(crate) fn add(&mut self, number: f64) {
        match (&self.wide, self.pair.plus_exactly(number)) {
            (None, Some(pair)) => self.pair = pair,
            _ => self.add_wide(number),
        }
    }

    #[cold]
    fn add_wide(&mut self, number: f64) {
        let pair = self.pair;
        let wide = self.wide.get_or_insert_with(|| {
            let mut wide = Box::<Wide>::default();
            wide.add(pair.high);
            wide.add(pair.low);
            wide
        });
        wide.add(number);
    }

    /// Returns the float nearest to the sum; infinite if the sum is beyond the largest float.
    #[inline]
    pub(crate) fn value(&self) -> f64 {
        match &self.wide {
            None => self.pair.value(),
            Some(wide) => wide.value(),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.wide
            .as_ref()
            .map_or(0, |_| allocated(size_of::<Wide>()))
    }
}

impl FromIterator<f64> for ExactSum {
    fn from_iter<T: IntoIterator<Item = f64>>(numbers: T) -> Self {
        let mut sum = Self::default();
        for number in numbers {
            sum.add(number);
        }
        sum
    }
}

/// A multiple of 2^-1074, the smallest float, in two's complement: the largest float has its
/// highest bit at 2,097, and 2^77 of them fit.
#[derive(Debug, Clone, PartialEq)]
struct Wide([u64; WORDS]);

const WORDS: usize = 34;
/// Number of bits of a float's mantissa, including the hidden one.
const MANTISSA_BITS: u32 = 53;
/// Place of the mantissa's last bit from which on a float is infinite.
const INFINITE_SHIFT: u32 = 2046;

impl Default for Wide {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Wide {
    fn add(&mut self, number: f64) {
        let bits = number.to_bits();
        let fraction = bits & ((1 << (MANTISSA_BITS - 1)) - 1);
        let exponent = (bits >> (MANTISSA_BITS - 1)) as u32 & 0x7ff;
        let hidden = u64::from(exponent > 0) << (MANTISSA_BITS - 1);
        let shift = exponent.saturating_sub(1);
        let (at, mantissa) = (shift as usize / 64, u128::from(fraction | hidden));
        let placed = mantissa << (shift % 64);
        let parts = [placed as u64, (placed >> 64) as u64];
        let mut carry = false;
        for (offset, word) in self.0[at..].iter_mut().enumerate() {
            let part = parts.get(offset).copied().unwrap_or(0);
            if offset >= parts.len() && !carry {
                return;
            }
            let (without_carry, over) = if number.is_sign_negative() {
                word.overflowing_sub(part)
            } else {
                word.overflowing_add(part)
            };
            let (with_carry, again) = if number.is_sign_negative() {
                without_carry.overflowing_sub(carry.into())
            } else {
                without_carry.overflowing_add(carry.into())
            };
            (*word, carry) = (with_carry, over || again);
        }
    }

    /// Returns the nearest float, ties to even.
    fn value(&self) -> f64 {
        let is_negative = self.0[WORDS - 1] >> 63 == 1;
        let mut size = self.clone();
        if is_negative {
            size.negate();
        }
        let value = size.value_of_size();
        if is_negative { -value } else { value }
    }

    fn negate(&mut self) {
        let mut carry = true;
        for word in &mut self.0 {
            (*word, carry) = (!*word).overflowing_add(carry.into());
        }
    }

    fn value_of_size(&self) -> f64 {
        let Some(top) = self.0.iter().rposition(|word| *word != 0) else {
            return 0.0;
        };
        let length = top as u32 * 64 + 64 - self.0[top].leading_zeros();
        let shift = length.saturating_sub(MANTISSA_BITS);
        if shift >= INFINITE_SHIFT {
            return f64::INFINITY;
        }
        let (at, bit) = (shift as usize / 64, shift % 64);
        let above = self.0.get(at + 1).copied().unwrap_or(0);
        let window = u128::from(self.0[at]) | u128::from(above) << 64;
        let mantissa = (window >> bit) as u64 & ((1 << MANTISSA_BITS) - 1);
        let half = shift.checked_sub(1).is_some_and(|below| self.bit(below));
        let is_beyond_half = half && (0..shift - 1).any(|below| self.bit(below));
        let rounds_up = half && (is_beyond_half || mantissa % 2 == 1);
        // The hidden bit of the mantissa makes the exponent one more than the shift.
        f64::from_bits((u64::from(shift) << (MANTISSA_BITS - 1)) + mantissa + u64::from(rounds_up))
    }

    fn bit(&self, number: u32) -> bool {
        self.0[number as usize / 64] >> (number % 64) & 1 == 1
    }
}

/// Adds up counts of observations. The registry refuses observations beyond 2^64 - 1; only a
/// damaged snapshot exceeds that, and then the sum wraps.
pub(crate) fn sum_of_counts(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_hundred_thousand_differences_cost_no_ulp() {
        let mut total = Sum::default();
        let (mut before, mut now) = (0.0, 0.0);
        for _ in 0..200_000 {
            now += 0.1;
            total = total.plus_difference(now, before).unwrap();
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
    #[test]
    fn a_sum_is_finite_if_its_result_is() {
        let sum = |numbers: &[(f64, f64)]| {
            let start = Some(Sum::default());
            numbers
                .iter()
                .fold(start, |sum, (now, before)| {
                    sum?.plus_difference(*now, *before)
                })
                .map(Sum::value)
        };
        assert_eq!(sum(&[(1.7e308, 0.0), (1.7e308, 1.6e308)]), None);
        assert_eq!(sum(&[(1.7e308, 0.0), (1.7e308, 0.0)]), None);
        assert_eq!(sum(&[(1.6e308, 0.0), (1.7e308, 1.6e308)]), Some(1.7e308));
        let other_sign = [(-1.7e308, 0.0), (1.7e308, -1.7e308)];
        assert_eq!(sum(&other_sign), Some(1.7e308));
        assert_eq!(sum(&[(f64::MAX, 0.0), (1.0, 0.0)]), Some(f64::MAX));
        let half_ulp = 2f64.powi(970);
        assert_eq!(sum(&[(f64::MAX, 0.0), (half_ulp, 0.0)]), None);
    }

    #[test]
    fn large_numbers_leave_nothing_behind() {
        for numbers in [
            &[1e300, 1e100, 1.0][..],
            &[1.7e308, 1.7e308, 1.0],
            &[1e16, 0.1, 1e-16, 1e-300, 5e-324],
            &[f64::MAX, f64::MAX, f64::MAX, 5e-324],
            &[-1e300, 3.5e-310, 1e299],
        ] {
            let mut sum = numbers.iter().copied().collect::<ExactSum>();
            for (gone, number) in numbers.iter().enumerate() {
                sum.add(-number);
                let rest = numbers[gone + 1..].iter().copied().collect::<ExactSum>();
                assert_eq!(sum.value().to_bits(), rest.value().to_bits(), "{numbers:?}");
            }
        }
    }

    #[test]
    fn a_sum_beyond_the_largest_float_is_infinite_and_comes_back() {
        let mut sum = [1.7e308, 1.7e308].into_iter().collect::<ExactSum>();
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(-1.7e308);
        assert_eq!(sum.value(), 1.7e308);
        sum.add(-1.7e308);
        sum.add(-f64::MAX);
        assert_eq!(sum.value(), -f64::MAX);
        sum.add(-2f64.powi(970));
        assert_eq!(sum.value(), f64::NEG_INFINITY);
    }

    fn finite() -> impl Strategy<Value = f64> {
        let bits = any::<u64>().prop_map(f64::from_bits);
        let round = prop_oneof![-1e3..1e3, Just(1e300), Just(-1.7e308), Just(1e-320)];
        prop_oneof![bits, round].prop_filter("finite", |number| number.is_finite())
    }

    proptest! {
        #[test]
        fn wide_and_pair_agree(a in finite(), b in finite()) {
            let mut wide = Wide::default();
            wide.add(a);
            prop_assert_eq!(wide.value(), a);
            wide.add(b);
            // A single addition is rounded to the nearest float, too.
            prop_assert_eq!(wide.value(), a + b);
        }

        #[test]
        fn what_is_left_is_the_sum_of_what_is_left(
            stay in prop::collection::vec(finite(), 0..8),
            go in prop::collection::vec(finite(), 0..8),
        ) {
            let mut sum = go.iter().chain(&stay).copied().collect::<ExactSum>();
            for number in go {
                sum.add(-number);
            }
            let expected = stay.into_iter().rev().collect::<ExactSum>();
            prop_assert_eq!(sum.value(), expected.value());
        }
    }
}
