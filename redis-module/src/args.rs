//! The arguments of a command, read from left to right.
//!
//! Nothing is copied: Redis keeps the strings while the command runs.

use std::str::{self, FromStr};

use metrics_model::{
    Epoch, LabelError, Labels, MAX_BOUNDS, MAX_LABELS, MAX_WRITER_ID_BYTES, NATIVE_SCHEMAS,
    parse_number,
};
use redis_module::raw;

use crate::api;
use crate::refusal::{Refusal, shown};

/// The arguments after the key.
pub(crate) struct Args<'a> {
    rest: &'a [*mut raw::RedisModuleString],
    /// The option that is being parsed.
    option: Keyword,
}

/// A word of a command's grammar in upper case. A word longer than every keyword is cut; it matches
/// nothing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Keyword {
    bytes: [u8; Self::LONGEST],
    length: usize,
    given: Option<*mut raw::RedisModuleString>,
}

impl Keyword {
    const LONGEST: usize = 16;

    /// Returns the word, to match against.
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }

    fn read(argument: &[u8], given: *mut raw::RedisModuleString) -> Self {
        let mut keyword = Self {
            given: Some(given),
            ..Self::default()
        };
        if argument.len() <= Self::LONGEST {
            keyword.length = argument.len();
            keyword.bytes[..argument.len()].copy_from_slice(argument);
            keyword.bytes.make_ascii_uppercase();
        }
        keyword
    }
}

impl<'a> Args<'a> {
    /// # Safety
    ///
    /// The strings are valid for `'a`.
    pub(crate) unsafe fn new(rest: &'a [*mut raw::RedisModuleString]) -> Self {
        Self {
            rest,
            option: Keyword::default(),
        }
    }

