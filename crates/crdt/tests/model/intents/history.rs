//! What happens to kept writes, as data.

use crate::support::Choices;

/// One run. All choices are in it, so that any part of it can be left out and the rest still runs.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) replicas: usize,
    pub(crate) ops: Vec<Op>,
}

/// One event. Numbers of replicas and keepers are in range; `pick` is taken modulo what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A client writes at a replica, at ONE.
    Write { at: usize, client: usize, marker: bool },
    /// A client reads at a replica, at ONE.
    Read { at: usize, client: usize },
    /// A keeper takes a write: it is durable there.
    Keep { keeper: usize, client: usize },
    /// A keeper asks a replica for a dot. The answer is under way.
    Reserve { keeper: usize, pick: usize, at: usize },
    /// A keeper sends a delta whose dot it knows.
    Send { keeper: usize, pick: usize, to: usize },
    /// A replica says what it has; the keeper forgets what is done.
    Confirm { keeper: usize, pick: usize, by: usize },
    /// A message arrives, or is lost, or arrives and stays under way as well.
    Deliver { pick: usize, twice: bool, lost: bool },
    /// A replica asks after its reserved dots that it has not seen used.
    Ask { at: usize },
    /// A pull at one instant.
    Pull { to: usize, from: usize },
    /// A replica's WAL reaches its disk.
    Sync { at: usize },
    /// A replica loses its unsynced tail.
    Crash { at: usize },
    /// A keeper's records reach its disk.
    SyncKeeper { keeper: usize },
    /// A keeper loses what is not on its disk.
    CrashKeeper { keeper: usize },
}

/// Clients, each with its own token.
const CLIENTS: usize = 2;

/// Nodes that keep writes.
pub(crate) const KEEPERS: usize = 2;

impl History {
    pub(crate) fn draw(seed: u64) -> Self {
        let c = &mut Choices::new(seed);
        let replicas = c.one_of(&[2, 3, 3]);
        let ops = (0..10 + c.below(61)).map(|_| op(c, replicas)).collect();
        Self { replicas, ops }
    }
}

fn op(c: &mut Choices, replicas: usize) -> Op {
    let at = c.below(replicas);
    let client = c.below(CLIENTS);
    let keeper = c.below(KEEPERS);
    let pick = c.below(1 << 20);
    match c.unit() {
        x if x < 0.1 => Op::Write { at, client, marker: c.chance(0.3) },
        x if x < 0.2 => Op::Read { at, client },
        x if x < 0.28 => Op::Keep { keeper, client },
        x if x < 0.4 => Op::Reserve { keeper, pick, at },
        x if x < 0.5 => Op::Send { keeper, pick, to: at },
        x if x < 0.55 => Op::Confirm { keeper, pick, by: at },
        x if x < 0.7 => Op::Deliver { pick, twice: c.chance(0.2), lost: c.chance(0.2) },
        x if x < 0.76 => Op::Ask { at },
        x if x < 0.82 => Op::Pull { to: at, from: (at + 1 + c.below(replicas - 1)) % replicas },
        x if x < 0.89 => Op::Sync { at },
        x if x < 0.94 => Op::Crash { at },
        x if x < 0.97 => Op::SyncKeeper { keeper },
        _ => Op::CrashKeeper { keeper },
    }
}
