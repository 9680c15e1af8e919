//! What may go wrong: faults of single nodes, and of the ways between them.
//!
//! A fault has a *window*: it begins, and it ends. Some harm at once, some while they last, some when
//! they end; the table in [`NodeFault`] says which. The world applies both edges; whether a fault may
//! happen at all is decided before the run, by whoever makes the schedule.
//!
//! Knows: nodes by number, ways between them. Must not know: when something happens, or to whom by
//! which chance.

#[cfg(test)]
mod tests;
mod text;

use serde::{Deserialize, Serialize};

use meridian_types::NodeId;

use crate::sim::{Datagrams, Micros, Way};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// To one node.
    Node {
        /// The node.
        node: NodeId,
        /// What.
        what: NodeFault,
    },
    /// To what is sent between nodes.
    Ways {
        /// Between which.
        ways: Ways,
        /// What.
        what: WayFault,
    },
}

/// An end of a fault's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    /// It begins.
    Begin,
    /// It ends.
    End,
}

/// The ways that a fault concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// The nodes that send, in the order of their numbers.
    pub from: Vec<NodeId>,
    /// The nodes that receive, in the order of their numbers.
    pub to: Vec<NodeId>,
    /// What the other direction sends is concerned as well.
    pub both: bool,
}

impl Ways {
    /// Every direction that is concerned, once, as (sender, receiver).
    pub fn pairs(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        let there = self.from.iter().flat_map(|&a| self.to.iter().map(move |&b| (a, b)));
        let mut pairs: Vec<_> = there.filter(|(a, b)| a != b).collect();
        if self.both {
            pairs.extend(pairs.clone().into_iter().map(|(a, b)| (b, a)));
        }
        pairs.sort_unstable();
        pairs.dedup();
        pairs.into_iter()
    }
}

/// What may happen to a node.
///
/// | kind | when its window begins | when it ends |
/// |---|---|---|
/// | `crash` | the machine loses power | it starts |
/// | `kill` | the process ends at once; what it wrote stays | it starts |
/// | `crash-at-sync` | the machine will lose power at a later sync of its disk | it starts, if it lost power |
/// | `stop` | the process stops cleanly | it starts |
/// | `leave` | the process ends for good, its disk with it | |
/// | `pause` | the process runs no more (SIGSTOP), clocks go on | it goes on |
/// | `wipe` | power is lost, and with it what is on the disk | it starts |
/// | `restore` | a checkpoint of the disk is taken, without harm | power is lost, the checkpoint is put back, it starts |
/// | `rot` | bits flip in files at rest | |
/// | `full-disk` | nothing more can be written | there is room again |
/// | `slow-disk` | every sync and read takes longer | as before |
/// | `clock-step` | the wall clock jumps | it jumps back, if asked |
/// | `clock-drift` | the wall clock gains or loses | it keeps what it gained and runs true |
///
/// A fault of a node that does not run waits for nothing: what needs a process does nothing, what
/// concerns the disk or the clock happens. A node that two windows keep down starts when the last of
/// them ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NodeFault {
    /// The machine loses power.
    Crash {
        /// What of the disk's unsynced part is lost.
        #[serde(default)]
        loses: Loss,
    },
    /// The process ends at once, as by SIGKILL: the operating system keeps what was written.
    Kill {},
    /// The machine loses power at the n-th sync from now, if it comes within the window.
    CrashAtSync {
        /// Which sync, from 1.
        nth: u32,
        /// Whether that sync still takes effect.
        #[serde(default)]
        after: bool,
    },
    /// The process stops cleanly.
    Stop {},
    /// The process ends and never comes back; the window's end means nothing.
    Leave {},
    /// The process runs no more, as by SIGSTOP.
    Pause {},
    /// Power is lost, and with it a part of the disk.
    Wipe {
        /// Which part.
        part: DiskPart,
    },
    /// A checkpoint from the window's begin is put back at its end.
    Restore {
        /// Which part.
        part: DiskPart,
    },
    /// Bits flip in files at rest: tables, and sealed segments of the log.
    Rot {
        /// How many.
        bits: u32,
    },
    /// Only so many more bytes can be written.
    FullDisk {
        /// How many.
        #[serde(default)]
        bytes_left: u64,
    },
    /// Every operation of the disk takes so much longer.
    SlowDisk {
        /// How much.
        by: Micros,
    },
    /// The wall clock jumps: ahead, or back where negative.
    ClockStep {
        /// How far, in milliseconds.
        by_ms: i64,
        /// It jumps back at the end of the window.
        #[serde(default)]
        returns: bool,
    },
    /// The wall clock gains so many microseconds a second, or loses them.
    ClockDrift {
        /// How many.
        ppm: i64,
    },
}

/// What a power cut leaves of what was written and not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Nothing of it.
    #[default]
    Unsynced,
    /// All of it: the disk was quicker than the power cut.
    Nothing,
    /// Any part of it, pages in any order.
    Torn,
}

/// A part of a node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskPart {
    /// Tables and log.
    Data,
    /// Hints, intents, and who the node is.
    Metadata,
    /// Everything.
    Both,
}

/// What may happen to a way between two nodes, while the window lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WayFault {
    /// Nothing passes.
    Cut {},
    /// Everything takes longer.
    Slow {
        /// How much longer.
        by: Micros,
        /// By how much that varies, up and down; at most `by`.
        #[serde(default)]
        jitter: Micros,
    },
    /// Messages meet losses, which cost a round trip, as on TCP.
    Lossy {
        /// How many of a million.
        ppm: u32,
    },
    /// A stream carries no more than this in a second.
    Narrow {
        /// How much.
        bytes_per_second: u64,
    },
    /// Single messages are lost, doubled or late without a break of the link: what the transport
    /// never does and the machines must bear.
    Datagrams {
        /// Lost for good, of a million.
        #[serde(default)]
        lost_ppm: u32,
        /// Received twice, of a million.
        #[serde(default)]
        doubled_ppm: u32,
        /// Late, so that others pass, of a million.
        #[serde(default)]
        late_ppm: u32,
        /// How late at most.
        #[serde(default)]
        late_by: Micros,
    },
}

impl WayFault {
    /// What becomes of a way while this fault lasts. Several at once are applied one after the other,
    /// in any order: the result is the same.
    #[must_use]
    pub fn on(&self, way: Way) -> Way {
        match *self {
            Self::Cut {} => Way { cut: true, ..way },
            Self::Slow { by, jitter } => {
                Way { latency: way.latency + by, jitter: way.jitter + jitter, ..way }
            }
            Self::Lossy { ppm } => Way { loss_ppm: added_ppm(way.loss_ppm, ppm), ..way },
            Self::Narrow { bytes_per_second } => {
                let narrowest = [way.bytes_per_second, bytes_per_second].into_iter();
                let narrowest = narrowest.filter(|&bytes| bytes > 0).min();
                Way { bytes_per_second: narrowest.unwrap_or(0), ..way }
            }
            Self::Datagrams { lost_ppm, doubled_ppm, late_ppm, late_by } => {
                let datagrams = Datagrams {
                    lost_ppm: added_ppm(way.datagrams.lost_ppm, lost_ppm),
                    doubled_ppm: added_ppm(way.datagrams.doubled_ppm, doubled_ppm),
                    late_ppm: added_ppm(way.datagrams.late_ppm, late_ppm),
                    late_by: way.datagrams.late_by.max(late_by),
                };
                Way { datagrams, ..way }
            }
        }
    }
}

fn added_ppm(a: u32, b: u32) -> u32 {
    a.saturating_add(b).min(1_000_000)
}
