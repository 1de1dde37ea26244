//! A connection to the primary that holds a key. It is made on demand, and again when it breaks or
//! when another server becomes the primary.

use std::time::Instant;

use redis::{Cmd, RedisError, Value};
use tokio::sync::Mutex;

use super::pages::{PageCommand, PageConnections};
use super::probe::explain;
use super::reply::Command;
use super::topology::{
    Connection, Topology, connect, connect_by_sentinel, connect_to_primary, nodes,
};
use crate::backend::BackendError;

/// Maximum number of redirections of one command between nodes of a cluster.
const REDIRECTS: usize = 5;

/// A connection to the primary; see the [module](self). It connects with the first command, so
/// creating it cannot fail.
#[derive(Debug, Default)]
pub(super) struct Link {
    state: Mutex<State>,
    pages: PageConnections,
}

/// What is asked for over a link.
struct Request<'a> {
    command: &'a Cmd,
    /// A page that may come over a connection for pages, and its cursor.
    page: Option<(&'a PageCommand<'a>, &'a [u8])>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    /// The last failed attempt. All callers that waited for it share its result, so that scrapes of
    /// a hung server do not wait one after the other.
    failed: Option<(Instant, BackendError)>,
    /// Cluster: the node that holds the key, according to the last redirection.
    target: Option<(String, u16)>,
    /// Cluster: known nodes, for when the one of the settings is unavailable.
    known: Vec<(String, u16)>,
}

/// The next step after a failed command.
enum Next {
    /// Send it to this node, which has the key.
    Ask(String, u16),
    /// Connect again.
    Reconnect,
    /// Return the error: another attempt would fail too.
    GiveUp,
}

impl Link {
    /// Sends one command to the primary. If the connection turns out to be dead, because the server
    /// was restarted or replaced since the last command, it is replaced once. All these commands
    /// may be repeated safely.
    pub(super) async fn send(
        &self,
        topology: &Topology,
        about: &Command<'_>,
        command: &Cmd,
    ) -> Result<Value, BackendError> {
        let request = Request {
            command,
            page: None,
        };
        self.exchange(topology, about, &request).await
    }

    /// Does the same for the page at a cursor, and asks for the page after it.
    pub(super) async fn page(
        &self,
        topology: &Topology,
        about: &Command<'_>,
        command: &PageCommand<'_>,
        cursor: &[u8],
    ) -> Result<Value, BackendError> {
        let request = Request {
            command: &command.at(cursor),
            page: Some((command, cursor)),
        };
        self.exchange(topology, about, &request).await
    }

