//! Parses numbers as Redis and Prometheus do.

/// Maximum size of a number's text, in bytes; further digits would not change a number.
const MAX_NUMBER_BYTES: usize = 512;

/// Parses a number in every spelling that `HINCRBYFLOAT` takes: a decimal float (`1`, `-.5`,
/// `1e3`), a hexadecimal one (`0x1p3`, `0x.8`), and also `inf`, `infinity` and `nan`, in any case,
/// each with or without a sign. Rounds to the nearest float, ties to even. A number beyond the
/// largest float becomes infinity, which a counter refuses.
///
/// `None` for everything else: an empty text, blanks, underscores, a payload (`nan(1)`).
///
/// ```
/// use metrics_model::parse_number;
///
/// assert_eq!(parse_number(b"-.5"), Some(-0.5));
/// assert_eq!(parse_number(b"0x1p3"), Some(8.0));
/// assert_eq!(parse_number(b"1 "), None);
/// ```
pub fn parse_number(text: &[u8]) -> Option<f64> {
    if text.len() > MAX_NUMBER_BYTES {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, size) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let number = match size.strip_prefix("0x").or_else(|| size.strip_prefix("0X")) {
        Some(digits) => parse_hexadecimal(digits)?,
        // A second sign is not allowed.
        None if size.starts_with(['+', '-']) => return None,
        None => size.parse::<f64>().ok()?,
    };
    Some(if is_negative { -number } else { number })
}

/// Parses digits, with an optional point and an optional power of two after `p`: at least one
/// digit.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (digits, power) = match text.split_once(['p', 'P']) {
        Some((digits, power)) => (digits, parse_power(power)?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (mut mantissa, mut exponent) = (0_u64, power);
    for (at, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let is_fraction = i64::from(at >= whole.len());
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= 4 * is_fraction;
        } else {
            // From here on it only matters whether any digit is not zero.
            mantissa |= u64::from(digit != 0);
            exponent += 4 * (1 - is_fraction);
        }
    }
    Some(scaled(mantissa, exponent))
}

fn parse_power(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Far beyond every float, and small enough to add to without overflow.
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40);
    Some(if text.starts_with('-') { -size } else { size })
}

/// Returns mantissa × 2^exponent, rounded once; in a mantissa of more than 60 bits the last bit is
/// sticky.
fn scaled(mantissa: u64, exponent: i64) -> f64 {
    const SMALLEST: i64 = -1074;
    let length = i64::from(64 - mantissa.leading_zeros());
    if mantissa == 0 || exponent + length < SMALLEST {
        return 0.0;
    }
    if exponent + length > 1024 {
        return f64::INFINITY;
    }
    // The exponent of the last bit of the result.
    let last = (exponent + length - 53).max(SMALLEST);
    let drop = last - exponent;
    let kept = if drop <= 0 {
        mantissa << -drop
    } else {
        let (half, below) = (1_u128 << (drop - 1), (1_u128 << drop) - 1);
        let (kept, rest) = (u128::from(mantissa) >> drop, u128::from(mantissa) & below);
        (kept + u128::from(rest > half || (rest == half && kept % 2 == 1))) as u64
    };
    // Exact: it has 53 bits, or one more if rounding made it a power of two.
    let shift = (last - SMALLEST) as u64;
    if shift == 0 || kept < 1 << 52 {
        return f64::from_bits(kept);
    }
    f64::from_bits((shift << 52) + kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_redis_is_read() {
        for (text, expected) in [
            ("1", 1.0),
            ("+1", 1.0),
            ("-1.", -1.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("5e-1", 0.5),
            ("0x1p3", 8.0),
            ("-0X1.8P1", -3.0),
            ("0x10", 16.0),
            ("0x.8", 0.5),
            ("0xAp-1", 5.0),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 5e-324),
            ("0x1p-99999999999999999999", 0.0),
            ("0x0p99999999999999999999", 0.0),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000000001p0", 1.0 + f64::EPSILON),
            ("0x1.00000000000018p0", 1.0 + 2.0 * f64::EPSILON),
            ("0x123456789abcdef123456789", 5.634_002_667_681_02e27),
            ("inf", f64::INFINITY),
            ("+Inf", f64::INFINITY),
            ("-INFINITY", f64::NEG_INFINITY),
            ("1e-400", 0.0),
            ("1e400", f64::INFINITY),
            ("-0x1p1024", f64::NEG_INFINITY),
            ("0x1p99999999999999999999", f64::INFINITY),
        ] {
            assert_eq!(parse_number(text.as_bytes()), Some(expected), "{text}");
        }
        for text in ["nan", "NaN", "-nan", "+NAN"] {
            assert!(parse_number(text.as_bytes()).unwrap().is_nan(), "{text}");
        }
    }

    #[test]
    fn everything_else_is_no_number() {
        for text in [
            "", " ", " 1", "1 ", "\t1", "1\n", "1_000", "+", "-", "+-1", "--1", ".", "e5", "1e",
            "1e+", "0x", "0x.", "0xp1", "0x1p", "0x1p+", "0x1p1.5", "0x1g", "0x-1", "0x 1", "x1",
            "1x", "1,5", "nan(1)", "infin", "\0", "1\0",
        ] {
            assert_eq!(parse_number(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_number(b"\xff"), None);
        assert_eq!(parse_number(&[b'1'; 513]), None);
    }

    proptest! {
        #[test]
        fn hexadecimal_and_decimal_agree(bits: u64) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            let (fraction, exponent) = (bits & ((1 << 52) - 1), (bits >> 52 & 0x7ff).cast_signed());
            let (first, power) = if exponent == 0 { (0, -1022) } else { (1, exponent - 1023) };
            let sign = if number.is_sign_negative() { "-" } else { "" };
            let text = format!("{sign}0x{first}.{fraction:013x}p{power}");
            prop_assert_eq!(parse_number(text.as_bytes()).map(f64::to_bits), Some(bits));
            prop_assert_eq!(parse_number(number.to_string().as_bytes()), Some(number));
        }

        #[test]
        fn it_is_rounded_as_a_whole_number_is(whole: u128) {
            let text = format!("{whole:#x}");
            prop_assert_eq!(parse_number(text.as_bytes()), Some(whole as f64));
        }
    }
}
