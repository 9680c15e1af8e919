//! Link proxies: each listens where one datacenter's nodes dial one node of another, and forwards
//! both directions under the conditions of the way between the two datacenters.
//!
//! A way is directed: what travels from `us` to `eu` is under the conditions of the way us → eu,
//! whoever dialled. So a one-way cut also stops the answers on connections dialled the other way.

mod connection;
#[cfg(test)]
mod tests;
mod way;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub use way::{Conditions, WayStatus};

use connection::Connection;
use way::Way;

/// Most connections through one proxy at a time: three classes of messages from each of a dozen
/// nodes, and what redials leave behind during a cut. A further one is closed at once.
const MAX_CONNECTIONS: usize = 256;

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySpec {
    /// The datacenter that dials.
    pub from: String,
    /// The datacenter that is dialled.
    pub to: String,
    /// The node that is dialled.
    pub node: String,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the node listens.
    pub target: SocketAddr,
}

/// Why a proxy does not run, or a command was refused. No link was changed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The proxy's address is taken.
    #[error("the proxy {from} → {node} cannot listen at {listen}")]
    Listen {
        /// The datacenter that would dial.
        from: String,
        /// The node that would be dialled.
        node: String,
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no link between these two.
    #[error("there is no link from `{from}` to `{to}`; {known}")]
    UnknownLink {
        /// One end.
        from: String,
        /// The other.
        to: String,
        /// The links that there are.
        known: String,
    },
}

type Ways = BTreeMap<(String, String), Arc<Way>>;

/// Running proxies, and the controls of the links that they stand for. Dropping it closes all.
#[derive(Debug)]
pub struct LinkProxies {
    ways: Ways,
    addresses: BTreeMap<(String, String), SocketAddr>,
    /// Each owns its connections; aborted when dropped.
    _listeners: JoinSet<()>,
}

impl LinkProxies {
    /// Starts every proxy; all links begin under `conditions(from, to)`. `seed` decides jitter and
    /// loss.
    ///
    /// # Errors
    /// An address that cannot be listened at; none of the proxies runs then.
    pub async fn start(
        specs: Vec<ProxySpec>,
        conditions: impl Fn(&str, &str) -> Conditions,
        seed: u64,
    ) -> Result<Self, ProxyError> {
        let mut ways = Ways::new();
        for spec in &specs {
            for (from, to) in [(&spec.from, &spec.to), (&spec.to, &spec.from)] {
                ways.entry((from.clone(), to.clone()))
                    .or_insert_with(|| Arc::new(Way::new(conditions(from, to))));
            }
        }
        let (mut addresses, mut listeners) = (BTreeMap::new(), JoinSet::new());
        for (number, spec) in (0u64..).zip(specs) {
            let ProxySpec { from, to, node, listen, target } = spec;
            let bound = bind(listen).await;
            let (listener, address) = bound.map_err(|source| {
                let (from, node) = (from.clone(), node.clone());
                ProxyError::Listen { from, node, listen, source }
            })?;
            let forward = Arc::clone(&ways[&(from.clone(), to.clone())]);
            let backward = Arc::clone(&ways[&(to, from.clone())]);
            let seed = seed.wrapping_add(number << 32);
            listeners.spawn(serve(listener, target, forward, backward, seed));
            addresses.insert((from, node), address);
        }
        Ok(Self { ways, addresses, _listeners: listeners })
    }

    /// Where nodes of datacenter `from` dial `node`; `None` where no proxy stands between.
    #[must_use]
    pub fn address(&self, from: &str, node: &str) -> Option<SocketAddr> {
        self.addresses.get(&(from.to_owned(), node.to_owned())).copied()
    }

    /// Cuts both ways between two datacenters: silence, no refusals.
    ///
    /// # Errors
    /// There is no such link.
    pub fn cut(&self, a: &str, b: &str) -> Result<(), ProxyError> {
        let (there, back) = (self.way(a, b)?, self.way(b, a)?);
        there.change(|c| c.cut = true);
        back.change(|c| c.cut = true);
        Ok(())
    }

    /// Cuts what travels from one datacenter to the other; answers still arrive.
    ///
    /// # Errors
    /// There is no such link.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<(), ProxyError> {
        self.way(from, to)?.change(|c| c.cut = true);
        Ok(())
    }

    /// Ends every cut.
    pub fn heal(&self) {
        for way in self.ways.values() {
            way.change(|c| c.cut = false);
        }
    }

    /// Ends the cuts between two datacenters.
    ///
    /// # Errors
    /// There is no such link.
    pub fn heal_between(&self, a: &str, b: &str) -> Result<(), ProxyError> {
        let (there, back) = (self.way(a, b)?, self.way(b, a)?);
        there.change(|c| c.cut = false);
        back.change(|c| c.cut = false);
        Ok(())
    }

    /// Sets the conditions of what travels from one datacenter to the other. What is under way
    /// already keeps the delay that it set out with.
    ///
    /// # Errors
    /// There is no such link.
    pub fn set(&self, from: &str, to: &str, conditions: Conditions) -> Result<(), ProxyError> {
        self.way(from, to)?.change(|c| *c = conditions);
        Ok(())
    }

    /// Every way, by its ends.
    #[must_use]
    pub fn status(&self) -> Vec<WayStatus> {
        self.ways.iter().map(|((from, to), way)| way.status(from, to)).collect()
    }

    fn way(&self, from: &str, to: &str) -> Result<&Way, ProxyError> {
        let way = self.ways.get(&(from.to_owned(), to.to_owned()));
        way.map(Arc::as_ref).ok_or_else(|| {
            let names: Vec<String> = self.ways.keys().map(|(a, b)| format!("{a} → {b}")).collect();
            let known = if names.is_empty() {
                "all nodes are in one datacenter".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            ProxyError::UnknownLink { from: from.to_owned(), to: to.to_owned(), known }
        })
    }
}

async fn bind(listen: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Accepts for as long as the proxy lives.
async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    forward: Arc<Way>,
    backward: Arc<Way>,
    seed: u64,
) {
    let mut connections = JoinSet::new();
    for number in 0u64.. {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        let client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                // Mostly a lack of file descriptors. The caller's redial comes back.
                tracing::warn!(%error, %target, "link proxy: a connection was not accepted");
                tokio::task::yield_now().await;
                continue;
            }
        };
        if connections.len() >= MAX_CONNECTIONS {
            tracing::warn!(%target, limit = MAX_CONNECTIONS, "link proxy: too many connections");
            continue;
        }
        let connection = Connection::new(&forward, &backward, seed.wrapping_add(number));
        connections.spawn(async move {
            // A socket that does not take the option is slower, not wrong.
            let _ = client.set_nodelay(true);
            let client = client.into_split();
            connection.run(client, dial(target)).await;
        });
    }
}

async fn dial(
    target: SocketAddr,
) -> io::Result<(tokio::net::tcp::OwnedReadHalf, tokio::net::tcp::OwnedWriteHalf)> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream.into_split())
}
