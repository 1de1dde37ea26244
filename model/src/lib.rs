//! Metric families, series and writers; the registry that aggregates them; and their written forms.
//!
//! The whole flow: a writer's [`Session`] reads the series of a [`Source`] and makes batches of
//! absolute values ([`BatchWriter`]); a [`Registry`] decodes a [`Batch`] and adds to each total the
//! difference to what it last saw of that writer ([`Registry::push`]); [`Registry::expose`] renders
//! the totals as pages of text.
//!
//! The same code runs inside Redis, for shared metrics, and inside the exporter, for its own
//! instance. It contains no Redis, Python, HTTP, files or clock: time is an argument.
//!
//! # Example
//!
//! A registry counts, and renders a page. Each write carries a [`Stamp`]: its time, and the epoch of the registry.
//!
//! ```
//! use metrics_model::{Epoch, ExposeRequest, Labels, Limits, Registry, RegistryError, Stamp};
//!
//! let epoch = Epoch(1);
//! let mut registry = Registry::new(epoch, Limits::default(), 0);
//! let labels = Labels::new([("method", "GET")])?;
//! assert_eq!(registry.inc(&Stamp::at(1_000, epoch), "requests", &labels, 1.0, None)?, 1.0);
//! assert_eq!(registry.inc(&Stamp::at(2_000, epoch), "requests", &labels, 2.0, None)?, 3.0);
//!
//! let page = registry.expose(2_000, &ExposeRequest::default())?;
//! assert!(String::from_utf8(page.body)?.contains("requests_total{method=\"GET\"} 3\n"));
//!
//! // A counter does not go down.
//! let down = registry.inc(&Stamp::at(3_000, epoch), "requests", &labels, -1.0, None);
//! assert!(matches!(down, Err(RegistryError::CounterValue(_))), "{down:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

// Lets unit tests use the code that the tests of this crate share.
#[cfg(test)]
extern crate self as metrics_model;

mod batch;
mod bits;
mod bytes;
mod escaping;
mod exemplar;
mod exposition;
mod family;
mod footprint;
mod gauge_mode;
mod id_table;
mod ids;
mod labels;
mod layout;
mod left_out;
mod measured;
mod name;
mod native_histogram;
mod parse_number;
mod pieces;
mod point;
mod registry;
mod registry_time;
mod session;
mod sizes;
mod slab;
mod source;
mod stamp;
mod sum;

pub use batch::{
    BATCH_VERSION, Batch, BatchHeader, BatchKind, BatchWriter, BucketChanges, Define, Entry, Pairs,
    Values,
};
pub use bytes::DecodeError;
pub use escaping::{Escaping, UnknownEscaping, unescaped, unique_name};
pub use exemplar::{Exemplar, ExemplarError, MAX_EXEMPLAR_CHARACTERS};
pub use exposition::{
    ExposeError, ExposeRequest, Format, Page, UnknownFormat, WrongCursor, format_number,
    is_whole_text, number_text,
};
pub use family::{FamilySpec, FamilyType, UnknownFamilyType};
pub use gauge_mode::{AfterLeave, GaugeMode, Setting, UnknownGaugeMode};
pub use labels::{LabelError, Labels};
pub use layout::{Layout, WrongBound};
pub use left_out::LeftOut;
pub use name::{
    NameError, REJECTED as REJECTED_SAMPLES, kept_name, may_share, passed_name, sample_suffixes,
};
pub use native_histogram::{
    DEFAULT_ZERO_THRESHOLD, MAX_NATIVE_BUCKETS, NATIVE_SCHEMAS, NativeHistogram, SparseBuckets,
    upper_bound,
};
pub use parse_number::parse_number;
pub use point::Point;
pub use registry::{
    Aggregate, Declaration, FamilyEntry, GaugeWrite, Listing, Observation, PushReply, PushStatus,
    Reason, Registry, RegistryError, Relocate, Replaced, Replacement, WriterEntry, WriterState,
    WrongListCursor,
};
pub use registry_time::RegistryTime;
pub use session::{Outcome, Push, Saved, SavedPoint, Session, SessionOptions};
pub use sizes::*;
pub use source::{SeriesDef, SeriesLife, Source, SourceExemplar};
pub use stamp::{Epoch, LONGEST_STAMP, Limits, Stamp, WrongEpoch, WrongStamp};
