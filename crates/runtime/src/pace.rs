//! How fast this node pulls from each peer: what a replica lacks after a long absence must not take
//! the link from requests. Whoever pulls waits, so that nothing waits at the peer.

use std::collections::BTreeMap;

use meridian_types::{Millis, NodeId};
use parking_lot::Mutex;

/// Bytes of rows a second from a peer of the own datacenter.
pub(crate) const NEAR_BYTES_A_SECOND: u64 = 8 << 20;

/// Bytes of rows a second from a peer of another datacenter: links between them are narrow and
/// paid for.
pub(crate) const FAR_BYTES_A_SECOND: u64 = 2 << 20;

/// Until when the bytes that came from each peer are paid for. All sessions with a peer share it.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<BTreeMap<NodeId, Micros>>);

/// Microseconds of the node's own clock: a row is less than a millisecond's worth.
type Micros = u64;

impl Pace {
    /// Bytes came from a peer.
    pub(crate) fn came(&self, peer: NodeId, bytes: u64, bytes_a_second: u64, now: Millis) {
        let takes = bytes.saturating_mul(1_000_000) / bytes_a_second.max(1);
        let mut peers = self.0.lock();
        let paid = peers.entry(peer).or_default();
        *paid = (*paid).max(now.0.saturating_mul(1_000)).saturating_add(takes);
    }

    /// For how many milliseconds nothing more should be asked for.
    pub(crate) fn pause(&self, peer: NodeId, now: Millis) -> u64 {
        let paid = self.0.lock().get(&peer).copied().unwrap_or_default();
        paid.saturating_sub(now.0.saturating_mul(1_000)) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_waited_for_and_quiet_times_save_nothing_up() {
        let (pace, peer) = (Pace::default(), NodeId(1));
        let came = |now: u64| pace.came(peer, 1 << 20, NEAR_BYTES_A_SECOND, Millis(now));
        assert_eq!(pace.pause(peer, Millis(1_000)), 0);
        came(1_000);
        assert_eq!(pace.pause(peer, Millis(1_000)), 125);
        came(1_000);
        assert_eq!(pace.pause(peer, Millis(1_100)), 150);
        assert_eq!(pace.pause(peer, Millis(2_000)), 0);
        came(60_000);
        assert_eq!(pace.pause(peer, Millis(60_000)), 125);
        assert_eq!(pace.pause(NodeId(2), Millis(60_000)), 0);
    }

    #[test]
    fn many_small_pages_cost_as_much_as_a_large_one() {
        let (pace, peer) = (Pace::default(), NodeId(1));
        for _ in 0..1_024 {
            pace.came(peer, 1_024, NEAR_BYTES_A_SECOND, Millis(5));
        }
        assert!((120..=125).contains(&pace.pause(peer, Millis(5))));
    }
}
