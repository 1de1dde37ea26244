//! How values are written on the page.

use std::fmt::{self, Display, Formatter, Write as _};

/// Escapes text for HTML: labels come from applications, and some of them from their clients.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            other => f.write_char(other),
        })
    }
}

/// A whole number with thin spaces between thousands, as in the script.
pub(super) struct Count(pub(super) f64);

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = format!("{:.0}", self.0);
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

pub(super) struct Percent(pub(super) f64);

impl Display for Percent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        let digits = usize::from(percent > 0.0 && percent < 9.95);
        write!(f, "{percent:.digits$}\u{202f}%")
    }
}

/// A duration; a dash if there is none.
pub(super) struct Seconds(pub(super) Option<f64>);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("–"),
            Some(seconds) if seconds < 0.001 => write!(f, "{:.2}\u{202f}ms", seconds * 1e3),
            Some(seconds) if seconds < 0.01 => write!(f, "{:.1}\u{202f}ms", seconds * 1e3),
            Some(seconds) if seconds < 0.9995 => write!(f, "{:.0}\u{202f}ms", seconds * 1e3),
            Some(seconds) => write!(f, "{seconds:.1}\u{202f}s"),
        }
    }
}

pub(super) struct Uptime(pub(super) f64);

impl Display for Uptime {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 as u64 {
            seconds @ 0..120 => write!(f, "{seconds}\u{202f}s"),
            seconds @ 120..7_200 => write!(f, "{}\u{202f}min", seconds / 60),
            seconds @ 7_200..172_800 => write!(f, "{}\u{202f}h", seconds / 3_600),
            seconds => write!(f, "{}\u{202f}d", seconds / 86_400),
        }
    }
}

/// A time of day, from Unix milliseconds.
pub(super) struct Time(pub(super) u64);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000 % 86_400;
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        write!(f, "{hours:02}:{minutes:02}:{:02}", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(Count(1_234_567.0).to_string(), "1\u{202f}234\u{202f}567");
        assert_eq!(Percent(0.0).to_string(), "0\u{202f}%");
        assert_eq!(Percent(0.0123).to_string(), "1.2\u{202f}%");
        assert_eq!(Seconds(Some(0.0042)).to_string(), "4.2\u{202f}ms");
        assert_eq!(Seconds(Some(2.0)).to_string(), "2.0\u{202f}s");
        assert_eq!(Uptime(7_300.0).to_string(), "2\u{202f}h");
    }
}
