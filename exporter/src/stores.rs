//! Worker stores as writers of registries: what is read of them, and how far it has got.

mod source;
mod writer;

pub(crate) use source::{StoreSource, Visible};
pub(crate) use writer::{SharedLeave, SharedPush, Writer, WriterOptions};
