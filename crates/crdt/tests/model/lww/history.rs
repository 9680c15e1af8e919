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
    /// How far the replicas' wall clocks are from true time, two bits each.
    pub(crate) skews: u64,
    /// Whether the last replica is none yet: [`Op::Enter`] makes it one, in another layout.
    pub(crate) enters: bool,
    pub(crate) ops: Cow<'static, [Op]>,
}

/// One event. `pick` is taken modulo what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A write at a replica whose wall clock says `wall`. `ttl` is counted in true time, so that
    /// expiry is drawn apart from the order of stamps.
    Write { at: usize, key: usize, wall: u64, marker: bool, ttl: Option<u64> },
    /// A delta or a repair that is under way arrives, once or again, or is lost.
    Deliver { pick: usize, fate: Fate },
    /// A pull begins and takes so many steps at once; what is left of it is [`Op::Step`]'s.
    Pull { to: usize, from: usize, steps: usize },
    /// A pull that is under way takes a step, or breaks off.
    Step { pick: usize, breaks: bool },
    /// A read by two replicas, or by one, and the repair that it sends to all.
    Read { at: usize, with: usize, key: usize },
    /// A replica promises to give only higher stamps from now on.
    Promise { at: usize },
    /// A replica's WAL reaches its disk.
    Sync { at: usize },
    /// A replica tells another what it durably knows and has promised.
    Publish { from: usize, to: usize },
    /// All replicas promise, sync and publish.
    Agree,
    /// A replica collects its markers.
    Collect { at: usize },
    /// Ended actors are closed where that is allowed.
    Close,
    /// A replica loses its unsynced tail, and its wall clock steps back to `wall`, modulo its
    /// highest stamp.
    Crash { at: usize, wall: u64 },
    /// A copy of a replica's disk is put away.
    Checkpoint { at: usize },
    /// The copy is put back; what the replica promised since then comes back with it or does not.
    Restore { at: usize, wall: u64, promises_lost: bool },
    /// The rows whose bits are not in `keep` vanish, and older versions of the others come back.
    LoseTables { at: usize, keep: usize },
    /// The last replica becomes one.
    Enter,
    /// A write at ANY that reaches nobody waits with its stamp.
    Intend { key: usize, stamp: u64 },
    /// Such a write reaches a replica.
    Mint { pick: usize, at: usize },
    /// True time goes on.
    Tick { by: u64 },
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    ArrivesAndStays,
    Lost,
}

/// More steps than a pull has.
pub(crate) const TO_ITS_END: usize = usize::MAX;

/// Which kinds of events a history has beside the everyday ones.
#[derive(Clone, Copy)]
struct Kinds {
    replicas: usize,
    keys: usize,
    crashes: bool,
    damage: bool,
    expiry: bool,
    intents: bool,
    enters: bool,
    /// Collections, promises and late deliveries close together.
    dense: bool,
}

impl History {
    pub(crate) fn draw(seed: u64) -> Self {
        let c = &mut Choices::new(seed);
        let damage = c.chance(0.3);
        let kinds = Kinds {
            replicas: c.one_of(&[2, 3, 4]),
            keys: c.one_of(&[1, 2]),
            crashes: damage || c.chance(0.4),
            damage,
            expiry: c.chance(0.3),
            intents: c.chance(0.2),
            enters: c.chance(0.2),
            dense: c.chance(0.5),
        };
        let (first_stamps, skews) = (c.next(), c.next());
        let ops = (0..15 + c.below(86)).filter_map(|step| draw(c, kinds, step as u64));
        let ops = Cow::Owned(ops.collect());
        let Kinds { replicas, keys, enters, .. } = kinds;
        Self { replicas, keys, first_stamps, skews, enters, ops }
    }

    pub(crate) fn with_ops(&self, ops: &[Op]) -> Self {
        Self { ops: Cow::Owned(ops.to_vec()), ..*self }
    }
}

fn draw(c: &mut Choices, kinds: Kinds, step: u64) -> Option<Op> {
    let Kinds { replicas, keys, .. } = kinds;
    let (at, key) = (c.below(replicas), c.below(keys));
    let other = (at + 1 + c.below(replicas - 1)) % replicas;
    if c.chance(0.15) {
        return draw_trouble(c, kinds, step, at, key);
    }
    let kind = match kinds.dense {
        true => c.one_of(&[0.1, 0.2, 0.4, 0.45, 0.5, 0.6, 0.7, 0.76, 0.8, 0.82, 0.87, 0.95, 0.95]),
        false => c.unit(),
    };
    Some(match kind {
        x if x < 0.3 => Op::Write {
            at,
            key,
            wall: c.one_of(&[0, step]),
            marker: c.chance(0.5),
            ttl: (kinds.expiry && c.chance(0.5)).then(|| c.next() % 8),
        },
        x if x < 0.48 => Op::Deliver { pick: c.below(1 << 20), fate: draw_fate(c) },
        x if x < 0.58 => {
            let steps = if c.chance(0.7) { TO_ITS_END } else { c.below(4) };
            Op::Pull { to: at, from: other, steps }
        }
        x if x < 0.66 => Op::Step { pick: c.below(1 << 20), breaks: c.chance(0.1) },
        x if x < 0.72 => Op::Read { at, with: c.one_of(&[at, other]), key },
        x if x < 0.78 => Op::Promise { at },
        x if x < 0.82 => Op::Sync { at },
        x if x < 0.86 => Op::Publish { from: at, to: other },
        x if x < 0.91 => Op::Agree,
        _ => Op::Collect { at },
    })
}

fn draw_fate(c: &mut Choices) -> Fate {
    c.one_of(&[
        Fate::Arrives,
        Fate::Arrives,
        Fate::Arrives,
        Fate::Arrives,
        Fate::ArrivesAndStays,
        Fate::Lost,
    ])
}

fn draw_trouble(c: &mut Choices, kinds: Kinds, step: u64, at: usize, key: usize) -> Option<Op> {
    let wall = c.next();
    Some(match c.below(8) {
        0 if kinds.crashes => Op::Crash { at, wall },
        1 if kinds.crashes => Op::Close,
        2 if kinds.damage => Op::Checkpoint { at },
        3 if kinds.damage => Op::Restore { at, wall, promises_lost: c.chance(0.3) },
        4 if kinds.damage => Op::LoseTables { at, keep: c.below(1 << kinds.keys) },
        5 if kinds.enters => Op::Enter,
        6 if kinds.intents => match c.chance(0.5) {
            true => Op::Intend { key, stamp: c.next() % (step + 1) },
            false => Op::Mint { pick: c.below(1 << 20), at },
        },
        7 if kinds.expiry => Op::Tick { by: c.next() % 6 },
        _ => return None,
    })
}
