//! One peer: which of its streams live, and what follows from that.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meridian_telemetry::span;
use meridian_types::{DcId, Incarnation, NodeId};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::queue::{Queue, QueueBounds};
use crate::{
    Class, ClassStats, Inbound, LinkOptions, LinkProblem, LinkState, Peer, PeerState, PeerStats,
    SendRefused,
};

/// A peer and its streams.
pub(crate) struct PeerLink {
    pub(crate) id: NodeId,
    dc: DcId,
    address: Mutex<Arc<str>>,
    lanes: [Lane; 3],
    inbound: Arc<dyn Inbound>,
    up: AtomicBool,
    round_trip_micros: AtomicU64,
    /// Held while [`Inbound::link_changed`] runs, so that a peer's changes are told in order.
    streams: Mutex<Streams>,
    shown: Mutex<Shown>,
    stop: watch::Sender<bool>,
}

/// One class of messages.
struct Lane {
    queue: Arc<Queue>,
    /// Tells the dialing task not to wait any longer.
    redial: Notify,
    received_messages: AtomicU64,
    received_bytes: AtomicU64,
}

/// The streams that live.
struct Streams {
    /// Those that this node dialed and whose handshake is done: the peer's incarnation.
    dialed: [Option<Incarnation>; 3],
    /// Those that the peer dialed.
    accepted: [Option<Accepted>; 3],
    next_number: u64,
    state: LinkState,
}

struct Accepted {
    number: u64,
    incarnation: Incarnation,
    /// Whether something came after the handshake: the peer then knows that it was accepted, and
    /// takes messages to this node.
    proven: bool,
    replaced: Arc<Notify>,
}

struct Shown {
    state: LinkState,
    since: Instant,
    ups: u64,
    problem: Option<LinkProblem>,
}

/// A stream that the peer dialed; dropped, it has ended.
pub(crate) struct AcceptedStream {
    pub(crate) peer: Arc<PeerLink>,
    pub(crate) class: Class,
    number: u64,
    /// Notified when the peer has dialed again: then it has given this stream up.
    pub(crate) replaced: Arc<Notify>,
}

/// A stream that this node dialed; dropped, it has ended.
pub(crate) struct DialedStream {
    peer: Arc<PeerLink>,
    class: Class,
}

impl PeerLink {
    pub(crate) fn new(peer: Peer, options: &LinkOptions, inbound: Arc<dyn Inbound>) -> Arc<Self> {
        let bounds = QueueBounds::from(options);
        Arc::new(Self {
            id: peer.id,
            dc: peer.dc,
            address: Mutex::new(peer.address.into()),
            lanes: Class::EVERY.map(|_| Lane {
                queue: Queue::new(bounds),
                redial: Notify::new(),
                received_messages: AtomicU64::new(0),
                received_bytes: AtomicU64::new(0),
            }),
            inbound,
            up: AtomicBool::new(false),
            round_trip_micros: AtomicU64::new(0),
            streams: Mutex::new(Streams {
                dialed: [None; 3],
                accepted: [const { None }; 3],
                next_number: 0,
                state: LinkState::Down,
            }),
            shown: Mutex::new(Shown {
                state: LinkState::Down,
                since: Instant::now(),
                ups: 0,
                problem: None,
            }),
            stop: watch::Sender::new(false),
        })
    }

    pub(crate) fn address(&self) -> Arc<str> {
        Arc::clone(&self.address.lock())
    }

    pub(crate) fn dc(&self) -> DcId {
        self.dc
    }

    /// Moves the peer. Streams to the old address live on as long as somebody answers there.
    pub(crate) fn set_address(&self, address: &str) {
        let mut known = self.address.lock();
        if &**known != address {
            *known = address.into();
            drop(known);
            self.redial_now();
        }
    }

    pub(crate) fn queue(&self, class: Class) -> &Arc<Queue> {
        &self.lanes[class.index()].queue
    }

