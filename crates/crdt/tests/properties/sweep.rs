//! The join of LWW rows whose markers were forgotten: whatever was collected, rows show what they
//! would show if nothing had been.

use bytes::Bytes;
use meridian_crdt::{ConflictPolicy, Context, Delta, Entry, Row, VnodeClock};
use meridian_types::{Hlc, Millis};
use proptest::prelude::*;

use crate::draw::{dot, world_deltas};

const LWW: ConflictPolicy = ConflictPolicy::Lww;

/// What a replica that saw exactly these deltas has.
fn state_of<'a>(
    policy: ConflictPolicy,
    deltas: impl IntoIterator<Item = &'a Delta>,
) -> (Row, VnodeClock) {
    let (mut row, mut clock) = (Row::default(), VnodeClock::default());
    for delta in deltas {
        if clock.insert(delta.entry.dot) {
            row.apply(policy, delta.clone());
        }
        row.strip(&clock);
    }
    (row, clock)
}

fn chosen(deltas: &[Delta], is: impl Fn(usize, &Delta) -> bool) -> Vec<&Delta> {
    deltas.iter().enumerate().filter(|(n, delta)| is(*n, delta)).map(|(_, delta)| delta).collect()
}

/// Forgets a marker up to this stamp, as a replica may when all know every write up to it.
fn collected(row: Row, stable: Hlc) -> Row {
    let forget = |entry: &Entry| entry.value.is_none() && entry.stamp <= stable;
    match row.entries().iter().any(forget) {
        true => Row::default(),
        false => row,
    }
}

fn shown(row: &Row) -> Vec<Entry> {
    row.visible(Millis(0)).cloned().collect()
}

/// All that is shown by those who saw `a` or `b`, had nothing ever been collected.
fn wanted(deltas: &[Delta], is: impl Fn(usize, &Delta) -> bool) -> Vec<Entry> {
    shown(&state_of(LWW, chosen(deltas, is)).0)
}

proptest! {
    #[test]
    fn of_replicas_that_forgot_nothing_wrongly_each_learns_what_the_other_knows(
        deltas in world_deltas(),
        (a, b) in any::<(u32, u32)>(),
        stable in 0u64..7,
        (forgot, peer_forgot) in any::<(bool, bool)>(),
        sweeps in any::<bool>(),
    ) {
        let stable = Hlc(stable);
        let knows = |bits: u32| move |n: usize, delta: &Delta| {
            bits & 1 << n != 0 || delta.entry.stamp <= stable
        };
        let replica = |bits, forgot| {
            let (row, clock) = state_of(LWW, chosen(&deltas, knows(bits)));
            (if forgot { collected(row, stable) } else { row }, clock)
        };
        let ((mut mine, mut clock), (other, peer)) = (replica(a, forgot), replica(b, peer_forgot));
        let covered = if sweeps { peer.clone() } else { VnodeClock::default() };
        mine.sweep(LWW, &mut clock, &other, &covered);
        prop_assert_eq!(shown(&mine), wanted(&deltas, knows(a | b)));
        prop_assert!(other.entries().iter().all(|entry| clock.contains(entry.dot)));

        // The answer comes again, or an older one comes late: nothing changes.
        let before = mine.clone();
        mine.sweep(LWW, &mut clock, &other, &covered);
        prop_assert_eq!(&mine, &before);
    }

    #[test]
    fn a_disk_from_before_the_deletes_loses_what_a_sound_peer_saw_go_and_nothing_else(
        deltas in world_deltas(),
        (old, now) in any::<(u32, u32)>(),
        stable in 0u64..7,
        clock_lost in any::<bool>(),
    ) {
        let stable = Hlc(stable);
        let peer_knows = |n: usize, delta: &Delta| {
            now & 1 << n != 0 || delta.entry.stamp <= stable
        };
        let (other, peer) = state_of(LWW, chosen(&deltas, peer_knows));
        let other = collected(other, stable);
        let (mut mine, mut clock) = state_of(LWW, chosen(&deltas, |n, _| old & 1 << n != 0));
        if clock_lost {
            clock = VnodeClock::default();
        }
        mine.sweep(LWW, &mut clock, &other, &peer);
        // Of what it once knew, a replica without its clock has only what is in the row.
        let row_before = state_of(LWW, chosen(&deltas, |n, _| old & 1 << n != 0)).0;
        let either = |n: usize, delta: &Delta| {
            peer_knows(n, delta) || match clock_lost {
                true => row_before.entry(delta.entry.dot).is_some(),
                false => old & 1 << n != 0,
            }
        };
        prop_assert_eq!(shown(&mine), wanted(&deltas, either));
        // What went does not come again with a delta that was under way.
        for entry in row_before.entries() {
            prop_assert!(mine.entry(entry.dot).is_some() || clock.contains(entry.dot)
                || mine.entries().iter().any(|e| (e.stamp, e.dot) > (entry.stamp, entry.dot)));
        }
    }

    #[test]
    fn a_peer_whose_clock_proves_nothing_sweeps_nothing(
        deltas in world_deltas(),
        (a, b) in any::<(u32, u32)>(),
    ) {
        let (mut mine, mut clock) = state_of(LWW, chosen(&deltas, |n, _| a & 1 << n != 0));
        let (other, _) = state_of(LWW, chosen(&deltas, |n, _| b & 1 << n != 0));
        let had = !mine.is_empty();
        mine.sweep(LWW, &mut clock, &other, &VnodeClock::default());
        prop_assert!(!had || !mine.is_empty());
        prop_assert_eq!(shown(&mine), wanted(&deltas, |n, _| (a | b) & 1 << n != 0));
    }

    #[test]
    fn rows_of_siblings_are_swept_as_their_join_sweeps_them(
        deltas in world_deltas(),
        (a, b) in any::<(u32, u32)>(),
    ) {
        let policy = ConflictPolicy::Siblings;
        let (mut mine, mut clock) = state_of(policy, chosen(&deltas, |n, _| a & 1 << n != 0));
        let (other, peer) = state_of(policy, chosen(&deltas, |n, _| b & 1 << n != 0));
        let (mut joined, mut joined_clock) = (mine.clone(), clock.clone());
        mine.sweep(policy, &mut clock, &other, &peer);
        joined.join_answer(policy, &mut joined_clock, &other, &other.full_context(&peer));
        prop_assert_eq!((mine, clock), (joined, joined_clock));
    }
}

