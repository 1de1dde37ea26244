//! Numbers in the spelling of Go and Prometheus.

/// Appends a number in the spelling of Go's `strconv.FormatFloat(f, 'g', -1, 64)`, which Prometheus
/// uses everywhere: the shortest digits that read back, with an exponent of at least two digits from
/// 10^6 and below 10^-4: `1`, `2.5`, `1e+06`, `1.5e-07`, `+Inf`, `-Inf`, `NaN`.
#[inline]
pub fn format_number(value: f64, out: &mut Vec<u8>) {
    // Most numbers are small and whole. (The cast saturates, and `fract` is a call on x86-64.)
    let whole = value as u32;
    if f64::from(whole) == value && whole < 1_000_000 && value.is_sign_positive() {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else {
        format_uncommon(value, out);
    }
}

/// Appends a number that is not small and whole.
fn format_uncommon(value: f64, out: &mut Vec<u8>) {
    let whole = value as i32;
    if f64::from(whole) == value && whole.unsigned_abs() < 1_000_000 {
        if whole == 0 {
            out.push(b'-');
        }
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        format_digits(value, out);
    }
}

/// Appends a number that is neither a small whole number nor special.
fn format_digits(value: f64, out: &mut Vec<u8>) {
    if value < 0.0 {
        out.push(b'-');
    }
    let magnitude = value.abs();
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(magnitude);
    // Where Go needs no exponent, it spells a number that is not whole as Rust does.
    if (1e-4..1e6).contains(&magnitude) {
        out.extend_from_slice(shortest.as_bytes());
        return;
    }
    let mut digits = Digits::default();
    let exponent = digits.read(shortest.as_bytes());
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
        fn a_whole_number_reads_back(value: i64) {
            let value = value as f64;
            prop_assert_eq!(crate::parse_number(text(value).as_bytes()), Some(value));
        }
    }
}
