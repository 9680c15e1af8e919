//! What one row costs on the data path: `cargo bench -p meridian-crdt`.
//!
//! Plain loops over the steady state: one dot, one value of 100 bytes, nine actors in the clock.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use meridian_crdt::{
    Actor, ConflictPolicy, Context, ContextToken, Coverage, Delta, Dot, Entry, Row, TokenKey,
    TokenScope, VnodeClock,
};
use meridian_types::{Hlc, Incarnation, Millis, NodeId, TableId};

/// Loops per figure: enough that reading the clock does not show.
const LOOPS: u32 = 2_000_000;

fn measure<T>(what: &str, mut work: impl FnMut() -> T) {
    for _ in 0..LOOPS / 10 {
        black_box(work());
    }
    let start = Instant::now();
    for _ in 0..LOOPS {
        black_box(work());
    }
    let nanos = start.elapsed().as_secs_f64() * 1e9 / f64::from(LOOPS);
    println!("{what:44} {nanos:8.1} ns");
}

fn actor(node: u32) -> Actor {
    Actor {
        node: NodeId(node),
        incarnation: Incarnation(u64::from(node).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    }
}

fn entry(node: u32, counter: u64) -> Entry {
    Entry {
        dot: Dot::new(actor(node), counter),
        stamp: Hlc::new(Millis(1_790_000_000_000 + counter), 0),
        expires: None,
        value: Some(Bytes::from(vec![7; 100])),
    }
}

fn clock_of(actors: u32, base: u64) -> VnodeClock {
    let mut bytes = VnodeClock::default();
    for node in 1..=actors {
        for counter in 1..=base {
            bytes.insert(Dot::new(actor(node), counter));
        }
    }
    bytes
}

fn main() {
    let mut clock = clock_of(9, 1_000);
    let old = Row::new([entry(3, 17)], Context::default());
    let new = Row::new([entry(5, 1_001)], Context::default());
    let bytes = Bytes::from(old.to_bytes());
    let mut buffer = Vec::with_capacity(256);

    measure("Row::to_bytes", || old.to_bytes());
    measure("Row::encode into a buffer", || {
        buffer.clear();
        old.encode(&mut buffer);
    });
    measure("Row::from_bytes", || Row::from_bytes(&bytes));
    measure("Row::clone", || old.clone());
    measure("Row::digest", || old.digest());
    let context: Context = [Dot::new(actor(3), 17)].into_iter().collect();
    let delta = Delta { entry: entry(5, 1_001), context };
    measure("Delta::to_bytes", || delta.to_bytes());
    for (policy, name) in [(ConflictPolicy::Siblings, "siblings"), (ConflictPolicy::Lww, "lww")] {
        measure(&format!("Row::join, {name}, two rows (with clone)"), || {
            let mut row = old.clone();
            let theirs = Coverage { clock: Some(&clock), context: new.context() };
            row.join(policy, &theirs, &new, &theirs);
            row
        });
        measure(&format!("Row::join, {name}, same row (with clone)"), || {
            let mut row = old.clone();
            let theirs = Coverage { clock: Some(&clock), context: old.context() };
            row.join(policy, &theirs, &old, &theirs);
            row
        });
        measure(&format!("Row::apply, {name} (with clones)"), || {
            let mut row = old.clone();
            row.apply(policy, delta.clone());
            row
        });
    }
    measure("Row::reader_context, 9 actors", || old.reader_context(&clock));
    let mut counter = 1_000;
    measure("VnodeClock::insert, next of 9 actors", || {
        counter += 1;
        clock.insert(Dot::new(actor(5), counter))
    });
    measure("VnodeClock::contains", || clock.contains(Dot::new(actor(5), 900)));
    measure("VnodeClock::digest, 9 actors", || clock.digest());
    let key = TokenKey::derive(b"secret");
    let scope = TokenScope { table: TableId(1), key: b"some key of a row" };
    let seen = old.reader_context(&clock);
    measure("ContextToken::seal, 9 actors", || ContextToken::seal(&key, scope, &seen));
    let token = ContextToken::seal(&key, scope, &seen);
    measure("ContextToken::open, 9 actors", || ContextToken::open(&key, scope, token.as_bytes()));
}
