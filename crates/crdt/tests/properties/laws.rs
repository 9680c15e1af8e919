//! The laws that the rest of the system leans on: the join of truthful states, the merge operator,
//! stripping, digests.

use std::collections::BTreeSet;

use crate::draw::{WORLD, any_clock, any_row, dot, world_deltas};
use bytes::Bytes;
use meridian_crdt::{
    ConflictPolicy, Context, Coverage, Covers, Delta, Dot, Entry, Row, VnodeClock,
};
use meridian_types::{Hlc, Millis};
use proptest::prelude::*;
use proptest::sample::Index;

const POLICIES: [ConflictPolicy; 2] = [ConflictPolicy::Siblings, ConflictPolicy::Lww];

/// What a replica that saw exactly these deltas has and covers, by the definitions alone.
fn state_of(policy: ConflictPolicy, deltas: &[Delta]) -> (Row, Context) {
    let mut coverage: Context = deltas.iter().map(|delta| delta.entry.dot).collect();
    let mut entries: Vec<Entry> = deltas.iter().map(|delta| delta.entry.clone()).collect();
    for delta in deltas {
        coverage.union_with(&delta.context);
    }
    match policy {
        ConflictPolicy::Siblings => {
            let replaced = |e: &Entry| deltas.iter().any(|d| d.context.contains(e.dot));
            entries.retain(|entry| !replaced(entry));
        }
        ConflictPolicy::Lww => {
            let best = entries.iter().map(|entry| (entry.stamp, entry.dot)).max();
            entries.retain(|entry| Some((entry.stamp, entry.dot)) == best);
        }
    }
    (Row::new(entries, Context::default()), coverage)
}

fn joined(
    policy: ConflictPolicy,
    (mine, covered): &(Row, Context),
    (other, theirs): &(Row, Context),
) -> (Row, Context) {
    let mut row = mine.clone();
    row.join(policy, covered, other, theirs);
    let mut coverage = covered.clone();
    coverage.union_with(theirs);
    (row, coverage)
}

fn absorbed<'a>(policy: ConflictPolicy, deltas: impl IntoIterator<Item = &'a Delta>) -> Row {
    let mut row = Row::default();
    for delta in deltas {
        row.apply(policy, delta.clone());
    }
    row
}

fn chosen(deltas: &[Delta], bits: u32) -> Vec<Delta> {
    deltas.iter().enumerate().filter(|(n, _)| bits & 1 << n != 0).map(|(_, d)| d.clone()).collect()
}

fn world() -> impl Iterator<Item = Dot> {
    WORLD.into_iter().map(|(node, counter)| dot(node, counter))
}

