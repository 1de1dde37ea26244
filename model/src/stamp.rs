//! The decisions of a primary for one command, so that every server that repeats it decides alike.

use std::fmt;
use std::str::FromStr;

/// The life of a key: a registry that was lost and created again has another epoch.
///
/// ```
/// use metrics_model::Epoch;
///
/// let epoch: Epoch = "00000000000000ff".parse()?;
/// assert_eq!((epoch, epoch.to_string()), (Epoch(255), "00000000000000ff".to_owned()));
/// assert!("ff".parse::<Epoch>().is_err());
/// # Ok::<(), metrics_model::WrongEpoch>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no epoch, expected 16 hex digits")]
pub struct WrongEpoch(String);

impl FromStr for Epoch {
    type Err = WrongEpoch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u64::from_str_radix(text, 16) {
            Ok(number) if is_hex => Ok(Self(number)),
            _ => Err(WrongEpoch(text.to_owned())),
        }
    }
}

/// The limits that a registry enforces, and its retention times. Part of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of series.
    pub max_series: u64,
    /// Maximum size of one series' label text, in bytes.
    pub max_label_bytes: u64,
    /// How long after its lease the memory of a silent writer is kept.
    pub writer_retention_ms: u64,
    /// How long a writer's last seq is remembered after that, or after it has left.
    pub tombstone_retention_ms: u64,
    /// Maximum time without pages after the registry was rolled back.
    pub healing_time_ms: u64,
    /// The TTL of series without one; 0 = never.
    pub default_ttl_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_series: 1_000_000,
            max_label_bytes: 4096,
            writer_retention_ms: 3_600_000,
            tombstone_retention_ms: 7 * 24 * 3_600_000,
            healing_time_ms: 5000,
            default_ttl_ms: 0,
        }
    }
}

impl Limits {
    pub(crate) fn to_numbers(self) -> [u64; 6] {
        [
            self.max_series,
            self.max_label_bytes,
            self.writer_retention_ms,
            self.tombstone_retention_ms,
            self.healing_time_ms,
            self.default_ttl_ms,
        ]
    }

    pub(crate) fn from_numbers(numbers: [u64; 6]) -> Self {
        let [
            max_series,
            max_label_bytes,
            writer_retention_ms,
            tombstone_retention_ms,
            healing_time_ms,
            default_ttl_ms,
        ] = numbers;
        Self {
            max_series,
            max_label_bytes,
            writer_retention_ms,
            tombstone_retention_ms,
            healing_time_ms,
            default_ttl_ms,
        }
    }
}

/// The decisions of one command: its time, the epoch of a key that it creates, and what depends on
/// the primary's memory, its configuration and its past. It is replicated as a trailer of the
/// command, `STAMP ms epoch flags [limits]`. A command without a trailer has the registry's [last
/// stamp](crate::Registry::last_stamp).
///
/// ```
/// use metrics_model::{Epoch, Stamp};
///
/// let stamp = Stamp::at(1_700_000_000_000, Epoch(7));
/// let trailer = stamp.to_args();
/// let mut args = vec![&b"METRICS.INC"[..], b"key", b"requests"];
/// args.extend(trailer.iter().map(String::as_bytes));
/// assert_eq!(Stamp::from_args(&args), Ok((stamp, trailer.len())));
/// assert!(Stamp::from_args(&args[..3]).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub(crate) now_ms: u64,
    pub(crate) epoch: Epoch,
    /// Memory is full: known series are updated, new ones refused.
    pub(crate) refuse_definitions: bool,
    pub(crate) healing_begins: bool,
    pub(crate) healing_ends: bool,
    /// The limits, if they differ from the registry's.
    pub(crate) limits: Option<Limits>,
}

/// A trailer that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no stamp of the form STAMP ms epoch flags [limits] at the end of the arguments")]
pub struct WrongStamp;

/// Maximum number of arguments of a trailer.
pub const LONGEST_STAMP: usize = 5;

