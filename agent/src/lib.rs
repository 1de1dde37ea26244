//! What the exporter process of a Gunicorn instance does, apart from HTTP and Redis.
//!
//! ```text
//! stores ── worker stores, directories of their copies, `.db` files ─▶ sessions ─▶ registries
//! state ─── the writers of one instance: from live to committed, and their copies in a directory
//! pusher ── brings them into a registry that is elsewhere (`SharedRegistry`)
//! boot, link, watch, watchdog ── the arbiter and the processes of the instance
//! ```
//!
//! The package `gunicorn-prometheus-exporter` composes this with its server and with Redis.

#![forbid(unsafe_code)]

mod boot;
mod clock;
mod embedded;
mod error;
mod figures;
mod link;
mod own_metrics;
mod progress;
mod pusher;
mod refresh;
mod sharding;
mod shared_registry;
mod state;
mod stores;
mod watch;
mod watchdog;

/// Every store has a place for each shard of a registry.
const _: () = assert!(metrics_settings::MAX_SHARDS as usize == metrics_store::MAX_SHARDS);

pub use boot::boot;
pub use clock::now_ms;
pub use embedded::{BatchError, EmbeddedRegistry};
pub use error::StartError;
pub use link::{AsyncLink, Message};
pub use own_metrics::{GivenUpBy, OwnMetrics, ScrapeResult};
pub use pusher::Pusher;
pub use refresh::{
    NotRefreshed, Refresh, RefreshRequest, RefreshRequests, WaitingScrapes, refresh,
};
pub use sharding::shard_of;
pub use shared_registry::{SharedError, SharedFailure, SharedRegistry};
pub use state::{Beginning, CarryOverStore, State};
pub use state::{LoggedDeath, Overview, OverviewRequests, Overviews, RunningRequest, overviews};
pub use stores::{
    Directory, DirectoryError, FileError, GatherError, Gatherer, KnownFamily, create_directory,
};
pub use watchdog::end_with;