proptest! {
    #[test]
    fn a_join_of_states_is_the_state_of_everything_that_both_saw(
        deltas in world_deltas(),
        (a, b, c) in any::<(u32, u32, u32)>(),
    ) {
        for policy in POLICIES {
            let of = |bits| state_of(policy, &chosen(&deltas, bits));
            let ab = joined(policy, &of(a), &of(b));
            prop_assert_eq!(&ab, &of(a | b));
            prop_assert_eq!(&ab, &joined(policy, &of(b), &of(a)), "commutative");
            prop_assert_eq!(&ab, &joined(policy, &ab, &of(b)), "idempotent");
            let right = joined(policy, &of(a), &joined(policy, &of(b), &of(c)));
            prop_assert_eq!(joined(policy, &ab, &of(c)), right, "associative");
        }
    }

    #[test]
    fn the_merge_operator_gives_the_same_bytes_however_deltas_are_grouped_and_ordered(
        deltas in world_deltas(),
        order in any::<Vec<Index>>(),
        at in any::<(Index, Index)>(),
    ) {
        for policy in POLICIES {
            let in_order = absorbed(policy, &deltas);
            let (wanted, _) = state_of(policy, &deltas);
            prop_assert_eq!(in_order.entries(), wanted.entries());

            let mut shuffled = deltas.clone();
            for (n, index) in order.iter().enumerate().take(deltas.len()) {
                shuffled.swap(n, index.index(deltas.len()));
            }
            prop_assert_eq!(in_order.to_bytes(), absorbed(policy, &shuffled).to_bytes());

            // As the storage engine does it: operands to the left, or to the right, first.
            let (i, j) = (at.0.index(deltas.len() + 1), at.1.index(deltas.len() + 1));
            let (i, j) = (i.min(j), i.max(j));
            let part = |deltas: &[Delta]| absorbed(policy, deltas);
            let (base, middle, last) = (&deltas[..i], &deltas[i..j], &deltas[j..]);
            let mut left = part(base);
            left.absorb(policy, part(middle));
            left.absorb(policy, part(last));
            let mut tail = part(middle);
            tail.absorb(policy, part(last));
            let mut right = part(base);
            right.absorb(policy, tail);
            if let Some((first, rest)) = deltas.split_first() {
                let mut operands = first.clone().into_row();
                rest.iter().for_each(|delta| operands.absorb(policy, delta.clone().into_row()));
                if !rest.is_empty() {
                    prop_assert_eq!(operands.to_bytes(), in_order.to_bytes());
                }
                let mut whole = Row::default();
                whole.absorb(policy, operands);
                prop_assert_eq!(whole.to_bytes(), in_order.to_bytes());
            }
            prop_assert_eq!(left.to_bytes(), in_order.to_bytes());
            prop_assert_eq!(right.to_bytes(), in_order.to_bytes());
        }
    }

    #[test]
    fn a_delta_as_an_operand_of_its_own_is_the_delta_applied(deltas in world_deltas()) {
        for policy in POLICIES {
            let mut row = Row::default();
            for delta in &deltas {
                row.absorb(policy, delta.clone().into_row());
            }
            prop_assert_eq!(row, absorbed(policy, &deltas));
        }
    }

    #[test]
    fn a_delta_that_arrives_again_changes_nothing(deltas in world_deltas(), again in any::<u32>()) {
        let mut row = Row::default();
        let mut clock = VnodeClock::default();
        let mut apply = |row: &mut Row, delta: &Delta| {
            if clock.insert(delta.entry.dot) {
                row.apply(ConflictPolicy::Siblings, delta.clone());
            }
            row.strip(&clock);
        };
        for delta in &deltas {
            apply(&mut row, delta);
        }
        let once = row.clone();
        for delta in chosen(&deltas, again) {
            apply(&mut row, &delta);
        }
        prop_assert_eq!(row, once);
    }

    #[test]
    fn stripping_changes_neither_what_is_covered_nor_what_a_reader_is_told(
        row in any_row(),
        clock in any_clock(),
    ) {
        let mut stripped = row.clone();
        stripped.strip(&clock);
        prop_assert_eq!(stripped.full_context(&clock), row.full_context(&clock));
        prop_assert_eq!(stripped.reader_context(&clock), row.reader_context(&clock));
        prop_assert_eq!(stripped.context().stripped(&clock), stripped.context().clone());
        let lacks_a_dot = row.entries().iter().any(|entry| !clock.contains(entry.dot));
        prop_assert_eq!(row.is_news_to(&clock), lacks_a_dot || !row.context().is_empty());
        for (actor, counters) in stripped.context().dots().actors() {
            let lowest = counters.ranges().next().map_or(u64::MAX, |(lo, _)| lo);
            prop_assert!(lowest > clock.base(actor));
        }
    }

    #[test]
    fn coverage_by_parts_and_as_one_context_say_the_same(
        deltas in world_deltas(),
        more in any::<u32>(),
    ) {
        let row = absorbed(ConflictPolicy::Siblings, &deltas);
        let mut clock = VnodeClock::default();
        for (n, dot) in world().enumerate() {
            if more & 1 << n != 0 {
                clock.insert(dot);
            }
        }
        let parts = Coverage { clock: Some(&clock), context: row.context() };
        let whole = row.full_context(&clock);
        for dot in world() {
            prop_assert_eq!(parts.covers(dot) || row.entry(dot).is_some(), whole.covers(dot));
        }
    }

    #[test]
    fn an_answer_joins_as_its_parts_do(
        deltas in world_deltas(),
        (a, b) in any::<(u32, u32)>(),
    ) {
        for policy in POLICIES {
            let replica = |bits| {
                let seen = chosen(&deltas, bits);
                let clock: Vec<Dot> = seen.iter().map(|delta| delta.entry.dot).collect();
                let mut row = absorbed(policy, &seen);
                let mut of = VnodeClock::default();
                for dot in clock {
                    of.insert(dot);
                }
                row.strip(&of);
                (row, of)
            };
            let ((mut mine, mut clock), (other, peer)) = (replica(a), replica(b));
            mine.join_answer(policy, &mut clock, &other, &other.full_context(&peer));
            let all = chosen(&deltas, a | b);
            let (wanted, _) = state_of(policy, &all);
            prop_assert_eq!(mine.entries(), wanted.entries());
            prop_assert!(other.entries().iter().all(|entry| clock.contains(entry.dot)));
            prop_assert!(!other.is_news_to(&clock) || !other.context().is_empty());
            if policy == ConflictPolicy::Siblings {
                // Nothing that the peer covers is forgotten, whether its clock is joined or not.
                let covered = mine.full_context(&clock);
                for delta in &all {
                    prop_assert!(covered.contains(delta.entry.dot));
                }
            }
            clock.join(&peer);
            mine.strip(&clock);
            prop_assert_eq!(mine.entries(), wanted.entries());
        }
    }

    #[test]
    fn digests_are_equal_when_entries_are_and_only_then(a in any_row(), b in any_row()) {
        prop_assert_eq!(a.digest() == b.digest(), a.entries() == b.entries());
        let mut other = a.clone();
        other.remember(b.context());
        prop_assert_eq!(a.digest(), other.digest());
    }

    #[test]
    fn every_field_of_an_entry_is_in_the_digest(row in any_row(), at in any::<Index>()) {
        prop_assume!(!row.entries().is_empty());
        let at = at.index(row.entries().len());
        let changed = |change: &dyn Fn(&mut Entry)| {
            let mut entries = row.entries().to_vec();
            change(&mut entries[at]);
            Row::new(entries, Context::default()).digest()
        };
        let digest = row.digest();
        prop_assert_ne!(changed(&|e| e.stamp = Hlc(e.stamp.0 ^ 1)), digest);
        prop_assert_ne!(changed(&|e| e.dot.counter ^= 1 << 40), digest);
        prop_assert_ne!(changed(&|e| e.expires = flipped(e.expires, Millis(0))), digest);
        prop_assert_ne!(changed(&|e| e.value = flipped(e.value.clone(), Bytes::new())), digest);
    }

    #[test]
    fn clocks_behave_as_sets_of_dots(a in any_clock(), b in any_clock()) {
        let mut both = a.clone();
        both.join(&b);
        let mut other = b.clone();
        other.join(&a);
        prop_assert_eq!(&both, &other);
        prop_assert_eq!(both.digest(), other.digest());
        prop_assert!(a.is_covered_by(&both) && b.is_covered_by(&both));
        prop_assert_eq!(a.is_covered_by(&b), a.beyond(&b).is_empty());
        prop_assert_eq!(a == b, a.digest() == b.digest());
        let mut rest = b.clone();
        for (actor, counters) in a.beyond(&b).actors() {
            let in_b = |counter| b.contains(Dot::new(actor, counter));
            let any_in_b = counters.ranges().any(|(lo, hi)| in_b(lo) || in_b(hi));
            prop_assert!(!any_in_b);
        }
        rest.join(&VnodeClock::from_bytes(&a.beyond(&b).to_bytes()).unwrap());
        prop_assert_eq!(rest, both);
    }
}

