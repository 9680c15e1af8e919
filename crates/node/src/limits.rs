//! Every queue of the control plane, and its bound.

/// Hints to one replica that are under way at once, at most. A receiver that refuses halves its
/// own window; 64 is one frame of the link.
pub const HINT_WINDOW: usize = 64;

/// Replicas that hints are delivered to at once. With [`HINT_WINDOW`] it bounds the hints under
/// way on a node: 1,024.
pub const HINT_TARGETS: usize = 16;

/// Hints that are loaded from the log at a time, for one replica.
pub const HINT_PAGE: usize = 256;

/// Delivered hints of one replica that are removed from the log together, at most: a removal is a
/// write, so it is worth batching; a crash before it delivers them again, which changes nothing.
pub const HINT_REMOVALS: usize = 64;

/// How long a hint may be under way before it counts as refused, in milliseconds.
pub const HINT_TIMEOUT_MS: u64 = 10_000;

/// The first and the longest pause after a replica refused a hint, in milliseconds.
pub const HINT_BACKOFF_MS: (u64, u64) = (200, 60_000);

/// How often each keyspace is compared with each peer, in milliseconds, unless there are so many
/// that [`COMPARE_GAP_MS`] stretches it.
pub const COMPARE_INTERVAL_MS: u64 = 3_000;

/// The shortest pause between two comparisons, in milliseconds: a node with many peers and
/// keyspaces makes at most 50 a second.
pub const COMPARE_GAP_MS: u64 = 20;

/// How many times as long the interval becomes while nothing differs and nothing is written: what
/// goes wrong unseen in an idle cluster is found a little later.
pub const IDLE_STRETCH: u64 = 5;

/// How long after a link came up the second of its two nodes compares, in milliseconds, if it heard
/// nothing of the first: longer than most links need for a message.
pub const COMPARE_SECOND_MS: u64 = 400;

/// How long a comparison may take before it is given up, in milliseconds.
pub const COMPARE_TIMEOUT_MS: u64 = 10_000;

/// Pull sessions at once. Each holds a page of rows in memory, and locks one vnode at a time.
pub const PULLS_AT_ONCE: usize = 4;

/// Vnodes whose rows are asked for together: their clocks are some kilobytes.
pub const PULL_BATCH: usize = 64;

/// Vnodes that wait to be pulled. What finds no room is found again by the next comparison.
pub const QUEUED_PULLS: usize = 4_096;

/// Pulls at once for vnodes that may have lost something, besides those of anti-entropy.
pub const REBUILD_PULLS_AT_ONCE: usize = 4;

/// How often replicas are asked whether they can prove anything by now, for vnodes that nobody was
/// left for, in milliseconds.
pub const REBUILD_AGAIN_MS: u64 = 5_000;

/// The first and the longest pause after a comparison or a pull failed that makes good what may be
/// lost, in milliseconds.
pub const REBUILD_BACKOFF_MS: (u64, u64) = (100, 10_000);

/// Vnodes whose replicas are asked at once what may be forgotten: an answer of each is a clock and a
/// few promises, so a message stays below some ten kilobytes.
pub const FORGETTING_ROUND: usize = 64;

/// Vnodes that are left alone for a while because a walk left something in them. Of what finds no
/// room it is not remembered, and it is walked through again in the next round.
pub const FORGETTING_RESTING: usize = 16_384;

/// How many intervals a vnode is left alone at most that was walked through for nothing again and
/// again.
pub const FORGETTING_LONGEST_REST: u64 = 64;
