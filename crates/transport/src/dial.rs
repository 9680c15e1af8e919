//! The side of a stream that dials: connects, introduces itself, pings, and dials again.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use meridian_types::{Incarnation, NodeId};
use meridian_wire::v1::link_down::Item;
use meridian_wire::v1::link_refused::Reason;
use meridian_wire::v1::links_client::LinksClient;
use meridian_wire::v1::{self, LinkDown};
use meridian_wire::{causes, why};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Status, Streaming};

use crate::backoff::Backoff;
use crate::peer::PeerLink;
use crate::queue::Attached;
use crate::silence::Silence;
use crate::{Class, HandshakeRefusal, LinkOptions, LinkProblem, Sockets};

/// Largest item that comes back on a stream that was dialed: handshakes and pongs.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// The name that the far side sees; nodes are told apart by their handshakes.
const ORIGIN: &str = "http://peer.meridian";

/// Keeps the stream of one class to one peer, until the peer is stopped.
pub(crate) struct Dialer {
    pub(crate) options: Arc<LinkOptions>,
    pub(crate) sockets: Arc<dyn Sockets>,
    pub(crate) peer: Arc<PeerLink>,
    pub(crate) class: Class,
}

/// A stream whose handshake is done.
struct Established {
    // The order of these is the order in which they end: first nothing more is taken, then it is
    // told, then the socket is closed.
    attached: Attached,
    answers: Streaming<LinkDown>,
    incarnation: Incarnation,
    _connection: Connection,
}

impl Dialer {
    pub(crate) async fn run(self) {
        let seed = self.options.seed ^ u64::from(self.peer.id.0) << 8 ^ self.class.index() as u64;
        let mut backoff = Backoff::new(self.options.backoff_min, self.options.backoff_max, seed);
        let keep = async {
            loop {
                let (lived, problem) = self.live().await;
                if lived {
                    backoff.reset();
                }
                self.peer.note(problem);
                tokio::select! {
                    () = sleep(backoff.next_delay()) => {}
                    () = self.peer.redial_wanted(self.class) => {}
                }
            }
        };
        tokio::select! {
            () = self.peer.stopped() => {}
            () = keep => {}
        }
    }

    /// One stream from its beginning to its end: whether there was one, and what ended it.
    async fn live(&self) -> (bool, LinkProblem) {
        match timeout(self.options.dial_timeout, self.establish()).await {
            Err(_) => (false, LinkProblem::NotReached("no answer in time".into())),
            Ok(Err(problem)) => (false, problem),
            Ok(Ok(established)) => (true, self.keep(established).await),
        }
    }

    async fn establish(&self) -> Result<Established, LinkProblem> {
        let (sender, connection) = self.connect().await?;
        let (attached, items) = self.peer.queue(self.class).attach(self.hello());
        let mut client = LinksClient::with_origin(sender, http::Uri::from_static(ORIGIN))
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(self.options.largest_frame());
        let answers = client.open(items).await.map_err(|status| broken(&status))?;
        let mut answers = answers.into_inner();
        let incarnation = match answers.message().await.map_err(|status| broken(&status))? {
            Some(LinkDown { item: Some(Item::Welcome(welcome)) }) => self.welcomed(&welcome)?,
            Some(LinkDown { item: Some(Item::Refused(refused)) }) => {
                return Err(LinkProblem::Refused(self.refused(refused)));
            }
            _ => return Err(LinkProblem::Refused(HandshakeRefusal::Malformed)),
        };
        Ok(Established { attached, answers, incarnation, _connection: connection })
    }

    async fn connect(&self) -> Result<(Sender, Connection), LinkProblem> {
        let not_reached = |why: &dyn Error| LinkProblem::NotReached(causes(why));
        let address = self.peer.address();
        let socket = self.sockets.connect(&address).await.map_err(|why| not_reached(&why))?;
        let window = self.options.window_bytes;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(window)
            .keep_alive_interval(self.options.keep_alive * 2)
            .keep_alive_timeout(self.options.patience(self.class))
            .keep_alive_while_idle(true);
        let io = TokioIo::new(socket);
        let (sender, connection) = builder.handshake(io).await.map_err(|why| not_reached(&why))?;
        let task = tokio::spawn(async move {
            // What broke it is seen by the stream that runs on it.
            let _ = connection.await;
        });
        Ok((Sender(sender), Connection(task)))
    }

    fn hello(&self) -> v1::Hello {
        let ours = &self.options.handshake;
        v1::Hello {
            protocol: ours.protocol,
            cluster: ours.cluster.clone(),
            from: ours.node.0,
            to: self.peer.id.0,
            incarnation: ours.incarnation.0,
            class: self.class.to_wire().into(),
        }
    }

    fn welcomed(&self, welcome: &v1::Welcome) -> Result<Incarnation, LinkProblem> {
        let (wanted, found) = (self.peer.id, NodeId(welcome.node));
        if wanted != found {
            return Err(LinkProblem::Refused(HandshakeRefusal::OtherNode { wanted, found }));
        }
        Ok(Incarnation(welcome.incarnation))
    }

    fn refused(&self, refused: v1::LinkRefused) -> HandshakeRefusal {
        let ours = &self.options.handshake;
        match refused.reason() {
            Reason::OtherProtocol => {
                HandshakeRefusal::OtherProtocol { ours: ours.protocol, theirs: refused.protocol }
            }
            Reason::OtherCluster => HandshakeRefusal::OtherCluster {
                ours: ours.cluster.clone(),
                theirs: refused.cluster,
            },
            Reason::OtherNode => {
                HandshakeRefusal::OtherNode { wanted: self.peer.id, found: NodeId(refused.node) }
            }
            Reason::UnknownPeer => HandshakeRefusal::UnknownPeer,
            Reason::Malformed | Reason::Unspecified => HandshakeRefusal::Malformed,
        }
    }

    /// Pings until nothing answers any more.
    async fn keep(&self, established: Established) -> LinkProblem {
        let Established { attached, mut answers, incarnation, _connection } = established;
        // Messages are taken from before the first ping: once the peer has that, it counts on
        // answers.
        attached.open();
        let _dialed = self.peer.dialed(self.class, incarnation);
        let patience = self.options.patience(self.class);
        let mut silence = Silence::new(patience, self.options.keep_alive, Instant::now());
        let mut pace = interval(self.options.keep_alive);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = (0, Instant::now());
        loop {
            tokio::select! {
                biased;
                answer = answers.message() => match answer {
                    Ok(Some(LinkDown { item: Some(Item::Pong(pong)) })) => {
                        let now = Instant::now();
                        silence.heard(now);
                        if self.class == Class::Control && pong.ping == last.0 {
                            self.peer.set_round_trip(now - last.1);
                        }
                    }
                    Ok(Some(_)) => silence.heard(Instant::now()),
                    Ok(None) => return LinkProblem::Broken("closed by the peer".into()),
                    Err(status) => return broken(&status),
                },
                () = sleep_until(silence.due()) => {
                    if silence.is_too_long(Instant::now()) {
                        return LinkProblem::Silent;
                    }
                }
                _ = pace.tick() => {
                    last = (last.0 + 1, Instant::now());
                    attached.ping(last.0);
                }
            }
        }
    }
}

/// The requests of one connection.
struct Sender(http2::SendRequest<Body>);

impl Service<http::Request<Body>> for Sender {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// The task that moves a connection's bytes. Dropped, the socket is closed at once: a connection
/// that is silent would not notice a polite end.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn broken(status: &Status) -> LinkProblem {
    LinkProblem::Broken(why(status))
}
