//! All streams between all nodes, and what nodes are told of them.

mod stream_life;

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_transport::{Class, ClassStats, LinkState, SendRefused};
use meridian_types::{Incarnation, NodeId};

use super::super::{Draw, Micros};
use super::pipe::On;
use super::stream::{Dialer, Stream};
use super::{
    Death, End, Happens, LinkActions, LinkEvent, LinkTiming, REDIAL_WITHIN, StreamId, Told, Way,
};

/// The links of a simulated world.
///
/// Everything is told at `now`, which must not go back.
#[derive(Debug)]
pub struct Fabric {
    pub(super) timing: LinkTiming,
    draw: Draw,
    hosts: BTreeMap<NodeId, Host>,
    ways: BTreeMap<(NodeId, NodeId), Way>,
    streams: BTreeMap<StreamId, Stream>,
    /// By the node that was told, and its peer.
    told: BTreeMap<(NodeId, NodeId), LinkState>,
    #[cfg(test)]
    pub(super) broken: Option<super::tests::Broken>,
}

/// Where a node runs, or would.
#[derive(Debug)]
struct Host {
    incarnation: Incarnation,
    status: Status,
    /// What happened to a frozen node, in order: it sees that when it runs again. At most a few for
    /// each stream.
    unseen: Vec<LinkEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Running,
    Frozen,
    Stopped,
    PoweredOff,
}

impl Fabric {
    /// Links between all nodes that have ways to each other. No node runs yet.
    #[must_use]
    pub fn new(timing: LinkTiming, draw: Draw, ways: BTreeMap<(NodeId, NodeId), Way>) -> Self {
        let (mut hosts, mut streams) = (BTreeMap::new(), BTreeMap::new());
        for &(from, to) in ways.keys() {
            for node in [from, to] {
                let (incarnation, status) = (Incarnation(0), Status::Stopped);
                hosts.insert(node, Host { incarnation, status, unseen: Vec::new() });
            }
            for class in Class::EVERY {
                streams.insert(StreamId { from, to, class }, Stream::default());
            }
        }
        Self {
            timing,
            draw,
            hosts,
            ways,
            streams,
            told: BTreeMap::new(),
            #[cfg(test)]
            broken: None,
        }
    }

    /// A node's process starts, with a new life.
    pub fn start(
        &mut self,
        now: Micros,
        node: NodeId,
        incarnation: Incarnation,
        out: &mut LinkActions,
    ) {
        if let Some(host) = self.hosts.get_mut(&node) {
            *host = Host { incarnation, status: Status::Running, unseen: Vec::new() };
        }
        for id in self.streams_of(node) {
            if id.from == node {
                self.plan_dial(now, id, REDIAL_WITHIN, out);
            }
            self.review(now, id, out);
        }
    }

