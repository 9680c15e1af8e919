//! The lines of the table: what each does, on how many threads, and how it checks the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail, ensure};
use meridian_workload::{HotIds, YCSB_THETA};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::engine::Engine;
use crate::measure::{Figures, Worker, measure};
use crate::work::{KEY_BYTES, Key, Values, missing_key, random_key, sequential_key};

/// Keys of a short range.
const SCAN: usize = 100;
/// Threads of the mixed workloads.
const MIXED_THREADS: u64 = 2;

/// How much work there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) keys: u64,
    pub(crate) value: usize,
}

/// Lines on the data that `fill-random` leaves, in this order.
pub(crate) const DATA_LINES: [&str; 12] = [
    "fill-random",
    "overwrite",
    "read-hot",
    "read-missing",
    "scan-100",
    "ycsb-a",
    "ycsb-b",
    "ycsb-c",
    "ycsb-d",
    "ycsb-e",
    "ycsb-f",
    "delete",
];
/// The line on the same data, opened again with a small cache.
pub(crate) const COLD_LINE: &str = "read-cold";
/// The line on a store of its own.
pub(crate) const SEQUENTIAL_LINE: &str = "fill-sequential";
/// Lines whose puts return when they are durable, with their threads.
pub(crate) const SYNC_LINES: [(&str, u64); 3] = [("sync-1", 1), ("sync-8", 8), ("sync-64", 64)];

/// All lines, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    let sync = SYNC_LINES.iter().map(|(name, _)| *name);
    DATA_LINES.into_iter().chain([COLD_LINE, SEQUENTIAL_LINE]).chain(sync)
}

/// Reads a key that is there.
fn read(engine: &dyn Engine, key: &Key, size: Size) -> Result<()> {
    let mut right = false;
    let found = engine.get(key, &mut |value| {
        right = value.starts_with(key) && value.len() == size.value.max(KEY_BYTES);
    })?;
    ensure!(found && right, "a wrong answer for {}", String::from_utf8_lossy(key));
    Ok(())
}

fn scan(engine: &dyn Engine, from: &Key, limit: usize) -> Result<()> {
    let mut last = Key::default();
    let mut right = true;
    let mut seen = 0;
    let count = engine.scan(from, limit, &mut |key, value| {
        right &= key > last.as_slice() && key >= from.as_slice() && value.starts_with(key);
        last.copy_from_slice(key);
        seen += 1;
    })?;
    ensure!(right && count == seen && count <= limit, "a scan in the wrong order");
    Ok(())
}

type Step<'a> = dyn FnMut(&dyn Engine, u64) -> Result<()> + Send + 'a;

fn one<'a>(step: impl FnMut(&dyn Engine, u64) -> Result<()> + Send + 'a) -> Vec<Worker<'a>> {
    let step: Box<Step<'a>> = Box::new(step);
    vec![step]
}

/// Runs one of [`DATA_LINES`] or [`COLD_LINE`].
pub(crate) fn data(engine: &Arc<dyn Engine>, line: &str, size: Size) -> Result<Figures> {
    let keys = size.keys;
    let mut values = Values::new(size.value);
    let mut random = SmallRng::seed_from_u64(11);
    match line {
        "fill-random" => measure(
            engine,
            keys,
            one(move |engine, i| {
                let key = random_key(i);
                engine.put(&key, values.of(&key, i))
            }),
        ),
        "overwrite" => measure(
            engine,
            keys,
            one(move |engine, i| {
                let key = random_key(random.random_range(0..keys));
                engine.put(&key, values.of(&key, keys + i))
            }),
        ),
        // Data that fits the cache has been there before.
        "read-hot" => {
            (0..keys).try_for_each(|id| read(&**engine, &random_key(id), size))?;
            measure(engine, keys, reads(keys, size))
        }
        "read-cold" => measure(engine, keys / 4, reads(keys, size)),
        "read-missing" => measure(
            engine,
            keys,
            one(move |engine, _| {
                let key = missing_key(random.random_range(0..keys));
                let found = engine.get(&key, &mut |_value| {})?;
                ensure!(!found, "a key that was never written");
                Ok(())
            }),
        ),
        "scan-100" => measure(
            engine,
            (keys / 20).max(1),
            one(move |engine, _| scan(engine, &random_key(random.random_range(0..keys)), SCAN)),
        ),
        "delete" => measure(
            engine,
            keys / 4,
            one(move |engine, i| {
                let key = random_key(i);
                engine.delete(&key)
            }),
        ),
        mixed => ycsb(engine, mixed, size),
    }
}

