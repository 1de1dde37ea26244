//! The registry that instances share, behind the `METRICS.*` commands of Redis.

mod address;
mod families;
mod link;
mod page_reader;
mod pages;
mod probe;
mod pushing;
mod replace;
mod reply;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use metrics_model::{ExposeRequest, Page};
use redis::{Cmd, Value};

use super::BackendError;
use link::Link;
use metrics_settings::Settings;
use pages::PageCommand;
pub(crate) use replace::Replacement;
use reply::Command;
pub(crate) use reply::Info;
use topology::Topology;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The registry that instances share. It is one key, or several over which its families are spread
/// (*shards*), each a registry of its own.
#[derive(Debug, Clone)]
pub struct RedisBackend {
    shared: Arc<BackendState>,
}

#[derive(Debug)]
struct BackendState {
    topology: Topology,
    /// The address for messages, never with a password.
    address: String,
    keys: Vec<String>,
    /// Time limit for a reply.
    patience: Duration,
    /// One link for all shards, or one per shard if each may be on another node.
    links: Vec<Link>,
}

impl RedisBackend {
    /// Prepares the connections of these settings.
    pub fn new(settings: &Settings) -> Result<Self, BackendError> {
        Self::with_patience(settings, RESPONSE_TIMEOUT)
    }

    /// Does the same, with another time limit for replies.
    pub(crate) fn with_patience(
        settings: &Settings,
        patience: Duration,
    ) -> Result<Self, BackendError> {
        let topology = Topology::new(settings)?;
        let keys = settings.registry_keys();
        let links = match topology {
            Topology::Cluster(_) => keys.len(),
            Topology::Single(_) | Topology::Sentinel { .. } => 1,
        };
        Ok(Self {
            shared: Arc::new(BackendState {
                address: topology.describe(),
                topology,
                keys,
                patience,
                links: std::iter::repeat_with(Link::default).take(links).collect(),
            }),
        })
    }

    /// Returns host and port, the path of the socket, or the name of what leads to the server.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Returns the keys over which families are spread.
    pub fn keys(&self) -> &[String] {
        &self.shared.keys
    }

    /// Returns the number of keys over which families are spread; at least 1.
    pub fn shards(&self) -> usize {
        self.shared.keys.len()
    }

    /// Returns the shard of the page at a cursor.
    pub(crate) fn shard_at(cursor: &[u8]) -> usize {
        split_cursor(cursor).map_or(0, |(shard, _)| shard)
    }

    /// See [`Backend::page`](super::Backend::page). Requests are always paged, so that no other
    /// client waits long. The shards follow each other; a cursor names the shard and the place in
    /// it.
    pub async fn page(&self, request: &ExposeRequest) -> Result<Page, BackendError> {
        let shards = self.shards();
        let cursor = request.cursor.as_deref().unwrap_or(b"0");
        let (shard, cursor) = split_cursor(cursor).ok_or(BackendError::StaleCursor)?;
        if shard >= shards {
            return Err(BackendError::StaleCursor);
        }
        let mut page = self.shard_page(shard, cursor, request).await?;
        if shards == 1 {
            return Ok(page);
        }
        page.next = match page.next {
            Some(next) => Some(format!("{shard}/{next}")),
            None if shard + 1 == shards => {
                page.body.extend_from_slice(request.format.end());
                None
            }
            None => Some(format!("{}/0", shard + 1)),
        };
        Ok(page)
    }

    /// Returns a page of one shard, with the cursor of that shard's next page.
    pub(crate) async fn shard_page(
        &self,
        shard: usize,
        cursor: &[u8],
        request: &ExposeRequest,
    ) -> Result<Page, BackendError> {
        let command = PageCommand {
            key: &self.shared.keys[shard],
            request,
            is_part: self.shards() > 1,
        };
        let about = self.about("METRICS.EXPOSE", shard);
        let link = self.link(shard);
        let reply = link.page(&self.shared.topology, &about, &command, cursor);
        about.page(reply.await?)
    }

    /// Returns the METRICS.INFO of all shards that exist.
    pub(crate) async fn infos(&self) -> Result<Vec<Info>, BackendError> {
        let mut infos = Vec::new();
        for (shard, key) in self.shared.keys.iter().enumerate() {
            let mut command = redis::cmd("METRICS.INFO");
            command.arg(key);
            let about = self.about("METRICS.INFO", shard);
            match self.send(shard, &about, &command).await {
                Ok(reply) => infos.push(about.info(reply)?),
                Err(BackendError::Refused { message, .. }) if message.ends_with("no such key") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(infos)
    }

    fn about(&self, name: &'static str, shard: usize) -> Command<'_> {
        Command {
            name,
            key: &self.shared.keys[shard],
            address: &self.shared.address,
            patience: self.shared.patience,
        }
    }

    async fn send(
        &self,
        shard: usize,
        about: &Command<'_>,
        command: &Cmd,
    ) -> Result<Value, BackendError> {
        let link = self.link(shard);
        link.send(&self.shared.topology, about, command).await
    }

    fn link(&self, shard: usize) -> &Link {
        let links = &self.shared.links;
        &links[shard % links.len()]
    }
}

/// Splits `<shard>/<cursor>`; for the first shard the cursor may stand alone.
fn split_cursor(cursor: &[u8]) -> Option<(usize, &[u8])> {
    let Some(at) = cursor.iter().position(|&byte| byte == b'/') else {
        return Some((0, cursor));
    };
    let shard = std::str::from_utf8(&cursor[..at]).ok()?.parse().ok()?;
    Some((shard, &cursor[at + 1..]))
}
