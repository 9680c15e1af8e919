//! What happens to a vnode, as data: drawn from a seed, written by hand, or made small.

use std::borrow::Cow;

use crate::support::Choices;

/// One run of a vnode. All choices are in it, so that any part of it can be left out and the rest
/// still runs.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) replicas: usize,
    pub(crate) keys: usize,
    /// Replicas crash, so an acknowledged write may be lost with the unsynced tails.
    pub(crate) crashes: bool,
    /// Checkpoints are restored and tables lost, at one replica at a time.
    pub(crate) damage: bool,
    /// Which messages that are still under way arrive before the last pulls: bit n is for the
    /// n-th, modulo 64. All others arrive after them.
    pub(crate) early: u64,
    pub(crate) ops: Cow<'static, [Op]>,
}

/// One event. Numbers of replicas and keys are in range; `pick` is taken modulo what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A client writes at a replica; with a majority acknowledging, or at ONE.
    Write {
        at: usize,
        client: usize,
        key: usize,
        with_token: bool,
        marker: bool,
        majority: bool,
        order: usize,
    },
    /// A delta that is under way arrives, or is lost, or arrives and stays under way as well.
    Deliver { pick: usize, twice: bool, lost: bool },
    /// A client reads at one replica.
    ReadOne { at: usize, client: usize, key: usize },
    /// A client reads at a majority, with or without read repair.
    ReadMajority { client: usize, key: usize, order: usize, repair: bool },
    /// A pull at one instant; it breaks off after `rows` rows.
    Pull { to: usize, from: usize, rows: Option<usize> },
    /// A pull that takes its time begins.
    BeginPull { to: usize, from: usize },
    /// One of them scans its next row, or ends.
    StepPull { pick: usize },
    /// The replicas of this set of bits collect markers.
    Collect { replicas: usize },
    /// A replica's WAL reaches its disk.
    Sync { at: usize },
    /// A replica loses its unsynced tail.
    Crash { at: usize },
    /// A replica takes a checkpoint.
    Checkpoint { at: usize },
    /// A replica gets its checkpoint back, or loses the rows outside `keep`. A crash when another
    /// is still rebuilding.
    Damage { at: usize, restore: bool, keep: usize },
}

/// Clients, each with its own tokens.
pub(crate) const CLIENTS: usize = 3;

impl History {
    pub(crate) fn draw(seed: u64) -> Self {
        let c = &mut Choices::new(seed);
        let replicas = c.one_of(&[2, 3, 3, 4, 5]);
        let keys = c.one_of(&[1, 2, 3]);
        let lossy = c.chance(0.7);
        let damage = c.chance(0.3);
        let crashes = c.chance(0.4) || damage;
        let churn = crashes && c.chance(0.5);
        let slow_pulls = c.chance(0.4);
        let mut ops = Vec::new();
        for _ in 0..10 + c.below(81) {
            let draw = Draw { c, replicas, keys, lossy, damage, crashes, churn, slow_pulls };
            ops.extend(draw.op());
            if slow_pulls && c.chance(0.5) {
                ops.push(Op::StepPull { pick: c.below(64) });
            }
            if damage && c.chance(0.1) {
                ops.push(Op::Checkpoint { at: c.below(replicas) });
            }
        }
        // About a third of the bits.
        let early = c.next() & (c.next() | c.next() & c.next());
        Self { replicas, keys, crashes, damage, early, ops: Cow::Owned(ops) }
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
    damage: bool,
    crashes: bool,
    /// Deletes, collections and crashes close together.
    churn: bool,
    slow_pulls: bool,
}

impl Draw<'_> {
    fn op(self) -> Option<Op> {
        let key = self.c.below(self.keys);
        let at = self.c.below(self.replicas);
        let client = self.c.below(CLIENTS);
        let kind = match self.churn {
            true => self.c.one_of(&[0.1, 0.3, 0.4, 0.6, 0.75, 0.8, 0.88, 0.9, 0.94, 0.99]),
            false => self.c.unit(),
        };
        Some(match kind {
            x if x < 0.35 => Op::Write {
                at,
                client,
                key,
                with_token: self.c.chance(0.8),
                marker: self.c.chance(if self.churn { 0.5 } else { 0.25 }),
                majority: self.c.chance(0.5),
                order: self.c.below(120),
            },
            x if x < 0.5 => Op::Deliver {
                pick: self.c.below(1 << 20),
                twice: self.c.chance(0.15),
                lost: self.lossy && self.c.chance(0.3),
            },
            x if x < 0.6 => Op::ReadOne { at, client, key },
            x if x < 0.7 => Op::ReadMajority {
                client,
                key,
                order: self.c.below(120),
                repair: self.c.chance(0.5),
            },
            x if x < 0.85 => self.pull(at),
            x if x < 0.92 => Op::Collect { replicas: self.c.below(1 << self.replicas) },
            x if x < 0.97 => Op::Sync { at },
            _ if self.damage && self.replicas > 2 && self.c.chance(0.7) => {
                Op::Damage { at, restore: self.c.chance(0.5), keep: self.c.below(1 << self.keys) }
            }
            _ if self.crashes => Op::Crash { at },
            _ => return None,
        })
    }

    fn pull(self, to: usize) -> Op {
        let from = (to + 1 + self.c.below(self.replicas - 1)) % self.replicas;
        if self.slow_pulls && self.c.chance(0.5) {
            return Op::BeginPull { to, from };
        }
        Op::Pull { to, from, rows: self.c.one_of(&[None, None, Some(0), Some(1)]) }
    }
}
