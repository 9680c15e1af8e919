//! Histories written by hand, where the search finds none soon, or where one should be read.

use std::borrow::Cow;

use super::history::{Fate, History, Op, TO_ITS_END};
use super::mutations::Mutation;

const DELIVER: Op = Op::Deliver { pick: 0, fate: Fate::Arrives };

const fn write(at: usize, wall: u64) -> Op {
    Op::Write { at, key: 0, wall, marker: false, ttl: None }
}

const fn delete(at: usize, wall: u64) -> Op {
    Op::Write { at, key: 0, wall, marker: true, ttl: None }
}

const fn pull(to: usize, from: usize) -> Op {
    Op::Pull { to, from, steps: TO_ITS_END }
}

const fn restore(at: usize) -> Op {
    Op::Restore { at, wall: 9, promises_lost: false }
}

fn history(replicas: usize, ops: &'static [Op]) -> History {
    let ops = Cow::Borrowed(ops);
    History { replicas, keys: 1, first_stamps: 0, skews: 0b01_01_01, enters: false, ops }
}

/// The history in which a rule matters.
pub(super) fn history_of(rule: Mutation) -> Option<History> {
    Some(match rule {
        Mutation::ApplyTwice => delta_that_comes_late(),
        Mutation::JoinWithoutOwnClock => page_that_comes_late(),
        Mutation::CollectByDot => return None,
        Mutation::CountUnsyncedClocks => marker_forgotten(),
        Mutation::PromiseNotDurable => clock_that_steps_back(),
        Mutation::EvidenceOverEpochs => replica_that_nobody_asked(),
        Mutation::RebuildCountsAsKnowing => said_before_the_rows_were_lost(),
        Mutation::CollectExpiredAtOnce => clock_that_is_ahead(),
        Mutation::CollectExpiredByTime => value_under_an_expired_one(),
        Mutation::SweepWithoutCoverage => checkpoint_older_than_the_delete(),
        Mutation::KeepClockOfLostTables => lost_rows_that_look_deleted(),
        Mutation::RebuildFromDamaged => nobody_sound_was_asked(),
        Mutation::ForgetWhatPullPassed => delta_behind_the_scan(),
        Mutation::ReadWhileRebuilding => read_of_an_old_checkpoint(),
        Mutation::MintBeforeHearing => promises_lost_with_the_disk(),
        Mutation::IntentBelowPromise => intent_older_than_a_promise(),
        Mutation::CloseWithoutVoid => disk_of_a_closed_life(),
        Mutation::CloseWhileUnderWay => delta_of_a_closed_life(),
    })
}

/// Rule 4. Replica 1 pulled the value while its delta was under way, and everybody has forgotten
/// its deletion when the delta arrives.
fn delta_that_comes_late() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        pull(1, 0),
        delete(1, 5),
        Op::Deliver { pick: 1, fate: Fate::Arrives },
        Op::Agree,
        Op::Collect { at: 0 },
        Op::Collect { at: 1 },
    ];
    history(2, OPS)
}

/// Rule 6 on LWW rows. Replica 1 has asked for the row; before the answer comes it has the value
/// and its deletion by other ways, and everybody has forgotten both.
fn page_that_comes_late() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        Op::Pull { to: 1, from: 0, steps: 1 },
        DELIVER,
        delete(0, 5),
        DELIVER,
        Op::Agree,
        Op::Collect { at: 0 },
        Op::Collect { at: 1 },
        Op::Step { pick: 0, breaks: false },
    ];
    history(2, OPS)
}

/// Rule 12, durable clocks only. Replica 0 has the marker, but not on its disk. Both collect it;
/// replica 0 crashes and has the deleted value again.
fn marker_forgotten() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        Op::Sync { at: 0 },
        delete(1, 5),
        DELIVER,
        DELIVER,
        Op::Promise { at: 0 },
        Op::Promise { at: 1 },
        Op::Publish { from: 0, to: 1 },
        Op::Sync { at: 1 },
        Op::Collect { at: 1 },
        Op::Crash { at: 0, wall: 0 },
    ];
    history(2, OPS)
}

