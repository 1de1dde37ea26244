//! stub
#![forbid(unsafe_code)]

mod batch;
mod bytes;
mod family;
mod gauge_mode;
mod layout;
mod point;

pub use batch::{
    BATCH_VERSION, Batch, BatchHeader, BatchKind, BatchWriter, BucketChanges, Define, Entry,
    MAX_BATCH_ENTRIES, MAX_BOUNDS, MAX_LABELS, Pairs,
};
pub use bytes::DecodeError;
pub use family::{FamilySpec, FamilyType, UnknownFamilyType};
pub use gauge_mode::{GaugeMode, UnknownGaugeMode};
pub use layout::{Layout, WrongBound};
pub use point::Point;
