//! Links between simulated nodes: what `transport` promises, without sockets.
//!
//! Every node dials every other once for each class, as the real links do, and a link's state
//! follows from the six streams between two nodes by the same rule. A stream is a line of messages
//! that arrive in order; when it breaks, a suffix of them is lost; who notices that, and when,
//! depends on what broke it:
//!
//! | what | who notices, and when |
//! |---|---|
//! | a way is cut | both ends, by silence; a cut that is shorter costs time only |
//! | a process dies | its peers, a latency later: their streams are closed |
//! | a machine loses power | its peers, by silence, or when it is back and knows nothing of them |
//! | a process is paused | its peers, by silence; itself when it runs again, after its own tasks |
//!
//! Keep-alives are computed when something changes and never sent: a hundred nodes would send 36
//! million of them in ten minutes. [`Datagrams`] are for what streams never do, to reach
//! interleavings quickly: single messages lost, doubled, or out of order, without a `Down`.
//!
//! [`Fabric`] is a machine: events and times in, actions out.

mod fabric;
mod pipe;
mod stream;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use meridian_transport::{Class, LinkOptions, LinkState};
use meridian_types::NodeId;

use super::{Draw, Micros};

pub use fabric::Fabric;

/// As in the transport: the background class is given up only after this many times `down_after`.
const BACKGROUND_PATIENCE: u64 = 4;

/// How long a dial waits that is made because the peer has just dialed.
const REDIAL_WITHIN: Micros = Micros::from_millis(1);

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// How long a message is under way.
    pub latency: Micros,
    /// By how much the latency varies, up and down.
    pub jitter: Micros,
    /// How many messages of a million meet a loss. As TCP sends again, such a one comes a round
    /// trip later and holds up what is behind it.
    pub loss_ppm: u32,
    /// What each stream carries in a second; 0 for as much as its window allows.
    pub bytes_per_second: u64,
    /// Nothing passes.
    pub cut: bool,
    /// What happens to single messages.
    pub datagrams: Datagrams,
}

/// What happens to single messages, of a million, while their stream lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// Lost for good.
    pub lost_ppm: u32,
    /// Received twice.
    pub doubled_ppm: u32,
    /// Late, so that others pass.
    pub late_ppm: u32,
    /// How late at most.
    pub late_by: Micros,
}

impl Way {
    /// How long the next message is under way, and whether it met a loss.
    fn delay(&self, draw: &mut Draw) -> (Micros, bool) {
        let mut delay = self.latency;
        if self.jitter > Micros::ZERO {
            let least = delay - self.jitter;
            delay = Micros(draw.between(least.0, (delay + self.jitter).0));
        }
        let met_a_loss = draw.chance(self.loss_ppm);
        if met_a_loss {
            delay = delay + self.latency + self.latency;
        }
        (delay, met_a_loss)
    }
}

/// The times and bounds of links; see [`LinkOptions`].
#[derive(Clone, Copy, Debug)]
pub struct LinkTiming {
    /// Time between two pings.
    pub keep_alive: Micros,
    /// Silence after which a stream is given up.
    pub down_after: Micros,
    /// Longest attempt to dial.
    pub dial_timeout: Micros,
    /// Least time between two attempts.
    pub backoff_min: Micros,
    /// Most time between two attempts.
    pub backoff_max: Micros,
    /// Most messages that wait for one peer in one class.
    pub queue_messages: usize,
    /// Most bytes that wait for one peer in one class; a single message may be larger.
    pub queue_bytes: usize,
    /// Largest message.
    pub message_bytes: usize,
    /// Bytes that a stream carries in a round trip.
    pub window_bytes: u64,
}

impl From<&LinkOptions> for LinkTiming {
    fn from(options: &LinkOptions) -> Self {
        let micros =
            |time: std::time::Duration| Micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        Self {
            keep_alive: micros(options.keep_alive),
            down_after: micros(options.down_after),
            dial_timeout: micros(options.dial_timeout),
            backoff_min: micros(options.backoff_min),
            backoff_max: micros(options.backoff_max),
            queue_messages: options.queue_messages,
            queue_bytes: options.queue_bytes,
            message_bytes: options.message_bytes,
            window_bytes: options.window_bytes.into(),
        }
    }
}

impl LinkTiming {
    fn patience(&self, class: Class) -> Micros {
        match class {
            Class::Foreground | Class::Control => self.down_after,
            Class::Background => Micros(self.down_after.0.saturating_mul(BACKGROUND_PATIENCE)),
        }
    }
}

/// One stream: the messages of a class from the node that dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    /// The node that dials and sends.
    pub from: NodeId,
    /// The node that is dialed and receives.
    pub to: NodeId,
    /// The class.
    pub class: Class,
}

/// An end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Where it is dialed, and messages are sent.
    Dialer,
    /// Where it is accepted, and messages are received.
    Target,
}

/// Something that happens to a stream at a time that was planned. Those that are outdated by then
/// are known by their number, and do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkEvent {
    /// The stream.
    pub stream: StreamId,
    number: u32,
    happens: Happens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    /// The dialer tries.
    Dial,
    /// The target has the handshake.
    Accepted,
    /// The dialer has the answer to it.
    Opened,
    /// The first of what is under way arrives.
    Arrived,
    /// An end has heard nothing for too long.
    Silent(End),
    /// An end hears again, after a silence that was not too long.
    Heard(End),
    /// The dialer sees that the target closed the stream.
    Closed,
}

impl LinkEvent {
    /// The node that it happens to.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self.happens {
            Happens::Dial
            | Happens::Opened
            | Happens::Closed
            | Happens::Silent(End::Dialer)
            | Happens::Heard(End::Dialer) => self.stream.from,
            Happens::Accepted
            | Happens::Arrived
            | Happens::Silent(End::Target)
            | Happens::Heard(End::Target) => self.stream.to,
        }
    }
}

/// How a node's process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process ends; its machine closes what it had open.
    Process,
    /// The machine stops.
    Power,
}

/// What a node is to be told, as `transport::Inbound` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A message came.
    Received {
        /// The node that is told.
        at: NodeId,
        /// Who sent it.
        from: NodeId,
        /// Its class.
        class: Class,
        /// The message.
        message: Bytes,
    },
    /// A link came up or went down.
    Changed {
        /// The node that is told.
        at: NodeId,
        /// The other node.
        peer: NodeId,
        /// The link now.
        state: LinkState,
    },
}

/// What follows from an event.
#[derive(Debug, Default)]
pub struct LinkActions {
    /// To come back with [`Fabric::step`] at these times.
    pub planned: Vec<(Micros, LinkEvent)>,
    /// To be told now, in this order.
    pub told: Vec<Told>,
}
