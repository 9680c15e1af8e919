//! Who is alive, as far as this node's links tell.
//!
//! Until there is a failure detector by gossip, a node is alive while the keep-alive of both
//! directions of its link is answered.

use std::collections::BTreeMap;

use meridian_types::{Incarnation, Millis, NodeId};

/// What the links report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The peer answers, in both directions.
    Up {
        /// Who.
        peer: NodeId,
        /// Its incarnation, from the handshake.
        incarnation: Incarnation,
    },
    /// The peer does not answer, or not in both directions.
    Down {
        /// Who.
        peer: NodeId,
    },
}

/// A change of what is thought of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessChange {
    /// It can be reached.
    Rose {
        /// Who.
        node: NodeId,
        /// Whether it is in another life than when it was last seen. What was under way to it is
        /// lost.
        restarted: bool,
    },
    /// It cannot be reached.
    Fell {
        /// Who.
        node: NodeId,
    },
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Whether it can be reached.
    pub alive: bool,
    /// Since when it is, or is not.
    pub since: Millis,
    /// Its incarnation, if it was ever heard of.
    pub incarnation: Option<Incarnation>,
}

/// The peers of a node. The node itself is always alive.
#[derive(Clone, Debug)]
pub struct Liveness {
    me: NodeId,
    peers: BTreeMap<NodeId, Peer>,
}

impl Liveness {
    /// Peers that nothing is known of yet: not alive.
    #[must_use]
    pub fn new(me: NodeId, peers: impl IntoIterator<Item = NodeId>, now: Millis) -> Self {
        let unknown = Peer { alive: false, since: now, incarnation: None };
        let peers = peers.into_iter().filter(|&peer| peer != me).map(|peer| (peer, unknown));
        Self { me, peers: peers.collect() }
    }

    /// Takes note of a link event; what changed. Links repeat themselves, and report only nodes
    /// that they were told of; a peer that is new here is taken in.
    pub fn step(&mut self, event: LinkEvent, now: Millis) -> Option<LivenessChange> {
        match event {
            LinkEvent::Up { peer, .. } | LinkEvent::Down { peer } if peer == self.me => None,
            LinkEvent::Up { peer: node, incarnation } => {
                let unknown = Peer { alive: false, since: now, incarnation: None };
                let peer = self.peers.entry(node).or_insert(unknown);
                let before = peer.incarnation.replace(incarnation);
                let restarted = before.is_some_and(|before| before != incarnation);
                if peer.alive && !restarted {
                    return None;
                }
                (peer.alive, peer.since) = (true, now);
                Some(LivenessChange::Rose { node, restarted })
            }
            LinkEvent::Down { peer: node } => {
                let peer = self.peers.get_mut(&node).filter(|peer| peer.alive)?;
                (peer.alive, peer.since) = (false, now);
                Some(LivenessChange::Fell { node })
            }
        }
    }

    /// Whether a node can be reached.
    #[must_use]
    pub fn is_alive(&self, node: NodeId) -> bool {
        node == self.me || self.peers.get(&node).is_some_and(|peer| peer.alive)
    }

    /// What is known of a peer.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    /// All peers, by number.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(&node, peer)| (node, peer))
    }

    /// Who is alive now, for the data path.
    #[must_use]
    pub fn view(&self) -> AliveView {
        let mut nodes: Vec<NodeId> =
            self.peers().filter(|(_, p)| p.alive).map(|(n, _)| n).collect();
        nodes.push(self.me);
        nodes.sort_unstable();
        AliveView(nodes.into())
    }
}

/// Who was alive at one moment: a value for plans to read without a lock. Made anew at every
/// change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AliveView(Box<[NodeId]>);

impl AliveView {
    /// Whether a node could be reached.
    #[inline]
    #[must_use]
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.0.binary_search(&node).is_ok()
    }

    /// The nodes that could be reached, by number, the own one among them.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);
    const PEER: NodeId = NodeId(2);

    fn up(incarnation: u64) -> LinkEvent {
        LinkEvent::Up { peer: PEER, incarnation: Incarnation(incarnation) }
    }

    #[test]
    fn a_peer_rises_once_and_falls_once() {
        let mut live = Liveness::new(ME, [ME, PEER], Millis(5));
        assert!(live.is_alive(ME) && !live.is_alive(PEER));
        assert_eq!(live.step(LinkEvent::Down { peer: PEER }, Millis(6)), None);
        let rose = LivenessChange::Rose { node: PEER, restarted: false };
        assert_eq!(live.step(up(1), Millis(7)), Some(rose));
        assert_eq!(live.step(up(1), Millis(8)), None);
        assert_eq!(live.peer(PEER).unwrap().since, Millis(7));
        assert_eq!(live.view().nodes(), [ME, PEER]);
        let fell = LivenessChange::Fell { node: PEER };
        assert_eq!(live.step(LinkEvent::Down { peer: PEER }, Millis(9)), Some(fell));
        assert_eq!(live.step(LinkEvent::Down { peer: PEER }, Millis(10)), None);
        assert_eq!(live.peer(PEER).unwrap().since, Millis(9));
        assert!(!live.view().is_alive(PEER) && live.view().is_alive(ME));
        assert_eq!(live.step(up(1), Millis(11)), Some(rose));
    }

    #[test]
    fn a_new_incarnation_is_news_even_while_the_link_is_up() {
        let mut live = Liveness::new(ME, [PEER], Millis(0));
        live.step(up(1), Millis(1));
        let again = LivenessChange::Rose { node: PEER, restarted: true };
        assert_eq!(live.step(up(2), Millis(2)), Some(again));
        assert_eq!(live.peer(PEER).unwrap().incarnation, Some(Incarnation(2)));
    }

    #[test]
    fn a_link_to_itself_and_nodes_nobody_knows_are_not_alive() {
        let mut live = Liveness::new(ME, [PEER], Millis(0));
        assert_eq!(live.step(LinkEvent::Down { peer: ME }, Millis(1)), None);
        assert!(live.is_alive(ME) && !live.is_alive(NodeId(9)));
    }
}