fn reads(keys: u64, size: Size) -> Vec<Worker<'static>> {
    let mut random = SmallRng::seed_from_u64(12);
    one(move |engine, _| read(engine, &random_key(random.random_range(0..keys)), size))
}

/// `fill-sequential`, and whether the last key is there.
pub(crate) fn sequential(engine: &Arc<dyn Engine>, size: Size) -> Result<Figures> {
    let mut values = Values::new(size.value);
    let figures = measure(
        engine,
        size.keys,
        one(move |engine, i| {
            let key = sequential_key(i);
            engine.put(&key, values.of(&key, i))
        }),
    )?;
    read(&**engine, &sequential_key(size.keys - 1), size)?;
    Ok(figures)
}

/// Puts from `threads` threads that each wait until theirs is durable.
pub(crate) fn synced(engine: &Arc<dyn Engine>, threads: u64, size: Size) -> Result<Figures> {
    // A sync is a tenth of a millisecond at best: fewer than elsewhere are enough.
    let each = (size.keys / 50).min(20_000).div_ceil(threads).max(20);
    let worker = |thread: u64| {
        let mut values = Values::new(size.value);
        let step: Box<Step<'static>> = Box::new(move |engine: &dyn Engine, i| {
            let key = random_key(thread << 32 | threads << 48 | i);
            engine.put(&key, values.of(&key, i))
        });
        step
    };
    let figures = measure(engine, each, (0..threads).map(worker).collect())?;
    read(&**engine, &random_key(threads << 48 | (each - 1)), size)?;
    Ok(figures)
}

/// What a step of YCSB does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mix {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

/// The share of the first in a hundred, the first, and the rest.
fn mix(line: &str) -> Result<(u64, Mix, Mix)> {
    Ok(match line {
        "ycsb-a" => (50, Mix::Read, Mix::Update),
        "ycsb-b" => (95, Mix::Read, Mix::Update),
        "ycsb-c" => (100, Mix::Read, Mix::Update),
        "ycsb-d" => (95, Mix::Read, Mix::Insert),
        "ycsb-e" => (95, Mix::Scan, Mix::Insert),
        "ycsb-f" => (50, Mix::Read, Mix::ReadModifyWrite),
        other => bail!("there is no line {other}"),
    })
}

fn ycsb(engine: &Arc<dyn Engine>, line: &str, size: Size) -> Result<Figures> {
    let (share, often, rest) = mix(line)?;
    let keys = size.keys;
    let hot = HotIds::new(keys, YCSB_THETA)?;
    let count = if line == "ycsb-e" { keys / 20 } else { keys / MIXED_THREADS };
    // D reads what was inserted last; each thread inserts ids of its own behind all others.
    let latest = line == "ycsb-d";
    let base = keys + if line == "ycsb-e" { 1 << 40 } else { 1 << 41 };
    let inserted: Vec<AtomicU64> = (0..MIXED_THREADS).map(|_| AtomicU64::new(0)).collect();
    let worker = |thread: u64| {
        let (hot, inserted) = (&hot, &inserted);
        let mut random = SmallRng::seed_from_u64(100 + thread);
        let mut values = Values::new(size.value);
        let own = &inserted[usize::try_from(thread).unwrap_or(0)];
        let fresh = move |n: u64| random_key(base + n * MIXED_THREADS + thread);
        let step: Box<Step<'_>> = Box::new(move |engine: &dyn Engine, i| {
            let act = if random.random_range(0..100) < share { often } else { rest };
            let key = if latest {
                let age = hot.rank(&mut random);
                let known = own.load(Ordering::Relaxed);
                if age < known { fresh(known - 1 - age) } else { random_key(keys - 1 - age) }
            } else {
                random_key(hot.next(&mut random))
            };
            match act {
                Mix::Read => read(engine, &key, size),
                Mix::Scan => {
                    let limit = usize::try_from(1 + random.random_range(0..SCAN as u64))?;
                    scan(engine, &key, limit)
                }
                Mix::Update => engine.put(&key, values.of(&key, i)),
                Mix::ReadModifyWrite => {
                    read(engine, &key, size)?;
                    engine.put(&key, values.of(&key, i))
                }
                Mix::Insert => {
                    let key = fresh(own.load(Ordering::Relaxed));
                    engine.put(&key, values.of(&key, i))?;
                    own.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            }
        });
        step
    };
    measure(engine, count, (0..MIXED_THREADS).map(worker).collect())
}
