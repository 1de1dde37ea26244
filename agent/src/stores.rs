//! Reads worker stores and brings their values into registries.

mod carry_over;
mod db;
mod declarations;
mod departure;
mod directory;
mod gathering;
mod in_flight;
mod shard;
mod source;
mod taken;
mod writer;

pub use declarations::KnownFamily;
pub use directory::{Directory, DirectoryError, FileError, create_directory};
pub use gathering::{GatherError, Gatherer};

pub(crate) use carry_over::CarryOver;
pub(crate) use db::DbFiles;
pub(crate) use declarations::{Age, ChangedDeclaration, OVERLAP, WaitingFamilies};
pub(crate) use directory::{CopyName, InstanceLife, Origin, Stamp};
pub(crate) use shard::{Leaving, PushScope, SharedLeave, SharedPush};
pub(crate) use source::{StoreSource, VisibleSeries};
pub(crate) use taken::TakenGauges;
pub(crate) use writer::{Writer, WriterOptions};
