//! Numbers in the spelling of Go and Prometheus.

/// Appends a number in the spelling of Go's `strconv.FormatFloat(f, 'g', -1, 64)`, which Prometheus
/// uses everywhere: the shortest digits that read back, with an exponent of at least two digits from
/// 10^6 and below 10^-4: `1`, `2.5`, `1e+06`, `1.5e-07`, `+Inf`, `-Inf`, `NaN`.
#[inline]
pub fn format_number(value: f64, out: &mut Vec<u8>) {
    // Most numbers are whole. (The cast saturates, and `fract` is a call on x86-64.)
    let whole = value as u64;
    if whole as f64 == value && whole < EXACT && value.is_sign_positive() {
        push_whole(whole, out);
    } else {
        format_uncommon(value, out);
    }
}

/// Returns a number in the spelling of [`format_number`].
pub fn number_text(value: f64) -> String {
    let mut text = Vec::new();
    format_number(value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Returns whether a number in that spelling is whole and has no exponent. `prometheus_client` and
/// OpenMetrics 1.0.0 ("Canonical Numbers") write `.0` behind such a bound of a histogram.
pub fn is_whole_text(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// From this whole number on a float may stand for several whole numbers, so that fewer digits than
/// its own may read back.
const EXACT: u64 = 1 << 53;
/// From this whole number on, numbers are written with an exponent.
const FIRST_WITH_EXPONENT: u64 = 1_000_000;

/// Appends two bytes, a number, and the end of the line.
#[inline]
pub(super) fn push_number_line(before: [u8; 2], value: f64, out: &mut Vec<u8>) {
    let whole = value as u64;
    if whole as f64 == value && whole < EXACT && value.is_sign_positive() {
        push_spelled(out, |line| {
            line[..2].copy_from_slice(&before);
            let end = spell_whole(whole, line, 2);
            line[end] = b'\n';
            end + 1
        });
    } else {
        out.extend_from_slice(&before);
        format_uncommon(value, out);
        out.push(b'\n');
    }
}

/// Appends a whole number below 2^53.
#[inline]
fn push_whole(whole: u64, out: &mut Vec<u8>) {
    push_spelled(out, |text| spell_whole(whole, text, 0));
}

/// Appends what is written to the beginning of some zeros. They are written in their place: parts
/// that are stored one by one and then copied together would make the processor wait.
#[inline]
fn push_spelled(out: &mut Vec<u8>, spell: impl FnOnce(&mut [u8; 32]) -> usize) {
    let start = out.len();
    out.extend_from_slice(&[0; 32]);
    let length = out[start..].first_chunk_mut().map_or(0, spell);
    out.truncate(start + length);
}

/// Writes a whole number below 2^53 to a place in a text; returns where it ends. No loop depends on
/// the number, because the numbers of a page are of all lengths.
#[inline]
fn spell_whole(whole: u64, text: &mut [u8; 32], at: usize) -> usize {
    if whole >= FIRST_WITH_EXPONENT {
        return spell_long(whole, text, at);
    }
    let digits = eight_digits(whole as u32);
    let leading_zeros = (digits.trailing_zeros() / 8).min(7);
    let spelled = digits >> (8 * leading_zeros) | u64::from_le_bytes([b'0'; 8]);
    text[at..at + 8].copy_from_slice(&spelled.to_le_bytes());
    at + 8 - leading_zeros as usize
}

/// Does the same for a number that is written with an exponent.
#[inline]
fn spell_long(whole: u64, text: &mut [u8; 32], at: usize) -> usize {
    const DIGITS: u32 = 16;
    let high = eight_digits((whole / 100_000_000) as u32);
    let low = eight_digits((whole % 100_000_000) as u32);
    // All sixteen digits, the first of them in the lowest byte.
    let digits = u128::from(low) << 64 | u128::from(high);
    let leading_zeros = digits.trailing_zeros() / 8;
    let digits = digits >> (8 * leading_zeros);
    let spelled = digits | u128::from_le_bytes([b'0'; 16]);
    // One digit, the point, and the others up to the last that is not 0.
    text[at] = spelled as u8;
    text[at + 1] = b'.';
    text[at + 2..at + 18].copy_from_slice(&(spelled >> 8).to_le_bytes());
    let significant = (DIGITS - digits.leading_zeros() / 8) as usize;
    let end = at + if significant == 1 { 1 } else { significant + 1 };
    let exponent = (DIGITS - leading_zeros - 1) as u8;
    let ending = [b'e', b'+', b'0' + exponent / 10, b'0' + exponent % 10];
    text[end..end + 4].copy_from_slice(&ending);
    end + 4
}

/// Returns the eight decimal digits of a number below 10^8, each in a byte, the first in the lowest.
#[inline]
fn eight_digits(number: u32) -> u64 {
    // Splits all parts at once: into four digits each, then two, then one. The products are the
    // quotients by 100 and by 10 for all numbers below 10,000 and below 100.
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (twos - 10 * tens) << 8
}

/// Appends a number that is not whole, negative, special, or too large to be exact.
fn format_uncommon(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let magnitude = value.abs();
    let whole = magnitude as u64;
    if whole as f64 == magnitude && whole < EXACT {
        push_whole(whole, out);
    } else {
        format_digits(magnitude, out);
    }
}

/// Appends a positive number that is not whole, or too large to be exact.
fn format_digits(magnitude: f64, out: &mut Vec<u8>) {
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(magnitude).as_bytes();
    // Where Go needs no exponent, it spells a number that is not whole as Rust does.
    if (1e-4..1e6).contains(&magnitude) {
        return out.extend_from_slice(shortest);
    }
    // Here all digits are significant, and the point only moves behind the first.
    if (1e6..EXACT as f64).contains(&magnitude)
        && let Some(point) = shortest.iter().position(|byte| *byte == b'.')
    {
        let exponent = point - 1;
        out.extend_from_slice(&[shortest[0], b'.']);
        out.extend_from_slice(&shortest[1..point]);
        out.extend_from_slice(&shortest[point + 1..]);
        let (tens, ones) = (b'0' + exponent as u8 / 10, b'0' + exponent as u8 % 10);
        return out.extend_from_slice(&[b'e', b'+', tens, ones]);
    }
    let mut digits = Digits::default();
    let exponent = digits.read(shortest);
    let digits = &digits.bytes[..digits.len];
    push_with_exponent(digits, exponent, out);
}

/// The significant digits of a number, without leading and trailing zeros.
#[derive(Default)]
struct Digits {
    bytes: [u8; 24],
    len: usize,
}

impl Digits {
    /// Reads `12.5`, `0.00012` or `1.25e-7`; returns the power of ten of the first digit.
    fn read(&mut self, text: &[u8]) -> i32 {
        let mut exponent = -1;
        let (mut after_point, mut at) = (false, 0);
        while at < text.len() {
            match text[at] {
                b'.' => after_point = true,
                b'e' => {
                    exponent += read_exponent(&text[at + 1..]);
                    break;
                }
                b'0' if self.len == 0 => exponent -= i32::from(after_point),
                digit => {
                    // At most 17 significant digits, and zeros up to 10^17.
                    if self.len < self.bytes.len() {
                        self.bytes[self.len] = digit;
                        self.len += 1;
                    }
                    exponent += i32::from(!after_point);
                }
            }
            at += 1;
        }
        while self.len > 1 && self.bytes[self.len - 1] == b'0' {
            self.len -= 1;
        }
        exponent
    }
}

fn read_exponent(text: &[u8]) -> i32 {
    let magnitude = text.iter().filter(|byte| byte.is_ascii_digit());
    let magnitude = magnitude.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    if text.first() == Some(&b'-') {
        -magnitude
    } else {
        magnitude
    }
}

fn push_with_exponent(digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent.abs()).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        format_number(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_spelled_as_in_go() {
        // The right-hand sides were printed by Go's FormatFloat(f, 'g', -1, 64).
        let spelled = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (999_999.0, "999999"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (123_456_789.5, "1.234567895e+08"),
            (1e16, "1e+16"),
            (9_007_199_254_740_991.0, "9.007199254740991e+15"),
            (9_007_199_254_740_992.0, "9.007199254740992e+15"),
            (9_999_999_999_999_998.0, "9.999999999999998e+15"),
            (-120_000_000.0, "-1.2e+08"),
            (10_000_000_001.0, "1.0000000001e+10"),
            (999_999_999_999_999.9, "9.999999999999999e+14"),
            (1e21, "1e+21"),
            (1e300, "1e+300"),
            (2.5, "2.5"),
            (0.1, "0.1"),
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, expected) in spelled {
            assert_eq!(text(value), expected);
        }
    }

    proptest! {
        #[test]
        fn a_number_reads_back(value: f64) {
            let back = crate::parse_number(text(value).as_bytes()).unwrap();
            prop_assert!(back.to_bits() == value.to_bits() || (back.is_nan() && value.is_nan()));
        }

        #[test]
        fn plain_numbers_are_spelled_as_by_rust(value in -1e6_f64..1e6) {
            prop_assume!(value.abs() >= 1e-4);
            prop_assert_eq!(text(value), value.to_string());
        }

        #[test]
        fn a_whole_number_of_any_length_is_spelled_like_any_number(digits in 1..16_u32, random: u64, shift in 0..16_u32) {
            let whole = random % 10_u64.pow(digits) / 10_u64.pow(shift.min(digits)) * 10_u64.pow(shift.min(digits));
            let value = whole as f64;
            let mut general = Vec::new();
            if whole == 0 {
                general.push(b'0');
            } else {
                let mut found = Digits::default();
                let exponent = found.read(zmij::Buffer::new().format_finite(value).as_bytes());
                if exponent < 6 {
                    general.extend_from_slice(whole.to_string().as_bytes());
                } else {
                    push_with_exponent(&found.bytes[..found.len], exponent, &mut general);
                }
            }
            prop_assert_eq!(text(value).into_bytes(), general);
            prop_assert_eq!(crate::parse_number(text(-value).as_bytes()), Some(-value));
        }

        #[test]
        fn a_number_with_a_fraction_reads_back(whole in 0..10_u64.pow(15), parts in 1..1000_u32) {
            let value = whole as f64 + f64::from(parts) / 1000.0;
            prop_assert_eq!(crate::parse_number(text(value).as_bytes()), Some(value));
            prop_assert!(!text(value).contains("0e"), "{}", text(value));
        }
    }
}
