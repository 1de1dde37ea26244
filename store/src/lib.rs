//! The memory that the workers of one Gunicorn instance share with its exporter.
//!
//! ```text
//! arbiter   StoreFile::create ── fork ──▶ worker   StoreFile::adopt ─▶ WorkerStore ─▶ Series: add, set
//!    │                                                    │ the same memory
//!    └── Link: Store + descriptor ──▶ exporter   StoreReader: refresh, series, point, push state
//!
//! Control     one for all of them: slots, endpoint table, counters, the lock of the active exporter
//! Snapshots   the exporter's registry, so that its successor goes on where it was killed
//! StoreCopy   a store as bytes, for a reader in another container (file mode)
//! ```
//!
//! A request only writes memory: a [`Series`] is a few additions at known addresses. The memory
//! outlives its writer. Every word in it is read and written atomically, so a reader is safe at any
//! moment, even if the writer stopped in the middle. Unsafe code: `memory.rs`, and one block of
//! `temporary_store.rs`.
//!
//! # Example
//!
//! The arbiter makes a store, a worker adopts it and counts, and the exporter reads it, also after the worker's end.
//!
//! ```
//! use metrics_model::{FamilySpec, FamilyType, Point};
//! use metrics_store::{Identity, Role, StoreFile, StoreReader};
//!
//! let identity = Identity { role: Role::Worker, number: 7, slot: 3, name: "shop:8000:3".to_owned() };
//! let file = StoreFile::create(&identity)?;
//! let mut reader = StoreReader::open(file.duplicate_fd()?)?;
//!
//! let worker = file.adopt()?;
//! let requests = worker.family(&FamilySpec::new("requests", FamilyType::Counter), None)?;
//! let gets = worker.series(&requests, &[("method", "GET")])?;
//! gets.add(0, 2.0);
//! drop(worker);
//!
//! reader.refresh()?;
//! assert_eq!(reader.len(), 1);
//! assert!(matches!(reader.point(0), Point::Scalar(2.0)));
//! # Ok::<(), metrics_store::StoreError>(())
//! ```

#![deny(unsafe_code)]

pub mod catalogue;
mod child_listener;
mod control;
mod copy;
mod deaths;
mod descriptor;
mod endpoints;
mod error;
mod file;
mod frame;
pub mod hidden;
mod layout;
mod link;
mod memory;
mod method;
mod process;
mod push_state;
mod reader;
mod record;
mod requests;
mod series;
mod slots;
mod snapshots;
mod stack;
mod temporary_store;
mod worker_store;

pub use child_listener::ChildListener;
pub use control::{Control, Counter};
pub use copy::{MAX_COPY_BYTES, STORE_SUFFIX, StoreCopy};
pub use deaths::{Death, LostRequest, MAX_DEATHS};
pub use descriptor::Descriptor;
pub use endpoints::{MAX_ENDPOINT_BYTES, MAX_ENDPOINTS, OTHER, UNKNOWN, UNMATCHED};
pub use error::StoreError;
pub use file::{Identity, Role, StoreFile};
pub use layout::MAX_SHARDS;
pub use link::{
    ArbiterLink, Boot, ChildLink, ChildrenLink, ExporterLink, Facts, FromChild, Link, LinkError,
    ListenerFacts, NewStore, PeerLink, ToArbiter, ToExporter, ToPeer,
};
pub use method::Method;
pub use process::{Process, ProcessStat};
pub use push_state::{LeaveState, PushHeader};
pub use reader::{FamilyDef, SeriesView, StoreReader};
pub use requests::{
    Endpoint, MAX_REQUESTS, NewRequest, OpenRequest, OpenRequests, RequestId, RequestTable,
    monotonic_ns,
};
pub use series::Series;
pub use slots::MAX_SLOTS;
pub use snapshots::{Snapshots, snapshot_from_bytes, snapshot_to_bytes};
pub use temporary_store::TemporaryStore;
pub use worker_store::{Family, WorkerStore};