    pub(crate) fn send(&self, class: Class, message: Bytes) -> Result<(), SendRefused> {
        self.queue(class).push(message)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Ends every stream and all that serves them.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    pub(crate) async fn stopped(&self) {
        // An error would say that the sender is gone, and it is a part of `self`.
        let _ = self.stop.subscribe().wait_for(|stopped| *stopped).await;
    }

    pub(crate) async fn redial_wanted(&self, class: Class) {
        self.lanes[class.index()].redial.notified().await;
    }

    fn redial_now(&self) {
        for lane in &self.lanes {
            lane.redial.notify_one();
        }
    }

    /// Hands messages that were received to whoever understands them.
    pub(crate) fn received(&self, class: Class, messages: Vec<Bytes>) {
        let lane = &self.lanes[class.index()];
        let bytes: usize = messages.iter().map(Bytes::len).sum();
        lane.received_messages.fetch_add(messages.len() as u64, Ordering::Relaxed);
        lane.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        for message in messages {
            self.inbound.received(self.id, class, message);
        }
    }

    pub(crate) fn set_round_trip(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.round_trip_micros.store(micros, Ordering::Relaxed);
    }

    pub(crate) fn dialed(self: &Arc<Self>, class: Class, incarnation: Incarnation) -> DialedStream {
        self.shown.lock().problem = None;
        self.change(|streams| streams.dialed[class.index()] = Some(incarnation));
        DialedStream { peer: Arc::clone(self), class }
    }

    /// The peer dialed. A stream of this class that it dialed before is not its any more.
    pub(crate) fn accepted(
        self: &Arc<Self>,
        class: Class,
        incarnation: Incarnation,
    ) -> AcceptedStream {
        let before = self.change(|streams| streams.accepted[class.index()].take());
        if let Some(before) = before {
            before.replaced.notify_one();
        }
        let replaced = Arc::new(Notify::new());
        let number = self.change(|streams| {
            streams.next_number += 1;
            let number = streams.next_number;
            streams.accepted[class.index()] = Some(Accepted {
                number,
                incarnation,
                proven: false,
                replaced: Arc::clone(&replaced),
            });
            number
        });
        // It can be reached, very likely, so there is no point in waiting.
        self.redial_now();
        AcceptedStream { peer: Arc::clone(self), class, number, replaced }
    }

    /// Changes the streams, and tells what follows.
    fn change<T>(&self, change: impl FnOnce(&mut Streams) -> T) -> T {
        let mut streams = self.streams.lock();
        let result = change(&mut streams);
        let (before, now) = (streams.state, streams.judge());
        if before != now {
            if before != LinkState::Down && now != LinkState::Down {
                self.tell(LinkState::Down);
            }
            self.tell(now);
            streams.state = now;
        }
        result
    }

    fn tell(&self, state: LinkState) {
        let up = state != LinkState::Down;
        self.up.store(up, Ordering::Release);
        {
            let mut shown = self.shown.lock();
            shown.state = state;
            shown.since = Instant::now();
            shown.ups += u64::from(up);
        }
        match state {
            LinkState::Up { incarnation } => tracing::info!(
                { span::PEER } = %self.id,
                incarnation = format_args!("{:016x}", incarnation.0),
                "link is up"
            ),
            LinkState::Down => tracing::info!({ span::PEER } = %self.id, "link is down"),
        }
        self.inbound.link_changed(self.id, state);
    }

    /// Notes why the peer cannot be dialed. What an operator must see to is logged once, until
    /// something else is wrong or nothing is.
    pub(crate) fn note(&self, problem: LinkProblem) {
        let mut shown = self.shown.lock();
        if shown.problem.as_ref() != Some(&problem) {
            let (peer, address) = (self.id, self.address());
            if problem.needs_operator() {
                tracing::warn!({ span::PEER } = %peer, %address, "no link: the peer {problem}");
            } else {
                tracing::debug!({ span::PEER } = %peer, %address, "no link: {problem}");
            }
        }
        shown.problem = Some(problem);
    }

    pub(crate) fn state(&self) -> PeerState {
        let micros = self.round_trip_micros.load(Ordering::Relaxed);
        let shown = self.shown.lock();
        PeerState {
            id: self.id,
            address: self.address().to_string(),
            dc: self.dc,
            state: shown.state,
            lasted: shown.since.elapsed(),
            problem: shown.problem.clone(),
            round_trip: (micros > 0).then(|| Duration::from_micros(micros)),
        }
    }

    pub(crate) fn stats(&self) -> PeerStats {
        let of = |class: Class| {
            let lane = &self.lanes[class.index()];
            let stats = ClassStats {
                received_messages: lane.received_messages.load(Ordering::Relaxed),
                received_bytes: lane.received_bytes.load(Ordering::Relaxed),
                ..lane.queue.stats()
            };
            (class, stats)
        };
        let ups = self.shown.lock().ups;
        PeerStats { id: self.id, ups, classes: Class::EVERY.map(of) }
    }
}

impl Streams {
    /// Up means: every class in both directions, and all with the same life of the peer.
    fn judge(&self) -> LinkState {
        let Some(incarnation) = self.dialed[0] else {
            return LinkState::Down;
        };
        let out = self.dialed.iter().all(|dialed| *dialed == Some(incarnation));
        let back = self.accepted.iter().all(|accepted| {
            accepted.as_ref().is_some_and(|a| a.proven && a.incarnation == incarnation)
        });
        if out && back { LinkState::Up { incarnation } } else { LinkState::Down }
    }
}

impl AcceptedStream {
    /// Something came after the handshake.
    pub(crate) fn prove(&self) {
        self.change(|accepted| {
            if let Some(accepted) = accepted {
                accepted.proven = true;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Option<Accepted>)) {
        self.peer.change(|streams| {
            let accepted = &mut streams.accepted[self.class.index()];
            if accepted.as_ref().is_some_and(|accepted| accepted.number == self.number) {
                change(accepted);
            }
        });
    }
}

impl Drop for AcceptedStream {
    fn drop(&mut self) {
        self.change(|accepted| *accepted = None);
    }
}

impl Drop for DialedStream {
    fn drop(&mut self) {
        self.peer.change(|streams| streams.dialed[self.class.index()] = None);
    }
}
