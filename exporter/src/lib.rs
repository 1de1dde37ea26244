//! The exporter: a small HTTP server in front of pages that registries render.
//!
//! ```text
//! instance, standalone, sidecar, idle ── the programs; `frame` is what they share
//! backend ─── a registry, in this process or in Redis: page, push, leave
//! server ──── connections ─▶ routes ─▶ scrape: pages of a backend, as they come, into a response
//!                              └─▶ refresh: before a page, the flusher of this instance is asked
//! ```
//!
//! `metrics-agent` reads the stores of workers and brings them into registries. The exporter passes
//! exposition bytes on unread: `metrics-model` renders them, here or inside Redis. Only `page`, which
//! a browser gets at `/`, parses a few families.

#![forbid(unsafe_code)]

mod auth;
pub mod backend;
mod check_config;
mod cli;
mod frame;
mod health;
mod idle;
mod instance;
mod listen;
mod logging;
mod negotiate;
mod page;
mod program;
mod protection;
mod push;
mod push_command;
mod routes;
mod scrape;
mod server;
mod sidecar;
mod standalone;
mod tls;

pub use auth::AuthError;
pub use backend::{Backend, BackendError, RedisBackend};
pub use instance::run_instance;
pub use listen::{BoundListener, bind, listen};
pub use program::run_program;
pub use protection::{Protection, ProtectionError};
pub use push::{LeftOut, Place, PushError, PushFormat, PushRequest, PushResult, ReadError, push};
pub use routes::App;
pub use scrape::Renderings;
pub use server::serve;
pub use sidecar::{SidecarError, sidecar};
pub use standalone::{StandaloneError, standalone};
pub use tls::{TlsError, TlsFiles};
