//! The side of a stream that is dialed: answers the handshake and the pings, and hands messages on.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use meridian_telemetry::span;
use meridian_types::{Incarnation, NodeId};
use meridian_wire::v1::link_down::Item as Answer;
use meridian_wire::v1::link_refused::Reason;
use meridian_wire::v1::link_up::Item;
use meridian_wire::v1::links_server::{self, LinksServer};
use meridian_wire::v1::{self, LinkDown, LinkUp};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{Service, http};
use tonic::{Request, Response, Status, Streaming};

use crate::links::Shared;
use crate::peer::{AcceptedStream, PeerLink};
use crate::silence::Silence;
use crate::{Class, LinkOptions, Listener, Socket};

/// Answers that wait for a node that does not read them; further pongs are left out.
const ANSWERS: usize = 16;

/// Bytes after which a pong is sent unasked: a slow link that carries much is not a silent one.
const PROGRESS_BYTES: usize = 256 << 10;

/// Connections that are served for each peer: one a class, and as many that end while new ones
/// begin.
const CONNECTIONS_PER_PEER: usize = 6;

/// Connections that are served besides, for those whose handshake will be refused.
const OTHER_CONNECTIONS: usize = 64;

/// Streams that one connection may have: one is used, a second may overlap while the first ends.
const STREAMS_PER_CONNECTION: u32 = 4;

/// How long nothing is accepted after an attempt has failed: the process is out of sockets, and
/// would try again in a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Kinds of refusal that are remembered, so that each is logged once.
const LOGGED_REFUSALS: usize = 256;

/// Serves the streams that other nodes dial.
pub(crate) struct Door {
    shared: Arc<Shared>,
    logged: Mutex<BTreeSet<(u32, Reason)>>,
}

type Answers = mpsc::Sender<Result<LinkDown, Status>>;