    /// A node's process ends. It is told nothing any more.
    pub fn stop(&mut self, now: Micros, node: NodeId, death: Death, out: &mut LinkActions) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.status = match death {
                Death::Process => Status::Stopped,
                Death::Power => Status::PoweredOff,
            };
            host.unseen.clear();
        }
        self.told.retain(|(at, _), _| *at != node);
        for id in self.streams_of(node) {
            if id.from == node {
                self.stop_dialer(now, id, death, out);
            } else {
                self.stop_target(now, id, death, out);
            }
            self.review(now, id, out);
        }
    }

    /// A node's process is paused. Whoever calls keeps its tasks from running.
    pub fn freeze(&mut self, now: Micros, node: NodeId, out: &mut LinkActions) {
        self.turn(now, node, Status::Running, Status::Frozen, out);
    }

    /// A node's process goes on, and what it missed is planned for now: tasks that are ready by
    /// then run before.
    pub fn thaw(&mut self, now: Micros, node: NodeId, out: &mut LinkActions) {
        if !self.turn(now, node, Status::Frozen, Status::Running, out) {
            return;
        }
        let unseen = self.hosts.get_mut(&node).map(|host| std::mem::take(&mut host.unseen));
        for event in unseen.into_iter().flatten() {
            // It reads what came meanwhile before it judges that nothing came.
            let judges = matches!(event.happens, Happens::Silent(_));
            let at = if judges { now + self.timing.keep_alive } else { now };
            out.planned.push((at, event));
        }
    }

    fn turn(
        &mut self,
        now: Micros,
        node: NodeId,
        from: Status,
        to: Status,
        out: &mut LinkActions,
    ) -> bool {
        match self.hosts.get_mut(&node) {
            Some(host) if host.status == from => host.status = to,
            _ => return false,
        }
        for id in self.streams_of(node) {
            self.review(now, id, out);
        }
        true
    }

    /// Changes one direction between two nodes. What is under way keeps its time, unless the way is
    /// cut or opened.
    pub fn change(
        &mut self,
        now: Micros,
        from: NodeId,
        to: NodeId,
        change: impl FnOnce(&mut Way),
        out: &mut LinkActions,
    ) {
        let Some(way) = self.ways.get_mut(&(from, to)) else { return };
        change(way);
        for class in Class::EVERY {
            self.review(now, StreamId { from, to, class }, out);
            self.review(now, StreamId { from: to, to: from, class }, out);
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As the transport refuses: the message will not be sent.
    pub fn send(
        &mut self,
        now: Micros,
        id: StreamId,
        message: Bytes,
        out: &mut LinkActions,
    ) -> Result<(), SendRefused> {
        let (bytes, limit) = (message.len(), self.timing.message_bytes);
        let on = on(&self.ways, &self.timing, id).ok_or(SendRefused::UnknownPeer)?;
        let stream = self.streams.get_mut(&id).ok_or(SendRefused::UnknownPeer)?;
        if bytes > limit {
            return Err(SendRefused::TooLarge { bytes, limit });
        }
        if !stream.is_open(End::Dialer) {
            stream.stats.refused_down += 1;
            return Err(SendRefused::Down);
        }
        if stream.pipe.is_full(now, bytes, &self.timing) {
            stream.stats.refused_full += 1;
            return Err(SendRefused::Full);
        }
        stream.stats.sent_messages += 1;
        stream.stats.sent_bytes += bytes as u64;
        // Nobody reads any more, which the sender does not know yet.
        let passes = stream.accepted.is_some()
            && stream.pipe.push_datagram(now, message, &on, &mut self.draw);
        stream.stats.dropped_messages += u64::from(!passes);
        plan_arrival(now, id, stream, out);
        Ok(())
    }

    /// Something that was planned happens.
    pub fn step(&mut self, now: Micros, event: LinkEvent, out: &mut LinkActions) {
        let LinkEvent { stream: id, number, happens } = event;
        match self.hosts.get_mut(&event.node()) {
            Some(host) if host.status == Status::Frozen => return host.unseen.push(event),
            Some(host) if host.status == Status::Running => {}
            _ => return,
        }
        match happens {
            Happens::Dial => self.dial(now, id, number, out),
            Happens::Accepted => self.accept(now, id, number, out),
            Happens::Opened => self.open(now, id, number, out),
            Happens::Arrived => self.arrive(now, id, number, out),
            Happens::Silent(end) => self.silent(now, id, end, number, out),
            Happens::Heard(end) => self.heard(now, id, end, number, out),
            Happens::Closed => {
                let stream = self.streams.get(&id);
                let same = stream.is_some_and(|stream| stream.number == number);
                // Nothing passes a cut; then silence tells, or the next word after it.
                if same && !self.is_cut(id.to, id.from) {
                    self.break_dialer(now, id, out);
                }
            }
        }
    }

    /// A link as a node was told of it.
    #[must_use]
    pub fn state(&self, at: NodeId, peer: NodeId) -> LinkState {
        self.told.get(&(at, peer)).copied().unwrap_or(LinkState::Down)
    }

    /// What was sent on a stream. What was received is counted at the target, so here as well.
    #[must_use]
    pub fn stats(&self, id: StreamId) -> Option<ClassStats> {
        self.streams.get(&id).map(|stream| stream.stats)
    }

    /// How many messages of a stream chance has made late, lost or double.
    #[must_use]
    pub fn disturbed(&self, id: StreamId) -> u64 {
        self.streams.get(&id).map_or(0, |stream| stream.pipe.disturbed)
    }

    /// Whether nothing that an end waits for can come.
    fn is_deaf(&self, id: StreamId, end: End) -> bool {
        let mute = |node| {
            let status = self.hosts.get(&node).map(|host| host.status);
            matches!(status, Some(Status::Frozen | Status::PoweredOff))
        };
        match end {
            End::Target => self.is_cut(id.from, id.to) || mute(id.from),
            // A pong needs its ping.
            End::Dialer => {
                self.is_cut(id.from, id.to) || self.is_cut(id.to, id.from) || mute(id.to)
            }
        }
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.ways.get(&(from, to)).is_none_or(|way| way.cut)
    }

    fn is_reachable(&self, id: StreamId) -> bool {
        let runs = |node| self.hosts.get(&node).is_some_and(|h| h.status == Status::Running);
        let open = !self.is_cut(id.from, id.to) && !self.is_cut(id.to, id.from);
        open && runs(id.from) && runs(id.to)
    }

    fn streams_of(&self, node: NodeId) -> Vec<StreamId> {
        self.streams.keys().filter(|id| id.from == node || id.to == node).copied().collect()
    }

    /// Tells a node what has become of a link. Up means: every class in both directions, and all
    /// with the same life of the peer.
    fn judge(&mut self, at: NodeId, peer: NodeId, out: &mut LinkActions) {
        let (before, now) = (self.state(at, peer), self.present(at, peer));
        if before == now {
            return;
        }
        let mut tell = |state| out.told.push(Told::Changed { at, peer, state });
        if before != LinkState::Down && now != LinkState::Down {
            tell(LinkState::Down);
        }
        if now != LinkState::Down || !self.keeps_breaks_to_itself() {
            tell(now);
        }
        self.told.insert((at, peer), now);
    }

    fn present(&self, at: NodeId, peer: NodeId) -> LinkState {
        let mut life = None;
        for class in Class::EVERY {
            let there = self.streams.get(&StreamId { from: at, to: peer, class });
            let back = self.streams.get(&StreamId { from: peer, to: at, class });
            let (Some(there), Some(back)) = (there, back) else { return LinkState::Down };
            let (Dialer::Open(dialed), Some(accepted)) = (there.dialer, back.accepted) else {
                return LinkState::Down;
            };
            let same = life.is_none_or(|life| life == dialed);
            if !same || !accepted.proven || accepted.incarnation != dialed {
                return LinkState::Down;
            }
            life = Some(dialed);
        }
        life.map_or(LinkState::Down, |incarnation| LinkState::Up { incarnation })
    }

    /// Which attempt to dial an end's stream came from.
    #[cfg(test)]
    pub(super) fn attempt(&self, id: StreamId, end: End) -> Option<u32> {
        let stream = self.streams.get(&id)?;
        match end {
            End::Dialer => stream.is_open(end).then_some(stream.number),
            End::Target => stream.accepted.map(|accepted| accepted.number),
        }
    }

    /// A rule that a test breaks.
    #[cfg(test)]
    fn delivers_after_break(&self) -> bool {
        self.broken == Some(super::tests::Broken::DeliverAfterBreak)
    }

    #[cfg(not(test))]
    fn delivers_after_break(&self) -> bool {
        false
    }

    /// A rule that a test breaks.
    #[cfg(test)]
    fn keeps_breaks_to_itself(&self) -> bool {
        self.broken == Some(super::tests::Broken::UpWithoutDown)
    }

    #[cfg(not(test))]
    fn keeps_breaks_to_itself(&self) -> bool {
        false
    }
}

fn on<'a>(
    ways: &'a BTreeMap<(NodeId, NodeId), Way>,
    timing: &LinkTiming,
    id: StreamId,
) -> Option<On<'a>> {
    let way = ways.get(&(id.from, id.to))?;
    Some(On { way, round_trip: round_trip(ways, id), window: timing.window_bytes })
}

fn round_trip(ways: &BTreeMap<(NodeId, NodeId), Way>, id: StreamId) -> Micros {
    let latency = |from, to| ways.get(&(from, to)).map_or(Micros::ZERO, |way| way.latency);
    latency(id.from, id.to) + latency(id.to, id.from)
}

fn plan(at: Micros, stream: StreamId, number: u32, happens: Happens, out: &mut LinkActions) {
    out.planned.push((at, LinkEvent { stream, number, happens }));
}

/// Plans the next arrival. A node that was frozen gets in the present what arrived in the past.
fn plan_arrival(now: Micros, id: StreamId, stream: &mut Stream, out: &mut LinkActions) {
    if let Some(at) = stream.pipe.plan() {
        plan(at.max(now), id, stream.pipe.number, Happens::Arrived, out);
    }
}
