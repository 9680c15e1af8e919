//! What happens while ended incarnations are closed, as data.

use crate::support::Choices;

/// One run. All choices are in it, so that any part of it can be left out and the rest still runs.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) replicas: usize,
    pub(crate) ops: Vec<Op>,
}

/// One event. Numbers of replicas are in range; `pick` is taken modulo what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A client writes at a replica, at ONE.
    Write { at: usize, client: usize, marker: bool },
    /// A client reads at a replica, at ONE.
    Read { at: usize, client: usize },
    /// A delta arrives, or is lost, or arrives and stays under way as well.
    Deliver { pick: usize, twice: bool, lost: bool },
    /// A pull at one instant.
    Pull { to: usize, from: usize },
    /// A replica's WAL reaches its disk.
    Sync { at: usize },
    /// A replica loses its unsynced tail: its incarnation ends.
    Crash { at: usize },
    /// A replica takes a checkpoint.
    Checkpoint { at: usize },
    /// A replica gets its checkpoint back. A crash while another is rebuilding.
    Restore { at: usize },
    /// The closing of an ended incarnation begins, if none is under way.
    Propose { pick: usize },
    /// A replica fences the incarnation and reports its dots.
    Fence { at: usize },
    /// A replica closes it.
    Close { at: usize },
}

/// Clients, each with its own token.
const CLIENTS: usize = 2;

impl History {
    pub(crate) fn draw(seed: u64) -> Self {
        let c = &mut Choices::new(seed);
        let replicas = c.one_of(&[2, 3, 3]);
        let ops = (0..10 + c.below(71)).map(|_| op(c, replicas)).collect();
        Self { replicas, ops }
    }
}

fn op(c: &mut Choices, replicas: usize) -> Op {
    let at = c.below(replicas);
    let client = c.below(CLIENTS);
    let pick = c.below(1 << 20);
    match c.unit() {
        x if x < 0.14 => Op::Write { at, client, marker: c.chance(0.25) },
        x if x < 0.24 => Op::Read { at, client },
        x if x < 0.4 => Op::Deliver { pick, twice: c.chance(0.3), lost: c.chance(0.2) },
        x if x < 0.52 => Op::Pull { to: at, from: (at + 1 + c.below(replicas - 1)) % replicas },
        x if x < 0.6 => Op::Sync { at },
        x if x < 0.66 => Op::Crash { at },
        x if x < 0.69 => Op::Checkpoint { at },
        x if x < 0.72 => Op::Restore { at },
        x if x < 0.79 => Op::Propose { pick },
        x if x < 0.91 => Op::Fence { at },
        _ => Op::Close { at },
    }
}
