//! Histories of losses, as small as they get.

use std::borrow::Cow;

use super::history::{History, Loss, Op};

fn history(replicas: usize, fresh: bool, ops: &'static [Op]) -> History {
    History { replicas, keys: 1, fresh, early: 0, ops: Cow::Borrowed(ops) }
}

/// A value that replica 0 and the next ones acknowledge, in the order of their numbers.
const fn write(acks: usize) -> Op {
    Op::Write { at: 0, client: 0, key: 0, with_token: false, marker: false, acks, order: 0 }
}

/// `order` numbers the orders of those that are good for the level, as `ordered` does.
const fn read(count: usize, order: usize) -> Op {
    Op::Read { client: 0, key: 0, count, order, repair: false }
}

/// Of three replicas: 1 and 2.
const LAST_TWO_OF_THREE: usize = 2;

/// Of four or five replicas: 1, 2 and 3.
const ONE_TO_THREE: usize = 3;

const fn pull(to: usize, from: usize) -> Op {
    Op::Pull { to, from, rows: None }
}

const fn crash(at: usize) -> Op {
    Op::Lose { at, what: Loss::Tail }
}

/// Replicas 0 and 1 acknowledge, 1 loses it with its tail, and a quorum of 1 and 2 is asked.
pub(super) fn crash_of_one_acker() -> History {
    const OPS: &[Op] = &[write(2), crash(1), read(2, LAST_TWO_OF_THREE)];
    history(3, false, OPS)
}

/// The cluster began without replica 2. Replica 1 loses its disk while replica 0 is cut off, and
/// meets replica 2, which has never had anything: two of three that have no record, and ask each
/// other at the same time.
pub(super) fn majority_without_a_record() -> History {
    const OPS: &[Op] = &[
        pull(0, 1),
        pull(1, 0),
        Op::AcceptLoss { at: 0 },
        Op::AcceptLoss { at: 1 },
        write(2),
        Op::Lose { at: 1, what: Loss::Disk },
        Op::BeginPull { to: 1, from: 2 },
        Op::BeginPull { to: 2, from: 1 },
        Op::StepPull { pick: 0 },
        Op::StepPull { pick: 0 },
        Op::StepPull { pick: 0 },
        Op::StepPull { pick: 0 },
        read(2, LAST_TWO_OF_THREE),
    ];
    history(3, true, OPS)
}

/// A minority of five, but two of the three that acknowledged. Each finds enough peers that know
/// nothing, one of them the other.
pub(super) fn two_of_five_crash() -> History {
    const OPS: &[Op] = &[
        write(3),
        crash(1),
        crash(2),
        pull(1, 2),
        pull(1, 3),
        pull(1, 4),
        pull(2, 1),
        pull(2, 3),
        pull(2, 4),
        read(3, ONE_TO_THREE),
    ];
    history(5, false, OPS)
}

/// Two of four acknowledge, three are asked: more than four. One peer fewer than three is too few,
/// although any two peers would find what a majority acknowledged.
pub(super) fn few_acks_many_answers() -> History {
    const OPS: &[Op] = &[write(2), crash(1), pull(1, 2), pull(1, 3), read(3, ONE_TO_THREE)];
    history(4, false, OPS)
}

/// What client 0 read at any one replica, it overwrites at replica 0.
const fn overwrite(marker: bool, acks: usize) -> Op {
    Op::Write { at: 0, client: 0, key: 0, with_token: true, marker, acks, order: 0 }
}

const fn lose(at: usize, what: Loss) -> Op {
    Op::Lose { at, what }
}

/// The table that proved the clock is gone; the row is not.
const CLOCK: Loss = Loss::Tables { keep: 1 };

/// Replica 1 has forgotten a marker that both durably knew. Replica 0 is put back to the deleted
/// value, which no row of replica 1 speaks of any more.
pub(super) fn marker_forgotten_by_the_peer() -> History {
    const OPS: &[Op] = &[
        write(2),
        Op::Checkpoint { at: 0 },
        read(1, 0),
        overwrite(true, 2),
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        pull(1, 0),
        Op::Collect { replicas: 0b10 },
        lose(0, Loss::SinceCheckpoint),
        pull(0, 1),
    ];
    history(2, false, OPS)
}