/// Rules 10 and 12. Replica 2 gets back a disk from before a delete that all had, and have
/// forgotten. Every clock has the value's dot, no peer has a row: only that says that it is gone.
fn checkpoint_older_than_the_delete() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        DELIVER,
        DELIVER,
        Op::Checkpoint { at: 2 },
        delete(0, 5),
        DELIVER,
        DELIVER,
        Op::Agree,
        Op::Collect { at: 0 },
        Op::Collect { at: 1 },
        Op::Collect { at: 2 },
        restore(2),
        pull(2, 0),
        pull(2, 1),
    ];
    history(3, OPS)
}

/// Rule 12, expiry. Replica 0 has had the value that the expired one replaced, replica 1 has not.
fn value_under_an_expired_one() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        Op::Write { at: 0, key: 0, wall: 5, marker: false, ttl: Some(1) },
        Op::Deliver { pick: 1, fate: Fate::Arrives },
        Op::Tick { by: 20 },
        Op::Collect { at: 0 },
        Op::Collect { at: 1 },
        DELIVER,
    ];
    history(2, OPS)
}

/// Rule 13. A copy of replica 1's disk has a write that it then lost in a crash, before anybody
/// had it. The life that wrote it is closed, a younger delete is forgotten, the copy comes back.
fn disk_of_a_closed_life() -> History {
    const OPS: &[Op] = &[
        write(1, 0),
        Op::Checkpoint { at: 1 },
        Op::Deliver { pick: 0, fate: Fate::Lost },
        Op::Crash { at: 1, wall: 9 },
        Op::Close,
        delete(0, 5),
        DELIVER,
        Op::Agree,
        Op::Collect { at: 0 },
        restore(1),
        pull(1, 0),
    ];
    history(2, OPS)
}

/// Rule 13. Nobody has the delete when its life is closed, but it is under way to replica 1, which
/// gets back a disk that does not know that it is void: it replaces the value there, and is then
/// swept.
fn delta_of_a_closed_life() -> History {
    const OPS: &[Op] = &[
        write(1, 0),
        Op::Checkpoint { at: 1 },
        DELIVER,
        delete(0, 5),
        Op::Crash { at: 0, wall: 9 },
        Op::Close,
        restore(1),
        DELIVER,
    ];
    history(2, OPS)
}

/// Rule 12, promises. Both have forgotten the delete, and replica 1 has no row left that tells how
/// far its stamps had come when its wall clock steps back.
fn clock_that_steps_back() -> History {
    const OPS: &[Op] = &[
        delete(0, 20),
        DELIVER,
        Op::Agree,
        Op::Collect { at: 1 },
        Op::Sync { at: 1 },
        Op::Crash { at: 1, wall: 0 },
        write(1, 0),
    ];
    history(2, OPS)
}

/// Rules 8 and 12, layouts. Replica 2 became one and has the value, the delete is under way to it.
/// Replicas 0 and 1 know of it and count on what they told each other.
fn replica_that_nobody_asked() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        DELIVER,
        Op::Enter,
        pull(2, 0),
        pull(2, 1),
        delete(0, 5),
        DELIVER,
        Op::Promise { at: 0 },
        Op::Promise { at: 1 },
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        Op::Publish { from: 1, to: 0 },
        Op::Collect { at: 0 },
    ];
    History { enters: true, ..history(3, OPS) }
}

/// Rules 10 and 12. Replica 2 told the others of a value and its deletion, lost both with its
/// clock, and pulls from both at once. They hear of them only then. If they count what replica 2
/// said before, they forget in the middle of its pulls what these do not bring any more; a repair
/// that is late brings the value.
fn said_before_the_rows_were_lost() -> History {
    const OPS: &[Op] = &[
        write(2, 0),
        delete(2, 5),
        Op::Agree,
        Op::LoseTables { at: 2, keep: 0 },
        Op::Pull { to: 2, from: 0, steps: 0 },
        Op::Pull { to: 2, from: 1, steps: 0 },
        DELIVER,
        Op::Read { at: 0, with: 0, key: 0 },
        DELIVER,
        DELIVER,
        DELIVER,
        Op::Promise { at: 0 },
        Op::Promise { at: 1 },
        Op::Sync { at: 0 },
        Op::Sync { at: 1 },
        Op::Publish { from: 0, to: 1 },
        Op::Publish { from: 1, to: 0 },
        Op::Collect { at: 0 },
        Op::Collect { at: 1 },
        Op::Step { pick: 0, breaks: false },
        Op::Step { pick: 0, breaks: false },
        Op::Step { pick: 1, breaks: false },
        Op::Step { pick: 1, breaks: false },
        Op::Deliver { pick: 2, fate: Fate::Arrives },
        Op::Step { pick: 0, breaks: false },
        Op::Step { pick: 0, breaks: false },
    ];
    history(3, OPS)
}

