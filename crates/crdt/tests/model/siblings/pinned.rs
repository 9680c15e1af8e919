//! Histories for the rules that random search breaks only rarely, made from what long searches
//! found. Each holds with all rules, and fails without the one that it is for.

use std::borrow::Cow;

use super::history::{History, Op};

fn history(replicas: usize, damage: bool, ops: &'static [Op]) -> History {
    History { replicas, keys: 1, crashes: true, damage, early: 0, ops: Cow::Borrowed(ops) }
}

/// A first value, acknowledged by a majority: replica 0 and the first of the others, by number.
const FIRST: Op = Op::Write {
    at: 0,
    client: 0,
    key: 0,
    with_token: false,
    marker: false,
    majority: true,
    order: 0,
};

/// The client has read what it overwrites.
const fn overwrite(at: usize, marker: bool, majority: bool, order: usize) -> Op {
    Op::Write { at, client: 0, key: 0, with_token: true, marker, majority, order }
}

const fn read(at: usize) -> Op {
    Op::ReadOne { at, client: 0, key: 0 }
}

/// The oldest message arrives.
const DELIVER: Op = Op::Deliver { pick: 0, twice: false, lost: false };

const fn pull(to: usize, from: usize) -> Op {
    Op::Pull { to, from, rows: None }
}

/// A replica loses its clock and keeps the row as it is: the table that proved the clock is gone.
const fn lose_clock(at: usize) -> Op {
    Op::Damage { at, restore: false, keep: 1 }
}

/// Rule 8, durable clocks only. Replica 1 collects a marker that replica 0 has, but not on its
/// disk; replica 0 crashes and has the deleted value again.
pub(super) fn marker_forgotten() -> History {
    const OPS: &[Op] = &[
        FIRST,
        Op::Sync { at: 0 },
        read(0),
        overwrite(0, true, true, 0),
        Op::Sync { at: 1 },
        pull(1, 0),
        Op::Collect { replicas: 0b10 },
        Op::Crash { at: 0 },
    ];
    history(2, false, OPS)
}

/// Rule 10, full pull. Nobody else has the row, so nothing that is pulled puts its dot into the
/// clock that began anew: the clocks become equal, the rows are not.
pub(super) fn row_outside_the_clock() -> History {
    const OPS: &[Op] = &[
        Op::Write {
            at: 0,
            client: 0,
            key: 0,
            with_token: false,
            marker: false,
            majority: false,
            order: 0,
        },
        lose_clock(0),
        pull(0, 1),
        pull(0, 2),
    ];
    history(3, true, OPS)
}

/// Rule 10, every peer. Replica 2 has the overwriting value, but lost with its clock that it
/// overwrites; replica 1 has only the overwritten one. Only replica 0 could tell.
pub(super) fn peer_that_is_behind() -> History {
    const OPS: &[Op] = &[
        FIRST,
        DELIVER,
        read(0),
        overwrite(0, false, true, 1),
        Op::Sync { at: 0 },
        lose_clock(2),
        pull(2, 1),
    ];
    history(3, true, OPS)
}

/// Rule 10, who is rebuilding serves nobody. Replica 2 has the overwriting value, but lost with its
/// clock that it overwrites: replica 0 takes it for a sibling and then has replica 1's clock with
/// another row.
pub(super) fn rows_without_their_clock() -> History {
    const OPS: &[Op] = &[
        FIRST,
        DELIVER,
        read(1),
        overwrite(1, false, true, 1),
        Op::Sync { at: 1 },
        lose_clock(2),
        pull(0, 2),
    ];
    history(3, true, OPS)
}

/// Rule 10, verification. Replica 2 alone has the overwriting value, lost with its clock that it
/// overwrites, and pulls the overwritten one from everybody as a sibling. The delta, which arrives
/// late, says at the others that it is none. All clocks are equal then, and no pull sees it.
pub(super) fn context_lost_with_the_clock() -> History {
    const OPS: &[Op] = &[
        FIRST,
        DELIVER,
        read(2),
        overwrite(2, false, false, 0),
        lose_clock(2),
        pull(2, 0),
        pull(2, 1),
        DELIVER,
        DELIVER,
    ];
    history(3, true, OPS)
}
