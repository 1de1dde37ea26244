//! Pages on their way out, compressed as the scraper asks.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::backend::BackendError;
use crate::negotiate::Encoding;

/// One stream of pages.
///
/// The fastest levels: text of metrics repeats itself so much that the others gain little, and the
/// thread that compresses is the one that serves.
pub(super) enum Encoder {
    Identity,
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Encoder {
    pub(super) fn new(encoding: Encoding) -> Result<Self, BackendError> {
        Ok(match encoding {
            Encoding::Identity => Self::Identity,
            Encoding::Gzip => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast()))),
            Encoding::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), 1);
                Self::Zstd(Box::new(encoder.map_err(|_| BackendError::Compression)?))
            }
        })
    }

    /// What can be sent of the stream, now that this page has been added.
    pub(super) fn encode(&mut self, page: Bytes) -> Result<Bytes, BackendError> {
        let failed = |_| BackendError::Compression;
        match self {
            Self::Identity => Ok(page),
            Self::Gzip(encoder) => {
                encoder.write_all(&page).map_err(failed)?;
                Ok(std::mem::take(encoder.get_mut()).into())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(&page).map_err(failed)?;
                Ok(std::mem::take(encoder.get_mut()).into())
            }
        }
    }

    /// The end of the stream.
    pub(super) fn finish(self) -> Result<Bytes, BackendError> {
        let finished = match self {
            Self::Identity => return Ok(Bytes::new()),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        };
        finished
            .map(Bytes::from)
            .map_err(|_| BackendError::Compression)
    }
}
