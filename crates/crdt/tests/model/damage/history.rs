//! What happens to the replicas of a vnode that lose things, as data.

use std::borrow::Cow;

use crate::support::Choices;

/// One run. All choices are in it, so that any part of it can be left out and the rest still runs.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) replicas: usize,
    pub(crate) keys: usize,
    /// No replica has a record of the vnode yet: as when a cluster starts for the first time.
    pub(crate) fresh: bool,
    /// Which messages that are still under way arrive before the last pulls: bit n is for the
    /// n-th, modulo 64. All others arrive after them.
    pub(crate) early: u64,
    pub(crate) ops: Cow<'static, [Op]>,
}

/// One event. Numbers of replicas and keys are in range; `pick` is taken modulo what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A client writes at a replica, and is told when `acks` replicas have applied it.
    Write {
        at: usize,
        client: usize,
        key: usize,
        with_token: bool,
        marker: bool,
        acks: usize,
        order: usize,
    },
    /// A delta that is under way arrives, or is lost, or arrives and stays under way as well.
    Deliver { pick: usize, twice: bool, lost: bool },
    /// A client reads at a level that waits for `count` replicas.
    Read { client: usize, key: usize, count: usize, order: usize, repair: bool },
    /// A pull at one instant; it breaks off after `rows` rows.
    Pull { to: usize, from: usize, rows: Option<usize> },
    /// A pull begins, and is under way until as many steps as it needs are taken.
    BeginPull { to: usize, from: usize },
    /// A pull that is under way takes a step.
    StepPull { pick: usize },
    /// The replicas of this set of bits collect markers.
    Collect { replicas: usize },
    /// A replica's WAL reaches its disk.
    Sync { at: usize },
    /// A replica takes a checkpoint.
    Checkpoint { at: usize },
    /// A replica loses something.
    Lose { at: usize, what: Loss },
    /// An operator accepts what was lost: the replica answers reads as it is.
    AcceptLoss { at: usize },
}

/// What a replica may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// A crash loses the unsynced tail.
    Tail,
    /// The disk is put back to the last checkpoint. Without one, nothing happens.
    SinceCheckpoint,
    /// Tables: what stays are the rows of this set of bits, where a checkpoint has them as they
    /// were then.
    Tables { keep: usize },
    /// The whole disk.
    Disk,
}

/// Clients, each with its own tokens.
const CLIENTS: usize = 3;

impl History {
    pub(crate) fn draw(seed: u64) -> Self {
        let c = &mut Choices::new(seed);
        let replicas = c.one_of(&[2, 3, 3, 3, 4, 5]);
        let keys = c.one_of(&[1, 1, 2]);
        let lossy = c.chance(0.5);
        // Few losses leave time to heal; many meet each other.
        let losses = c.one_of(&[0.03, 0.08, 0.15]);
        let fresh = c.chance(0.3);
        let mut ops = Vec::new();
        for _ in 0..10 + c.below(71) {
            let draw = Draw { c, replicas, keys, lossy };
            ops.push(if draw.c.chance(losses) { draw.loss() } else { draw.op() });
        }
        // About a third of the bits.
        let early = c.next() & (c.next() | c.next() & c.next());
        Self { replicas, keys, fresh, early, ops: Cow::Owned(ops) }
    }

    pub(crate) fn with_ops(&self, ops: &[Op]) -> Self {
        Self { ops: Cow::Owned(ops.to_vec()), ..*self }
    }
}

struct Draw<'a> {
    c: &'a mut Choices,
    replicas: usize,
    keys: usize,
    lossy: bool,
}

impl Draw<'_> {
    fn op(self) -> Op {
        let Self { c, replicas, keys, lossy } = self;
        let key = c.below(keys);
        let at = c.below(replicas);
        let client = c.below(CLIENTS);
        match c.unit() {
            x if x < 0.3 => Op::Write {
                at,
                client,
                key,
                with_token: c.chance(0.8),
                marker: c.chance(0.3),
                acks: 1 + c.below(replicas),
                order: c.below(120),
            },
            x if x < 0.42 => Op::Deliver {
                pick: c.below(1 << 20),
                twice: c.chance(0.15),
                lost: lossy && c.chance(0.3),
            },
            x if x < 0.62 => Op::Read {
                client,
                key,
                count: 1 + c.below(replicas),
                order: c.below(120),
                repair: c.chance(0.4),
            },
            x if x < 0.78 => {
                let from = (at + 1 + c.below(replicas - 1)) % replicas;
                match c.below(8) {
                    0 | 1 => Op::BeginPull { to: at, from },
                    2 => Op::Pull { to: at, from, rows: c.one_of(&[Some(0), Some(1)]) },
                    _ => Op::Pull { to: at, from, rows: None },
                }
            }
            x if x < 0.84 => Op::StepPull { pick: c.below(1 << 20) },
            x if x < 0.89 => Op::Collect { replicas: c.below(1 << replicas) },
            x if x < 0.97 => Op::Sync { at },
            _ => Op::Checkpoint { at },
        }
    }

    fn loss(self) -> Op {
        let at = self.c.below(self.replicas);
        let keep = self.c.below(1 << self.keys);
        match self.c.unit() {
            x if x < 0.35 => Op::Lose { at, what: Loss::Tail },
            x if x < 0.5 => Op::Lose { at, what: Loss::SinceCheckpoint },
            x if x < 0.8 => Op::Lose { at, what: Loss::Tables { keep } },
            x if x < 0.95 => Op::Lose { at, what: Loss::Disk },
            _ => Op::AcceptLoss { at },
        }
    }
}
