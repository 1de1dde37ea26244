//! The exporter: reads the stores of Gunicorn's workers, pushes to registries, answers `/metrics`.
//!
//! ```text
//! backend ─── a registry, in this process or in Redis: page, push, leave
//! instance ── the process that the arbiter starts: worker stores ─▶ sessions ─▶ registries
//! server ──── connections ─▶ routes ─▶ scrape: pages of a backend, as they come, into a response
//!                              └─▶ refresh: before a page, the flusher of this instance is asked
//! ```
//!
//! The exporter passes exposition bytes on unread: `metrics-model` renders them, here or inside
//! Redis. Only `page`, which a browser gets at `/`, parses a few families.

#![forbid(unsafe_code)]

mod auth;
pub mod backend;
mod cli;
mod frame;
mod health;
mod instance;
mod listen;
mod logging;
mod negotiate;
mod own_metrics;
mod page;
mod program;
mod progress;
mod protection;
mod push;
mod push_command;
mod refresh;
mod routes;
mod scrape;
mod server;
mod sidecar;
mod standalone;
mod stores;
mod tls;

/// Every store has a place for each shard of a registry.
const _: () = assert!(metrics_settings::MAX_SHARDS as usize == metrics_store::MAX_SHARDS);

pub use auth::AuthError;
pub use backend::{Backend, BackendError, Embedded, RedisBackend};
pub use instance::run_instance;
pub use listen::{Listening, bind, listen};
pub use own_metrics::OwnMetrics;
pub use program::run_program;
pub use protection::{Protection, ProtectionError};
pub use push::{LeftOut, Place, PushError, PushFormat, PushRequest, Pushed, ReadError, push};
pub use refresh::{NotRefreshed, Refresh, RefreshRequest, RefreshRequests, refresh};
pub use routes::App;
pub use scrape::Renderings;
pub use server::serve;
pub use sidecar::{SidecarError, sidecar};
pub use standalone::{StandaloneError, standalone};
pub use stores::{GatherError, Gathering, create_directory};
pub use tls::{TlsError, TlsFiles};
