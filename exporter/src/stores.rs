//! Worker stores as writers of registries: what is read of them, and how far it has got.

mod shard;
mod source;
mod writer;

pub(crate) use shard::{SharedLeave, SharedPush};
pub(crate) use source::{StoreSource, Visible};
pub(crate) use writer::{Writer, WriterOptions};