    async fn exchange(
        &self,
        topology: &Topology,
        about: &Command<'_>,
        request: &Request<'_>,
    ) -> Result<Value, BackendError> {
        let mut has_reconnected = false;
        let mut redirects = 0;
        loop {
            let (mut connection, is_fresh) = self.connection(topology, about).await?;
            let reply = self.ask_server(&mut connection, about, request).await;
            let error = match reply.and_then(Value::extract_error) {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let next = self.after(topology, &connection, &error, about).await;
            let error = about.error(&connection.address, &error);
            match next {
                Next::Ask(host, port) => {
                    return ask(topology, &host, port, about, request.command).await;
                }
                Next::Reconnect
                    if redirects < REDIRECTS && matches!(error, BackendError::Moved { .. }) =>
                {
                    redirects += 1;
                }
                Next::Reconnect if !has_reconnected && !is_fresh => has_reconnected = true,
                Next::Reconnect | Next::GiveUp if is_fresh => {
                    return Err(explain(&connection.address, topology.is_tls(), error).await);
                }
                Next::Reconnect | Next::GiveUp => return Err(error),
            }
        }
    }

    async fn ask_server(
        &self,
        connection: &mut Connection,
        about: &Command<'_>,
        request: &Request<'_>,
    ) -> Result<Value, RedisError> {
        if let Some((command, cursor)) = request.page {
            let page = self
                .pages
                .page(&connection.server, command, cursor, about.patience);
            if let Some(reply) = page.await? {
                return Ok(reply);
            }
        }
        connection.redis.send_packed_command(request.command).await
    }

    /// Drops connections and addresses that the error shows to be out of date.
    async fn after(
        &self,
        topology: &Topology,
        connection: &Connection,
        error: &RedisError,
        about: &Command<'_>,
    ) -> Next {
        let is_cluster = matches!(topology, Topology::Cluster(_));
        if is_cluster && let Some((target, _slot)) = error.redirect_node() {
            let Some((host, port)) = host_and_port(target, &connection.address) else {
                return Next::GiveUp;
            };
            if error.code() == Some("ASK") {
                return Next::Ask(host, port);
            }
            let mut state = self.state.lock().await;
            state.connection = None;
            state.target = Some((host, port));
            return Next::Reconnect;
        }
        match about.error(&connection.address, error) {
            // The late reply would be taken for that of the next command.
            BackendError::TimedOut { .. } => {
                self.forget().await;
                Next::GiveUp
            }
            BackendError::Unreachable { .. } | BackendError::Disconnected { .. } => {
                self.forget().await;
                Next::Reconnect
            }
            // The server is no longer the primary: look for the present one.
            BackendError::ReadOnly { .. } if !is_cluster => {
                self.forget().await;
                Next::Reconnect
            }
            _ => Next::GiveUp,
        }
    }

    async fn forget(&self) {
        let mut state = self.state.lock().await;
        state.connection = None;
        state.target = None;
    }

    /// Returns the connection, and whether it is new.
    async fn connection(
        &self,
        topology: &Topology,
        about: &Command<'_>,
    ) -> Result<(Connection, bool), BackendError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), false));
        }
        if let Some((at, error)) = &state.failed
            && *at > asked
        {
            return Err(error.clone());
        }
        let connected = match topology {
            Topology::Single(server) => connect_to_primary(server, about).await,
            Topology::Sentinel {
                sentinels,
                master,
                server,
            } => connect_by_sentinel(sentinels, master, server, about).await,
            Topology::Cluster(_) => state.connect_to_node(topology, about).await,
        };
        match connected {
            Ok(connection) => {
                state.connection = Some(connection.clone());
                state.failed = None;
                Ok((connection, true))
            }
            Err(error) => {
                state.target = None;
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

impl State {
    /// Connects to the node that has the key, if it is known; else to any node, which will
    /// redirect.
    async fn connect_to_node(
        &mut self,
        topology: &Topology,
        about: &Command<'_>,
    ) -> Result<Connection, BackendError> {
        let Topology::Cluster(seed) = topology else {
            return Err(BackendError::Settings("there is no cluster".to_owned()));
        };
        if let Some((host, port)) = self.target.take()
            && let Some(node) = seed.at(&host, port)
        {
            return connect(&node, about).await;
        }
        let mut connected = connect(seed, about).await;
        for at in 0..self.known.len() {
            if connected.is_ok() {
                break;
            }
            let (host, port) = &self.known[at];
            if let Some(node) = seed.at(host, *port)
                && let Ok(connection) = connect(&node, about).await
            {
                connected = Ok(connection);
            }
        }
        let mut connection = connected?;
        let known = nodes(&mut connection).await;
        if !known.is_empty() {
            self.known = known;
        }
        Ok(connection)
    }
}

/// Sends the command to a node that already has the key while its slot is moving there.
async fn ask(
    topology: &Topology,
    host: &str,
    port: u16,
    about: &Command<'_>,
    command: &Cmd,
) -> Result<Value, BackendError> {
    let Topology::Cluster(seed) = topology else {
        return Err(BackendError::Settings("there is no cluster".to_owned()));
    };
    let Some(node) = seed.at(host, port) else {
        return Err(BackendError::Settings("a node has no address".to_owned()));
    };
    let mut connection = connect(&node, about).await?;
    let mut pair = redis::pipe();
    pair.cmd("ASKING").add_command(command.clone());
    let replies = connection.redis.send_packed_commands(&pair, 1, 1).await;
    replies
        .and_then(|mut replies| replies.pop().unwrap_or(Value::Nil).extract_error())
        .map_err(|error| about.error(&connection.address, &error))
}

/// Parses `host:port` of a redirection; without a host it is the node that answered.
fn host_and_port(target: &str, answered: &str) -> Option<(String, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host {
        "" | "?" => answered.rsplit_once(':')?.0,
        host => host,
    };
    Some((host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_names_a_host_or_means_the_one_that_answered() {
        let answered = "cache:6379";
        let of = |target| host_and_port(target, answered);
        assert_eq!(of("10.0.0.1:7000"), Some(("10.0.0.1".to_owned(), 7000)));
        assert_eq!(of("::1:7000"), Some(("::1".to_owned(), 7000)));
        assert_eq!(of(":7000"), Some(("cache".to_owned(), 7000)));
        assert_eq!(of("cache"), None);
    }
}
