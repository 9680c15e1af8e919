//! What happens to a vnode of LWW rows, as data.

use std::borrow::Cow;

use crate::support::Choices;

/// One run of a vnode.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) replicas: usize,
    pub(crate) keys: usize,
    /// Where the replicas' stamps start, eight bits each.
    pub(crate) first_stamps: u64,
    pub(crate) ops: Cow<'static, [Op]>,
}

/// One event. `pick` is taken modulo what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A write at a replica whose wall clock says `wall`.
    Write { at: usize, key: usize, wall: u64, marker: bool },
    /// A delta that is under way arrives or is lost.
    Deliver { pick: usize, lost: bool },
    /// A pull at one instant.
    Pull { to: usize, from: usize },
    /// A replica promises to give only higher stamps from now on.
    Promise { at: usize },
    /// A replica's WAL reaches its disk.
    Sync { at: usize },
    /// Ended actors are closed where that is allowed, and all replicas collect markers.
    Collect,
    /// A replica loses its unsynced tail, and its wall clock steps back to `wall`, modulo its
    /// highest stamp.
    Crash { at: usize, wall: u64 },
}

impl History {
    pub(crate) fn draw(seed: u64) -> Self {
        let c = &mut Choices::new(seed);
        let replicas = c.one_of(&[2, 3, 4]);
        let keys = c.one_of(&[1, 2]);
        let crashes = c.chance(0.5);
        // Collections, promises and late deliveries close together.
        let dense = c.chance(0.5);
        let first_stamps = c.next();
        let ops = (0..15 + c.below(86)).filter_map(|step| {
            let kind = if dense { Self::dense_kind(c) } else { c.unit() };
            draw(c, kind, step as u64, (replicas, keys), crashes)
        });
        Self { replicas, keys, first_stamps, ops: Cow::Owned(ops.collect()) }
    }

    fn dense_kind(c: &mut Choices) -> f64 {
        let rare = if c.chance(0.2) { 0.97 } else { 0.3 };
        c.one_of(&[0.1, 0.2, 0.4, 0.45, 0.6, 0.7, 0.72, 0.8, 0.82, 0.9, 0.92, 0.94, rare])
    }

    pub(crate) fn with_ops(&self, ops: &[Op]) -> Self {
        Self { ops: Cow::Owned(ops.to_vec()), ..*self }
    }
}

fn draw(
    c: &mut Choices,
    kind: f64,
    step: u64,
    (replicas, keys): (usize, usize),
    crashes: bool,
) -> Option<Op> {
    let (at, key) = (c.below(replicas), c.below(keys));
    Some(match kind {
        x if x < 0.35 => Op::Write { at, key, wall: c.one_of(&[0, step]), marker: c.chance(0.5) },
        x if x < 0.5 => Op::Deliver { pick: c.below(1 << 20), lost: c.chance(0.3) },
        x if x < 0.65 => Op::Pull { to: at, from: (at + 1 + c.below(replicas - 1)) % replicas },
        x if x < 0.75 => Op::Promise { at },
        x if x < 0.87 => Op::Sync { at },
        x if x < 0.96 => Op::Collect,
        _ if crashes => Op::Crash { at, wall: c.next() },
        _ => return None,
    })
}