fn flipped<T>(option: Option<T>, some: T) -> Option<T> {
    match option {
        None => Some(some),
        Some(_) => None,
    }
}

fn entry(counter: u64, expires: Option<u64>, value: Option<&'static str>) -> Entry {
    Entry {
        dot: dot(1, counter),
        stamp: Hlc(counter),
        expires: expires.map(Millis),
        value: value.map(|text| Bytes::from_static(text.as_bytes())),
    }
}

#[test]
fn readers_see_live_values_in_the_order_of_dots_and_equal_bytes_once() {
    let row = Row::new(
        [
            entry(5, None, Some("same")),
            entry(1, Some(100), Some("same")),
            entry(2, None, None),
            entry(3, None, Some("other")),
            entry(4, None, Some("same")),
        ],
        Context::default(),
    );
    let shown =
        |now| -> Vec<u64> { row.visible(Millis(now)).map(|entry| entry.dot.counter).collect() };
    assert_eq!(shown(99), [1, 3]);
    assert_eq!(shown(100), [3, 4], "what has expired hides nothing");
    let context = row.reader_context(&VnodeClock::default());
    let all: BTreeSet<u64> = (1..=5).filter(|n| context.contains(dot(1, *n))).collect();
    assert_eq!(all.len(), 5, "a put replaces what was shown once as well");
}

/// The joins that leave a coverage out, so that the laws above are seen to be able to fail.
#[test]
fn a_join_that_lacks_a_side_of_the_truth_brings_back_what_was_replaced() {
    let old = Delta { entry: entry(1, None, Some("old")), context: Context::default() };
    let seen: Context = [dot(1, 1)].into_iter().collect();
    let new = Delta { entry: entry(2, None, Some("new")), context: seen };
    let (before, after) = (
        state_of(ConflictPolicy::Siblings, std::slice::from_ref(&old)),
        state_of(ConflictPolicy::Siblings, &[old, new]),
    );
    let nothing = Context::default();
    let join = |mine: &Row, covered: &Context, other: &Row, theirs: &Context| {
        let mut row = mine.clone();
        row.join(ConflictPolicy::Siblings, covered, other, theirs);
        row
    };
    assert_eq!(join(&before.0, &before.1, &after.0, &after.1), after.0);
    assert_eq!(join(&after.0, &after.1, &before.0, &before.1), after.0);
    assert_eq!(join(&before.0, &before.1, &after.0, &nothing).entries().len(), 2);
    assert_eq!(join(&after.0, &nothing, &before.0, &before.1).entries().len(), 2);
}