impl Door {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, logged: Mutex::default() }
    }

    /// Serves what comes to a listener. Dropped, it closes every connection.
    pub(crate) async fn serve(self, listener: Box<dyn Listener>) {
        let shared = Arc::clone(&self.shared);
        let limit = shared.options.largest_frame();
        let service = LinksServer::new(self)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let mut connections = JoinSet::new();
        loop {
            let socket = match listener.accept().await {
                Ok(socket) => socket,
                Err(why) => {
                    tracing::warn!("a connection from another node was not accepted: {why}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let most = shared.number_of_peers() * CONNECTIONS_PER_PEER + OTHER_CONNECTIONS;
            if connections.len() < most {
                connections.spawn(connection(socket, service.clone(), Arc::clone(&shared.options)));
            }
        }
    }

    /// Who dials, if it may.
    fn judge(&self, hello: &v1::Hello) -> Result<(Arc<PeerLink>, Class), Reason> {
        let ours = &self.shared.options.handshake;
        if hello.protocol != ours.protocol {
            return Err(Reason::OtherProtocol);
        }
        if hello.cluster != ours.cluster {
            return Err(Reason::OtherCluster);
        }
        if hello.to != ours.node.0 {
            return Err(Reason::OtherNode);
        }
        let class = Class::from_wire(hello.class()).ok_or(Reason::Malformed)?;
        let peer = self.shared.peer(NodeId(hello.from)).ok_or(Reason::UnknownPeer)?;
        Ok((peer, class))
    }

    fn refusal(&self, hello: &v1::Hello, reason: Reason) -> LinkDown {
        let ours = &self.shared.options.handshake;
        let mut logged = self.logged.lock();
        if logged.len() < LOGGED_REFUSALS && logged.insert((hello.from, reason)) {
            tracing::warn!(
                { span::PEER } = hello.from,
                cluster = hello.cluster,
                protocol = hello.protocol,
                to = hello.to,
                reason = reason.as_str_name(),
                "refused a node that dialed"
            );
        }
        answer(Answer::Refused(v1::LinkRefused {
            reason: reason.into(),
            protocol: ours.protocol,
            cluster: ours.cluster.clone(),
            node: ours.node.0,
        }))
    }
}

/// Serves one connection until it ends.
async fn connection(
    socket: Box<dyn Socket>,
    service: LinksServer<Door>,
    options: Arc<LinkOptions>,
) {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        service.clone().call(request)
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(options.window_bytes)
        .initial_connection_window_size(options.window_bytes)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .keep_alive_interval(options.keep_alive * 2)
        .keep_alive_timeout(options.patience(Class::Background));
    // What broke it is seen by the streams that run on it.
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

#[tonic::async_trait]
impl links_server::Links for Door {
    type OpenStream = ReceiverStream<Result<LinkDown, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<LinkUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut items = request.into_inner();
        let first = timeout(self.shared.options.dial_timeout, items.message()).await;
        let first =
            first.map_err(|_elapsed| Status::deadline_exceeded("no handshake in time"))??;
        let (answers, stream) = mpsc::channel(ANSWERS);
        let hello = match first {
            Some(LinkUp { item: Some(Item::Hello(hello)) }) => hello,
            _ => v1::Hello::default(),
        };
        let welcome = match self.judge(&hello) {
            Err(reason) => self.refusal(&hello, reason),
            // The streams end one after another: a peer that dials in between would see a link that
            // is up again, for a moment, with a node that is going away.
            Ok((peer, _)) if peer.is_stopped() => return Err(Status::unavailable("closing")),
            Ok((peer, class)) => {
                let accepted = peer.accepted(class, Incarnation(hello.incarnation));
                let reader = Reader {
                    shared: Arc::clone(&self.shared),
                    accepted,
                    answers: answers.clone(),
                    ping: 0,
                    messages: 0,
                    unanswered: 0,
                };
                tokio::spawn(reader.run(items));
                let ours = &self.shared.options.handshake;
                let (node, incarnation) = (ours.node.0, ours.incarnation.0);
                answer(Answer::Welcome(v1::Welcome { node, incarnation }))
            }
        };
        // The reader answers nothing before it has read something, and the far side sends nothing
        // before it has this.
        answers.try_send(Ok(welcome)).map_err(|_full| Status::internal("no room for a welcome"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Reads one stream.
struct Reader {
    shared: Arc<Shared>,
    accepted: AcceptedStream,
    answers: Answers,
    /// Number of the last ping.
    ping: u64,
    messages: u64,
    /// Bytes since the last pong.
    unanswered: usize,
}

impl Reader {
    async fn run(mut self, mut items: Streaming<LinkUp>) {
        let options = Arc::clone(&self.shared.options);
        let peer = Arc::clone(&self.accepted.peer);
        let patience = options.patience(self.accepted.class);
        let mut silence = Silence::new(patience, options.keep_alive, Instant::now());
        let mut timer = pin!(sleep_until(silence.due()));
        let replaced = Arc::clone(&self.accepted.replaced);
        let mut replaced = pin!(replaced.notified());
        let mut stopped = pin!(peer.stopped());
        let mut proven = false;
        loop {
            // A stream that always has something must leave the thread to others now and then.
            tokio::task::consume_budget().await;
            tokio::select! {
                biased;
                () = &mut stopped => return,
                () = &mut replaced => return,
                item = items.message() => {
                    let Ok(Some(LinkUp { item: Some(item) })) = item else { return };
                    silence.heard(Instant::now());
                    if !proven {
                        self.accepted.prove();
                        proven = true;
                    }
                    if self.handle(item).is_none() {
                        return;
                    }
                }
                () = &mut timer => {
                    if silence.is_too_long(Instant::now()) {
                        return;
                    }
                    timer.as_mut().reset(silence.due());
                }
            }
        }
    }

    /// Handles one item; `None` where the stream must end.
    fn handle(&mut self, item: Item) -> Option<()> {
        match item {
            Item::Ping(ping) => {
                self.ping = ping.number;
                self.pong();
            }
            Item::Frame(frame) if frame.excess == 0 => {
                self.messages += frame.messages.len() as u64;
                self.unanswered += frame.messages.iter().map(|m| m.len()).sum::<usize>();
                self.accepted.peer.received(self.accepted.class, frame.messages);
                if self.unanswered >= PROGRESS_BYTES {
                    self.pong();
                }
            }
            Item::Frame(_) | Item::Hello(_) => return None,
        }
        Some(())
    }

    fn pong(&mut self) {
        self.unanswered = 0;
        let pong = v1::Pong { ping: self.ping, messages: self.messages };
        // No room: pongs wait already, and each says the same.
        let _ = self.answers.try_send(Ok(answer(Answer::Pong(pong))));
    }
}

fn answer(item: Answer) -> LinkDown {
    LinkDown { item: Some(item) }
}