/// The same, and an operator has replica 0 answer before it has met replica 1.
pub(super) fn accepted_before_sweeping() -> History {
    const OPS: &[Op] = &[
        write(2),
        Op::Checkpoint { at: 0 },
        read(1, 0),
        overwrite(true, 2),
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        pull(1, 0),
        Op::Collect { replicas: 0b10 },
        lose(0, Loss::SinceCheckpoint),
        Op::AcceptLoss { at: 0 },
        pull(0, 1),
    ];
    history(2, false, OPS)
}

/// Replica 0 has lost with its clock what its value had replaced, and nobody else has that value.
/// Its delta arrives after all.
pub(super) fn context_lost_with_the_clock() -> History {
    const OPS: &[Op] = &[
        write(2),
        read(1, 0),
        overwrite(false, 1),
        Op::Sync { at: 0 },
        lose(0, CLOCK),
        pull(0, 1),
        Op::Deliver { pick: 0, twice: false, lost: false },
    ];
    history(2, false, OPS)
}

/// As there, but replica 1 has the value, with what it replaced, and replica 2 takes it from
/// replica 0, without.
pub(super) fn entry_without_its_context() -> History {
    const OPS: &[Op] = &[
        write(3),
        read(1, 0),
        overwrite(false, 2),
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        lose(0, CLOCK),
        pull(2, 0),
    ];
    history(3, false, OPS)
}

/// Replica 0 sweeps replica 2, which then gets the value from replica 1, which then loses it, and is
/// swept.
pub(super) fn known_only_where_it_was_not_yet() -> History {
    const OPS: &[Op] = &[
        Op::Checkpoint { at: 1 },
        write(2),
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        lose(0, CLOCK),
        pull(0, 2),
        pull(2, 1),
        Op::Sync { at: 2 },
        lose(1, Loss::SinceCheckpoint),
        pull(0, 1),
    ];
    history(3, false, OPS)
}

/// Both have forgotten a marker and what it deleted. Replica 1 loses its disk; a full pull has gone
/// by the row, where nobody has one, when the value's delta comes a second time. The pull then joins
/// a clock that has both dots.
pub(super) fn delta_behind_the_scan() -> History {
    const OPS: &[Op] = &[
        write(1),
        Op::Deliver { pick: 0, twice: true, lost: false },
        read(1, 0),
        overwrite(true, 2),
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        pull(0, 1),
        Op::Collect { replicas: 0b01 },
        lose(1, Loss::Disk),
        Op::BeginPull { to: 1, from: 0 },
        Op::StepPull { pick: 0 },
        Op::Deliver { pick: 0, twice: false, lost: false },
        Op::StepPull { pick: 0 },
    ];
    history(2, false, OPS)
}

/// As [`known_only_where_it_was_not_yet`], and replica 0 sweeps replica 2 slowly: it ends after it
/// has heard of replica 1's loss, but went by the row before.
pub(super) fn swept_before_the_loss_was_heard_of() -> History {
    const OPS: &[Op] = &[
        Op::Checkpoint { at: 1 },
        write(2),
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        lose(0, CLOCK),
        Op::BeginPull { to: 0, from: 2 },
        Op::StepPull { pick: 0 },
        pull(2, 1),
        Op::Sync { at: 2 },
        lose(1, Loss::SinceCheckpoint),
        pull(0, 1),
        Op::StepPull { pick: 0 },
    ];
    history(3, false, OPS)
}

/// Each is asked after it has met the other, and none of them has all that they acknowledged.
pub(super) fn both_lost_something() -> History {
    const OPS: &[Op] = &[
        write(2),
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        lose(0, CLOCK),
        lose(1, CLOCK),
        pull(0, 1),
        pull(1, 0),
        read(2, 0),
    ];
    history(2, false, OPS)
}

/// Replica 0 writes anew what only it had, replica 1 has it, and a crash makes replica 0 begin the
/// last step of its rebuilding again.
pub(super) fn crash_after_writing_anew() -> History {
    const OPS: &[Op] = &[
        write(1),
        Op::Sync { at: 0 },
        lose(0, CLOCK),
        pull(0, 1),
        pull(1, 0),
        crash(0),
        pull(0, 1),
    ];
    history(2, false, OPS)
}
