//! Compresses pages.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::backend::BackendError;
use crate::negotiate::Encoding;

/// One compressed stream of pages.
///
/// It uses the fastest levels: text of metrics repeats itself so much that other levels gain
/// little, and the thread that compresses is the one that serves.
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

    /// Adds a page; returns the bytes of the stream that can be sent now.
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

    /// Ends the stream; returns its last bytes.
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
