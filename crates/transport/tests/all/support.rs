//! Nodes that record what they hear, and a proxy that stops forwarding.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_transport::{
    Class, Handshake, Inbound, LinkOptions, LinkState, Links, Peer, SendRefused,
};
use meridian_types::{DcId, Incarnation, NodeId};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Nothing takes this long unless it hangs.
pub(crate) const FAILSAFE: Duration = Duration::from_secs(60);

pub(crate) const CLUSTER: &str = "test";
pub(crate) const UP: LinkState = LinkState::Up { incarnation: Incarnation(0) };

/// Everything that one node was told.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) messages: Vec<(NodeId, Class, Bytes)>,
    pub(crate) changes: Vec<(NodeId, LinkState)>,
}

impl Record {
    pub(crate) fn of(&self, class: Class) -> Vec<Bytes> {
        let of_class = self.messages.iter().filter(|(_, c, _)| *c == class);
        of_class.map(|(_, _, message)| message.clone()).collect()
    }

    pub(crate) fn state(&self, peer: NodeId) -> LinkState {
        let last = self.changes.iter().rev().find(|(id, _)| *id == peer);
        last.map_or(LinkState::Down, |(_, state)| *state)
    }

    pub(crate) fn is_up(&self, peer: NodeId) -> bool {
        self.state(peer) != LinkState::Down
    }
}

pub(crate) struct Recorder {
    record: Mutex<Record>,
    version: watch::Sender<u64>,
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { record: Mutex::default(), version: watch::Sender::new(0) })
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.record.lock())
    }

    /// Waits until what was recorded is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Record) -> bool) {
        let mut version = self.version.subscribe();
        let wait = async {
            while !wanted(&self.record.lock()) {
                version.changed().await.expect("the sender is a part of self");
            }
        };
        if tokio::time::timeout(FAILSAFE, wait).await.is_err() {
            panic!("never: {what}; changes: {:?}", self.record.lock().changes);
        }
    }

    fn note(&self, note: impl FnOnce(&mut Record)) {
        note(&mut self.record.lock());
        self.version.send_modify(|version| *version += 1);
    }
}

impl Inbound for Recorder {
    fn received(&self, from: NodeId, class: Class, message: Bytes) {
        self.note(|record| record.messages.push((from, class, message)));
    }

    fn link_changed(&self, peer: NodeId, state: LinkState) {
        self.note(|record| record.changes.push((peer, state)));
    }
}

/// Waits for something that nobody announces.
pub(crate) async fn eventually(what: &str, wanted: impl Fn() -> bool) {
    let wait = async {
        let mut look = tokio::time::interval(Duration::from_millis(2));
        while !wanted() {
            look.tick().await;
        }
    };
    assert!(tokio::time::timeout(FAILSAFE, wait).await.is_ok(), "never: {what}");
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) links: Links,
    pub(crate) recorder: Arc<Recorder>,
}

impl Node {
    pub(crate) async fn up(&self, peer: NodeId) {
        self.recorder.until("up", |record| record.is_up(peer)).await;
    }

    pub(crate) async fn down(&self, peer: NodeId) {
        self.recorder.until("down", |record| !record.is_up(peer)).await;
    }

    /// Sends, waiting for room.
    pub(crate) async fn send(&self, to: NodeId, class: Class, message: impl Into<Bytes>) {
        let message = message.into();
        loop {
            match self.links.send(to, class, message.clone()) {
                Ok(()) => return,
                Err(SendRefused::Full) => tokio::task::yield_now().await,
                Err(refused) => panic!("{refused}"),
            }
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.links.local_addr()
    }
}

pub(crate) fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub(crate) fn peer(id: u32, address: impl ToString) -> Peer {
    Peer { id: NodeId(id), address: address.to_string(), dc: DcId(0) }
}

/// Options for tests: the same proportions as the defaults, but shorter.
pub(crate) fn options(id: u32) -> LinkOptions {
    let handshake = Handshake {
        cluster: CLUSTER.into(),
        node: NodeId(id),
        incarnation: Incarnation(0),
        protocol: 1,
    };
    let mut options = LinkOptions::new(any_port(), handshake, Vec::new());
    options.keep_alive = Duration::from_millis(100);
    options.down_after = Duration::from_millis(800);
    options.dial_timeout = Duration::from_millis(800);
    options.backoff_min = Duration::from_millis(5);
    options.backoff_max = Duration::from_millis(50);
    options
}

pub(crate) async fn start(options: LinkOptions) -> Node {
    let recorder = Recorder::new();
    let id = options.handshake.node;
    let links = Links::start(options, Arc::clone(&recorder) as Arc<dyn Inbound>).await.unwrap();
    Node { id, links, recorder }
}

/// Nodes 1 and 2 that know each other.
pub(crate) async fn two() -> (Node, Node) {
    let (one, two) = (start(options(1)).await, start(options(2)).await);
    one.links.set_peers(vec![peer(2, two.addr())]);
    two.links.set_peers(vec![peer(1, one.addr())]);
    one.up(two.id).await;
    two.up(one.id).await;
    (one, two)
}

/// Nodes 1 and 2 with a proxy in each one's way to the other.
pub(crate) async fn two_with_proxies(
    change: impl Fn(&mut LinkOptions),
) -> (Node, Proxy, Node, Proxy) {
    let mut all = [options(1), options(2)];
    all.iter_mut().for_each(change);
    let [first, second] = all;
    let (one, two) = (start(first).await, start(second).await);
    let (to_two, to_one) = (Proxy::to(two.addr()).await, Proxy::to(one.addr()).await);
    one.links.set_peers(vec![peer(2, to_two.addr)]);
    two.links.set_peers(vec![peer(1, to_one.addr)]);
    one.up(two.id).await;
    two.up(one.id).await;
    (one, to_two, two, to_one)
}

/// Forwards bytes, or keeps them: connections stay open, and nobody is told.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    /// From the node that dials to the one that is dialed.
    pub(crate) there: watch::Sender<bool>,
    pub(crate) back: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (there, back) = (watch::Sender::new(true), watch::Sender::new(true));
        let (gate_there, gate_back) = (there.subscribe(), back.subscribe());
        let task = tokio::spawn(async move {
            let mut pipes = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                while pipes.try_join_next().is_some() {}
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                pipes.spawn(pipe(near_read, far_write, gate_there.clone()));
                pipes.spawn(pipe(far_read, near_write, gate_back.clone()));
            }
        });
        Self { addr, there, back, task }
    }

    pub(crate) fn cut(&self) {
        self.there.send_replace(false);
        self.back.send_replace(false);
    }

    pub(crate) fn heal(&self) {
        self.there.send_replace(true);
        self.back.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pipe(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: watch::Receiver<bool>) {
    let mut buf = vec![0; 64 << 10];
    loop {
        if gate.wait_for(|open| *open).await.is_err() {
            return;
        }
        let Ok(n) = from.read(&mut buf).await else { return };
        if n == 0 || gate.wait_for(|open| *open).await.is_err() {
            return;
        }
        if to.write_all(&buf[..n]).await.is_err() {
            return;
        }
    }
}
