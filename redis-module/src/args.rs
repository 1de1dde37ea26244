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
    /// The option that is being read.
    option: Keyword,
}

/// A word of the grammar in upper case. Longer words than the longest are cut: they match nothing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Keyword {
    bytes: [u8; Self::LONGEST],
    length: usize,
    given: Option<*mut raw::RedisModuleString>,
}

impl Keyword {
    const LONGEST: usize = 16;

    /// To match against.
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

    /// The next argument, or the error that fits where there is none.
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

    /// A text; `what` it is, for the error.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, Refusal> {
        let bytes = self.bytes()?;
        str::from_utf8(bytes).map_err(|_| Refusal::NotUtf8 {
            what,
            found: shown(bytes),
        })
    }

    /// A word of a fixed set.
    pub(crate) fn word<T>(&mut self) -> Result<T, Refusal>
    where
        T: FromStr,
        Refusal: From<T::Err>,
    {
        Ok(self.text("word")?.parse()?)
    }

    /// The name of a family.
    pub(crate) fn family(&mut self) -> Result<&'a str, Refusal> {
        self.text("family name")
    }

    /// The id of a writer.
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

    /// Any float.
    pub(crate) fn number(&mut self) -> Result<f64, Refusal> {
        let bytes = self.bytes()?;
        parse_number(bytes).ok_or_else(|| Refusal::NotANumber {
            what: "number",
            found: shown(bytes),
        })
    }

    /// A whole number that is not negative.
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

    /// The schema of a native histogram.
    pub(crate) fn schema(&mut self) -> Result<i8, Refusal> {
        let bytes = self.bytes()?;
        let schema = str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok());
        schema
            .filter(|schema| NATIVE_SCHEMAS.contains(schema))
            .ok_or_else(|| Refusal::Schema(shown(bytes)))
    }

    /// The number of a batch.
    pub(crate) fn seq(&mut self) -> Result<u64, Refusal> {
        self.whole("seq")
    }

    /// A span of time.
    pub(crate) fn milliseconds(&mut self) -> Result<u64, Refusal> {
        self.whole("number of milliseconds")
    }

    /// The life of a registry.
    pub(crate) fn epoch(&mut self) -> Result<Epoch, Refusal> {
        self.word()
    }

    /// `n name value ...`
    pub(crate) fn labels(&mut self) -> Result<Labels, Refusal> {
        let count = self.count("number of labels", MAX_LABELS)?;
        let given = self.rest;
        // Straight into the label set, without a list in between: this runs for most commands.
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
            // Again, to say which.
            self.rest = given;
            (0..count).try_for_each(|_| self.label().map(drop))?;
        }
        Ok(labels?)
    }

    /// `n name value ...` of an exemplar.
    pub(crate) fn pairs(&mut self) -> Result<Vec<(&'a str, &'a str)>, Refusal> {
        let count = self.count("number of labels", MAX_LABELS)?;
        (0..count).map(|_| self.label()).collect()
    }

    fn label(&mut self) -> Result<(&'a str, &'a str), Refusal> {
        Ok((self.text("label name")?, self.text("label value")?))
    }

    /// `n bound ...`
    pub(crate) fn bounds(&mut self) -> Result<Vec<&'a str>, Refusal> {
        let count = self.count("number of buckets", MAX_BOUNDS)?;
        (0..count).map(|_| self.text("bucket bound")).collect()
    }

    /// How many things follow.
    pub(crate) fn count(&mut self, what: &'static str, most: usize) -> Result<usize, Refusal> {
        let (found, most) = (self.whole(what)?, most as u64);
        if found > most {
            return Err(Refusal::TooMany { what, found, most });
        }
        Ok(found as usize)
    }

    /// The next option's keyword, or `None` at the end.
    pub(crate) fn option(&mut self) -> Option<Keyword> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        // SAFETY: the promise of `new`.
        self.option = Keyword::read(unsafe { api::bytes_of(*first) }, *first);
        Some(self.option)
    }

    /// Reads the value of the option just named into its place, which must still be empty.
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

    /// The error for an option that the command does not have.
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

    /// Makes sure that nothing follows.
    pub(crate) fn end(&self) -> Result<(), Refusal> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Arity)
        }
    }
}