/// Rule 12, expiry. By replica 0's wall clock the value has expired, by replica 1's it has not.
fn clock_that_is_ahead() -> History {
    const OPS: &[Op] = &[
        Op::Write { at: 0, key: 0, wall: 0, marker: false, ttl: Some(5) },
        DELIVER,
        Op::Agree,
        Op::Tick { by: 4 },
        Op::Collect { at: 0 },
    ];
    History { skews: 0b01_10, ..history(2, OPS) }
}

/// Rule 10. Replica 2 lost its rows; by its clock it has seen them go. Replica 0, which rebuilds
/// from it as well, has the row and would sweep it, and then not take it from replica 1.
fn lost_rows_that_look_deleted() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        DELIVER,
        DELIVER,
        Op::LoseTables { at: 2, keep: 0 },
        Op::LoseTables { at: 0, keep: 1 },
        pull(0, 2),
        pull(0, 1),
    ];
    history(3, OPS)
}

/// Rule 10. All were put back to before the delete, one after the other. Replica 2 asked replica 1
/// before that had asked anybody, and replica 0 when that was damaged itself.
fn nobody_sound_was_asked() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        DELIVER,
        DELIVER,
        Op::Checkpoint { at: 0 },
        Op::Checkpoint { at: 1 },
        Op::Checkpoint { at: 2 },
        delete(0, 5),
        DELIVER,
        DELIVER,
        Op::Agree,
        Op::Collect { at: 0 },
        restore(1),
        restore(2),
        pull(2, 1),
        pull(1, 0),
        pull(1, 2),
        restore(0),
        pull(2, 0),
    ];
    history(3, OPS)
}

/// Rules 4 and 7. Replica 1 rebuilds without its clock. A full pull has gone by the row when the
/// value's delta comes a second time, and then joins a clock that has both dots.
fn delta_behind_the_scan() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        Op::Deliver { pick: 0, fate: Fate::ArrivesAndStays },
        delete(0, 5),
        Op::Deliver { pick: 1, fate: Fate::Arrives },
        Op::Agree,
        Op::Collect { at: 0 },
        Op::Collect { at: 1 },
        Op::LoseTables { at: 1, keep: 0 },
        Op::Pull { to: 1, from: 0, steps: 2 },
        DELIVER,
        Op::Step { pick: 0, breaks: false },
    ];
    history(2, OPS)
}

/// Rule 10. As [`checkpoint_older_than_the_delete`], and somebody asks before it has pulled.
fn read_of_an_old_checkpoint() -> History {
    const OPS: &[Op] = &[
        write(0, 0),
        DELIVER,
        Op::Checkpoint { at: 1 },
        delete(0, 5),
        DELIVER,
        Op::Agree,
        Op::Collect { at: 0 },
        restore(1),
        Op::Read { at: 1, with: 1, key: 0 },
    ];
    history(2, OPS)
}

/// Rules 10 and 12. Replica 1's promise let replica 0 forget the delete; replica 1's disk is older,
/// and its wall clock has stepped back.
fn promises_lost_with_the_disk() -> History {
    const OPS: &[Op] = &[
        Op::Checkpoint { at: 1 },
        delete(0, 20),
        DELIVER,
        Op::Agree,
        Op::Collect { at: 0 },
        Op::Restore { at: 1, wall: 0, promises_lost: true },
        write(1, 0),
        DELIVER,
    ];
    history(2, OPS)
}

/// Rule 14. The delete is newer than the write that waited, and forgotten at replica 1 alone: with
/// the write's own stamp, replica 1 would show it and replica 0 would not.
fn intent_older_than_a_promise() -> History {
    const OPS: &[Op] = &[
        delete(0, 20),
        DELIVER,
        Op::Agree,
        Op::Collect { at: 1 },
        Op::Intend { key: 0, stamp: 5 },
        Op::Mint { pick: 0, at: 1 },
    ];
    history(2, OPS)
}