    /// Returns the next argument, or the error that names what is missing.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Refusal> {
        let Some((first, rest)) = self.rest.split_first() else {
            return Err(match self.option.length {
                0 => Refusal::Arity,
                _ => Refusal::Incomplete(self.option.as_str().to_owned()),
            });
        };
        self.rest = rest;
        // SAFETY: the promise of `new`.
        Ok(unsafe { api::bytes_of(*first) })
    }

    /// Returns the next argument as text; the error calls it `what`.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, Refusal> {
        let bytes = self.bytes()?;
        str::from_utf8(bytes).map_err(|_| Refusal::NotUtf8 {
            what,
            found: shown(bytes),
        })
    }

    /// Returns the next argument as a word of a fixed set.
    pub(crate) fn word<T>(&mut self) -> Result<T, Refusal>
    where
        T: FromStr,
        Refusal: From<T::Err>,
    {
        Ok(self.text("word")?.parse()?)
    }

    /// Returns the next argument as the name of a family.
    pub(crate) fn family(&mut self) -> Result<&'a str, Refusal> {
        self.text("family name")
    }

    /// Returns the next argument as the id of a writer.
    pub(crate) fn writer(&mut self) -> Result<&'a [u8], Refusal> {
        match self.bytes()? {
            b"" => Err(Refusal::NoWriter),
            writer if writer.len() > MAX_WRITER_ID_BYTES => Err(Refusal::TooLong {
                what: "writer id",
                found: writer.len(),
                most: MAX_WRITER_ID_BYTES,
            }),
            writer => Ok(writer),
        }
    }

    /// Returns the next argument as a float.
    pub(crate) fn number(&mut self) -> Result<f64, Refusal> {
        let bytes = self.bytes()?;
        parse_number(bytes).ok_or_else(|| Refusal::NotANumber {
            what: "number",
            found: shown(bytes),
        })
    }

    /// Returns the next argument as a whole number, zero or more.
    pub(crate) fn whole(&mut self, what: &'static str) -> Result<u64, Refusal> {
        let bytes = self.bytes()?;
        let text = str::from_utf8(bytes)
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| Refusal::NotANumber {
                what,
                found: shown(bytes),
            })
    }

    /// Returns the next argument as the schema of a native histogram.
    pub(crate) fn schema(&mut self) -> Result<i8, Refusal> {
        let bytes = self.bytes()?;
        let schema = str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok());
        schema
            .filter(|schema| NATIVE_SCHEMAS.contains(schema))
            .ok_or_else(|| Refusal::Schema(shown(bytes)))
    }

    /// Returns the next argument as the number of a batch.
    pub(crate) fn seq(&mut self) -> Result<u64, Refusal> {
        self.whole("seq")
    }

    /// Returns the next argument as a duration in milliseconds.
    pub(crate) fn milliseconds(&mut self) -> Result<u64, Refusal> {
        self.whole("number of milliseconds")
    }

    /// Returns the next argument as the epoch of a registry.
    pub(crate) fn epoch(&mut self) -> Result<Epoch, Refusal> {
        self.word()
    }

    /// Parses labels: `n name value ...`
    pub(crate) fn labels(&mut self) -> Result<Labels, Refusal> {
        let count = self.count("number of labels", MAX_LABELS)?;
        let given = self.rest;
        // Adds each pair to the label set at once, without a list in between: most commands run
        // this code.
        let mut wrong = None;
        let pairs = (0..count).map_while(|_| {
            let pair = self.bytes().and_then(|name| Ok((name, self.bytes()?)));
            pair.map_err(|error| wrong = Some(error)).ok()
        });
        let labels = Labels::from_bytes(pairs);
        if let Some(error) = wrong {
            return Err(error);
        }
        if labels == Err(LabelError::NotUtf8) {
            // Reads the labels a second time, to name the wrong one in the error.
            self.rest = given;
            (0..count).try_for_each(|_| self.label().map(drop))?;
        }
        Ok(labels?)
    }

    /// Parses the labels of an exemplar: `n name value ...`
    pub(crate) fn pairs(&mut self) -> Result<Vec<(&'a str, &'a str)>, Refusal> {
        let count = self.count("number of labels", MAX_LABELS)?;
        (0..count).map(|_| self.label()).collect()
    }

    fn label(&mut self) -> Result<(&'a str, &'a str), Refusal> {
        Ok((self.text("label name")?, self.text("label value")?))
    }

    /// Parses bucket bounds: `n bound ...`
    pub(crate) fn bounds(&mut self) -> Result<Vec<&'a str>, Refusal> {
        let count = self.count("number of buckets", MAX_BOUNDS)?;
        (0..count).map(|_| self.text("bucket bound")).collect()
    }

    /// Returns how many things follow.
    pub(crate) fn count(&mut self, what: &'static str, most: usize) -> Result<usize, Refusal> {
        let (found, most) = (self.whole(what)?, most as u64);
        if found > most {
            return Err(Refusal::TooMany { what, found, most });
        }
        Ok(found as usize)
    }

    /// Returns the keyword of the next option, or `None` after the last argument.
    pub(crate) fn option(&mut self) -> Option<Keyword> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        // SAFETY: the promise of `new`.
        self.option = Keyword::read(unsafe { api::bytes_of(*first) }, *first);
        Some(self.option)
    }

    /// Parses the value of the current option and stores it; refuses an option that is given twice.
    pub(crate) fn once<T>(
        &mut self,
        place: &mut Option<T>,
        read: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<(), Refusal> {
        if place.is_some() {
            return Err(Refusal::Twice(self.option.as_str().to_owned()));
        }
        *place = Some(read(self)?);
        Ok(())
    }

    /// Returns the error for an option that the command does not have.
    pub(crate) fn unknown_option(&self, expected: &'static str) -> Refusal {
        // SAFETY: the promise of `new`.
        let given = self
            .option
            .given
            .map(|given| unsafe { api::bytes_of(given) });
        Refusal::UnknownOption {
            option: shown(given.unwrap_or_default()),
            expected,
        }
    }

    /// Refuses arguments that are left over.
    pub(crate) fn end(&self) -> Result<(), Refusal> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Arity)
        }
    }
}