const KEYWORD: &str = "STAMP";
const REFUSE_DEFINITIONS: u8 = 1;
const HEALING_BEGINS: u8 = 2;
const HEALING_ENDS: u8 = 4;

impl Stamp {
    /// Returns a stamp that decides only the time; for registries outside Redis.
    pub fn at(now_ms: u64, epoch: Epoch) -> Self {
        Self {
            now_ms,
            epoch,
            refuse_definitions: false,
            healing_begins: false,
            healing_ends: false,
            limits: None,
        }
    }

    /// Returns the Unix time of the command, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Returns the epoch of the registry that the command is for, or that it creates.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the limits of a key that this command creates.
    pub fn limits(&self) -> Option<Limits> {
        self.limits
    }

    /// Returns the trailer.
    pub fn to_args(&self) -> Vec<String> {
        let flags = [
            (self.refuse_definitions, REFUSE_DEFINITIONS),
            (self.healing_begins, HEALING_BEGINS),
            (self.healing_ends, HEALING_ENDS),
        ];
        let flags: u8 = flags
            .into_iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, bit)| bit)
            .sum();
        let mut args = vec![
            KEYWORD.to_owned(),
            self.now_ms.to_string(),
            self.epoch.to_string(),
            flags.to_string(),
        ];
        if let Some(limits) = self.limits {
            args.push(
                limits
                    .to_numbers()
                    .map(|number| number.to_string())
                    .join(","),
            );
        }
        args
    }

    /// Returns whether a stamp may begin with this argument.
    pub fn may_begin_with(arg: &[u8]) -> bool {
        arg == KEYWORD.as_bytes()
    }

    /// Parses the trailer at the end of a replicated command; also returns how many arguments it
    /// took.
    pub fn from_args(args: &[&[u8]]) -> Result<(Self, usize), WrongStamp> {
        [LONGEST_STAMP - 1, LONGEST_STAMP]
            .into_iter()
            .find_map(|length| {
                let trailer = &args[args.len().checked_sub(length)?..];
                Some((Self::parse(trailer)?, length))
            })
            .ok_or(WrongStamp)
    }

    fn parse(trailer: &[&[u8]]) -> Option<Self> {
        let (keyword, rest) = trailer.split_first()?;
        if !Self::may_begin_with(keyword) {
            return None;
        }
        let mut texts = rest.iter().map(|arg| std::str::from_utf8(arg).ok());
        let now_ms = texts.next()??.parse().ok()?;
        let epoch = texts.next()??.parse().ok()?;
        let flags: u8 = texts.next()??.parse().ok()?;
        let limits = match texts.next() {
            None => None,
            Some(text) => {
                let numbers = text?.split(',').map(|number| number.parse().ok());
                let numbers: [u64; 6] = numbers.collect::<Option<Vec<_>>>()?.try_into().ok()?;
                Some(Limits::from_numbers(numbers))
            }
        };
        Some(Self {
            now_ms,
            epoch,
            refuse_definitions: flags & REFUSE_DEFINITIONS != 0,
            healing_begins: flags & HEALING_BEGINS != 0,
            healing_ends: flags & HEALING_ENDS != 0,
            limits,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_from_the_end_of_a_command() {
        for limits in [None, Some(Limits::default())] {
            let stamp = Stamp {
                healing_begins: true,
                limits,
                ..Stamp::at(17, Epoch(0xabc))
            };
            let trailer = stamp.to_args();
            let mut args: Vec<&[u8]> = vec![b"METRICS.INC", b"key", b"family"];
            args.extend(trailer.iter().map(String::as_bytes));
            assert_eq!(Stamp::from_args(&args), Ok((stamp, trailer.len())));
        }
        assert_eq!(
            Stamp::from_args(&[b"METRICS.INC", b"STAMP", b"1"]),
            Err(WrongStamp)
        );
    }
}