/// The join that asks no clock, so that the laws above are seen to be able to fail.
#[test]
fn a_join_that_asks_no_clock_brings_back_what_was_forgotten() {
    let entry = Entry {
        dot: dot(1, 1),
        stamp: Hlc(5),
        expires: None,
        value: Some(Bytes::from_static(b"old")),
    };
    let old = Delta { entry, context: Context::default() };
    let mut peer = VnodeClock::default();
    peer.insert(dot(1, 1));
    peer.insert(dot(1, 2));
    let (row, mut clock) = state_of(LWW, [&old]);

    let mut mine = row.clone();
    mine.join_answer(LWW, &mut clock, &Row::default(), &peer.to_context());
    assert_eq!(mine, row, "the deleted value stays");
    mine.sweep(LWW, &mut clock, &Row::default(), &peer);
    assert!(mine.is_empty());

    let mut sound = Row::default();
    sound.join_answer(LWW, &mut peer.clone(), &row, &clock.to_context());
    assert_eq!(sound, row, "the deleted value comes back");
    let mut sound = Row::default();
    sound.sweep(LWW, &mut peer, &row, &clock);
    assert!(sound.is_empty());
}

/// A write that was given up (rule 13) comes back with an old disk, where it had replaced another.
#[test]
fn what_lost_to_nothing_but_an_entry_that_goes_is_there_again() {
    let entry = |counter, stamp| Entry {
        dot: dot(1, counter),
        stamp: Hlc(stamp),
        expires: None,
        value: Some(Bytes::from_static(b"value")),
    };
    let [kept, given_up] =
        [entry(1, 5), entry(2, 9)].map(|entry| Delta { entry, context: Context::default() });
    let (other, mut peer) = state_of(LWW, [&kept]);
    let (mut mine, mut clock) = state_of(LWW, [&kept, &given_up]);
    mine.sweep(LWW, &mut clock, &other, &peer);
    assert_eq!(mine.entries(), [given_up.entry], "nobody has given it up");
    peer.insert(dot(1, 2));
    mine.sweep(LWW, &mut clock, &other, &peer);
    assert_eq!(mine.entries(), [kept.entry]);
}
