//! What the tests draw from.

use bytes::Bytes;
use meridian_crdt::{Actor, Context, CounterSet, Delta, Dot, DotSet, Entry, Row, VnodeClock};
use meridian_types::{Hlc, Incarnation, Millis, NodeId};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

/// An actor by a small number.
pub(crate) fn actor(n: u32) -> Actor {
    Actor { node: NodeId(n), incarnation: Incarnation(0xfeed_0000_0000_0000 | u64::from(n)) }
}

pub(crate) fn dot(node: u32, counter: u64) -> Dot {
    Dot::new(actor(node), counter)
}

/// A number of any size: small ones, which meet each other, and the largest.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..8,
        1 => any::<u64>(),
        1 => (0u32..64, any::<u64>()).prop_map(|(shift, n)| n >> shift),
        1 => (0u64..4).prop_map(|n| u64::MAX - n),
    ]
}

pub(crate) fn any_actor() -> impl Strategy<Value = Actor> {
    let node = prop_oneof![3 => 0u32..4, 1 => any::<u32>(), 1 => Just(u32::MAX)];
    (node, number()).prop_map(|(n, i)| Actor { node: NodeId(n), incarnation: Incarnation(i) })
}

pub(crate) fn any_dot() -> impl Strategy<Value = Dot> {
    (any_actor(), number()).prop_map(|(actor, n)| Dot::new(actor, n.max(1)))
}

pub(crate) fn any_dots() -> impl Strategy<Value = DotSet> {
    let counters = (number(), btree_set(number(), 0..5)).prop_map(|(base, more)| {
        let mut counters = CounterSet::up_to(base);
        for n in more.into_iter().filter(|n| *n > 0) {
            counters.insert(n);
        }
        counters
    });
    btree_map(any_actor(), counters, 0..5).prop_map(|actors| {
        let mut dots = DotSet::default();
        for (actor, counters) in actors {
            dots.insert_counters(actor, &counters);
        }
        dots
    })
}

pub(crate) fn any_context() -> impl Strategy<Value = Context> {
    vec(any_dot(), 0..8).prop_map(|dots| dots.into_iter().collect())
}

pub(crate) fn any_clock() -> impl Strategy<Value = VnodeClock> {
    any_dots().prop_map(|dots| {
        VnodeClock::from_bytes(&dots.to_bytes()).expect("a clock is encoded as its dots")
    })
}

pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
    let value = proptest::option::weighted(0.8, vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    (any_dot(), number(), proptest::option::of(number()), value).prop_map(
        |(dot, stamp, expires, value)| Entry {
            dot,
            stamp: Hlc(stamp),
            expires: expires.map(Millis),
            value,
        },
    )
}

pub(crate) fn any_row() -> impl Strategy<Value = Row> {
    let context = prop_oneof![Just(Context::default()).boxed(), any_context().boxed()];
    (vec(any_entry(), 0..5), context).prop_map(|(entries, context)| Row::new(entries, context))
}

pub(crate) fn any_delta() -> impl Strategy<Value = Delta> {
    (any_entry(), any_context()).prop_map(|(entry, context)| Delta { entry, context })
}

/// The dots of a small world, where everything meets.
pub(crate) const WORLD: [(u32, u64); 12] = [
    (1, 1),
    (1, 2),
    (1, 3),
    (1, 4),
    (2, 1),
    (2, 2),
    (2, 3),
    (2, 4),
    (3, 1),
    (3, 2),
    (3, 3),
    (3, 4),
];

fn world_dots(bits: u32) -> impl Iterator<Item = Dot> {
    WORLD
        .into_iter()
        .enumerate()
        .filter(move |(n, _)| bits & 1 << n != 0)
        .map(|(_, (node, counter))| dot(node, counter))
}

/// The writes of a small world, each dot at most once, in any order; each replaces any others.
pub(crate) fn world_deltas() -> impl Strategy<Value = Vec<Delta>> {
    let write = (any::<u32>(), any::<u32>(), 0u64..6, 0u8..5);
    (any::<u32>(), vec(write, WORLD.len())).prop_map(|(which, writes)| {
        let mut deltas: Vec<(u32, Delta)> = Vec::new();
        for (dot, (seen, sparse, stamp, value)) in world_dots(which).zip(writes) {
            let context = world_dots(seen & sparse).filter(|seen| *seen != dot).collect();
            let value = (value > 0).then(|| Bytes::copy_from_slice(&[value]));
            let entry = Entry { dot, stamp: Hlc(stamp), expires: None, value };
            deltas.push((seen ^ sparse, Delta { entry, context }));
        }
        deltas.sort_by_key(|(order, _)| *order);
        deltas.into_iter().map(|(_, delta)| delta).collect()
    })
}
