//! What reads wait while compactions run: with no rate limit, and with [`RateLimit::Auto`]; and for
//! comparison while nobody writes. One thread reads at random through a small cache, another one
//! overwrites at a steady rate. Interleaved rounds; every figure is the median of the rounds.
//!
//! `cargo run --release -p meridian-lsm --example give_way -- <directory> [rounds] [seconds] [MB/s]`

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a command for people, which measures time"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use meridian_lsm::{Compression, Db, DbOptions, RateLimit, Tree, TreeConfig, Workers, WriteBatch};
use meridian_vfs::StdFs;

const KEYS: u64 = 500_000;
const VALUE_BYTES: usize = 1000;
/// Rows of a batch.
const BATCH: usize = 16;
/// Two percent of the data.
const CACHE_BYTES: u64 = 10 << 20;

/// What is compared: its name, the limit, and whether anybody writes.
const CASES: [(&str, RateLimit, bool); 3] = [
    ("nobody writes", RateLimit::None, false),
    ("no limit", RateLimit::None, true),
    ("auto", RateLimit::Auto, true),
];

const FIGURES: [&str; 10] = [
    "reads/s",
    "p50 us",
    "p99 us",
    "p99.9 us",
    "max us",
    "put MB/s",
    "comp MB/s",
    "slowed",
    "stops",
    "most L0",
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 24
    }
}

fn put(db: &Db, tree: &Tree, keys: impl Iterator<Item = u64>, random: &mut Random) {
    let mut batch = WriteBatch::new();
    let mut value = [0; VALUE_BYTES];
    for key in keys {
        for part in value.chunks_mut(5) {
            part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]);
        }
        batch.put(tree, key.to_be_bytes(), value);
    }
    db.write(batch).unwrap();
}

/// Overwrites at a steady rate until it is told to stop; returns the bytes.
fn overwrite(db: &Db, tree: &Tree, bytes_per_second: u64, stop: &AtomicBool) -> u64 {
    let (begun, mut random, mut bytes) = (Instant::now(), Random(7), 0);
    while !stop.load(Ordering::Relaxed) {
        let keys: Vec<u64> = (0..BATCH).map(|_| random.next() % KEYS).collect();
        put(db, tree, keys.into_iter(), &mut random);
        bytes += (BATCH * VALUE_BYTES) as u64;
        let due = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    bytes
}

/// Nanoseconds of each read.
fn read(tree: &Tree, seconds: u64, most_runs: &AtomicU64, db: &Db) -> Vec<u64> {
    let (begun, mut random) = (Instant::now(), Random(1));
    let mut taken = Vec::new();
    while begun.elapsed() < Duration::from_secs(seconds) {
        if taken.len() % 1000 == 0 {
            most_runs.fetch_max(db.stats().trees[0].levels[0].tables, Ordering::Relaxed);
        }
        let key = (random.next() % KEYS).to_be_bytes();
        let asked = Instant::now();
        assert!(tree.get_latest(&key).unwrap().is_some());
        taken.push(u64::try_from(asked.elapsed().as_nanos()).unwrap());
    }
    taken
}

fn case(dir: &Path, limit: RateLimit, writes: bool, seconds: u64, rate: u64) -> [f64; 10] {
    let _none_yet = std::fs::remove_dir_all(dir);
    let options = DbOptions {
        block_cache_bytes: CACHE_BYTES,
        rate_limit: limit,
        table_bytes: 16 << 20,
        ..DbOptions::default()
    };
    let config = TreeConfig {
        memtable_bytes: 16 << 20,
        compression: Compression::None,
        ..TreeConfig::new("t")
    };
    let (db, _) = Db::open(Arc::new(StdFs), dir, options, vec![config]).unwrap();
    let workers = Workers::start(&db, 2).unwrap();
    let tree = db.tree("t").unwrap();
    let mut random = Random(3);
    for first in (0..KEYS).step_by(BATCH) {
        put(&db, &tree, first..KEYS.min(first + BATCH as u64), &mut random);
    }
    db.compact("t").unwrap();
    let (before, stop) = (db.stats(), AtomicBool::new(false));
    let most_runs = AtomicU64::new(0);
    let (mut taken, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| if writes { overwrite(&db, &tree, rate, &stop) } else { 0 });
        let taken = read(&tree, seconds, &most_runs, &db);
        stop.store(true, Ordering::Relaxed);
        (taken, writer.join().unwrap())
    });
    let after = db.stats();
    workers.stop();
    db.close().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    taken.sort_unstable();
    let at = |permille: usize| taken[(taken.len() - 1) * permille / 1000] as f64 / 1000.0;
    let each_second = |bytes: u64| bytes as f64 / 1e6 / seconds as f64;
    let compacted = |stats: &meridian_lsm::DbStats| stats.trees[0].compaction_written_bytes;
    [
        taken.len() as f64 / seconds as f64,
        at(500),
        at(990),
        at(999),
        at(1000),
        each_second(written),
        each_second(compacted(&after) - compacted(&before)),
        (after.slowdowns - before.slowdowns) as f64,
        (after.stops - before.stops) as f64,
        most_runs.load(Ordering::Relaxed) as f64,
    ]
}

fn main() {
    let mut given = std::env::args().skip(1);
    let dir = PathBuf::from(given.next().unwrap_or_else(|| "/tmp/give-way".into()));
    let mut number = |default: u64| given.next().map_or(default, |text| text.parse().unwrap());
    let (rounds, seconds, rate) = (number(3), number(20), number(15) * 1_000_000);
    let mut figures: [Vec<[f64; 10]>; CASES.len()] = Default::default();
    for _ in 0..rounds {
        for ((_, limit, writes), figures) in CASES.into_iter().zip(&mut figures) {
            figures.push(case(&dir, limit, writes, seconds, rate));
        }
    }
    print!("{:<16}", "");
    FIGURES.iter().for_each(|name| print!("{name:>11}"));
    println!();
    for ((name, ..), figures) in CASES.iter().zip(&figures) {
        print!("{name:<16}");
        for at in 0..FIGURES.len() {
            let mut of_rounds: Vec<f64> = figures.iter().map(|round| round[at]).collect();
            of_rounds.sort_by(f64::total_cmp);
            print!("{:>11.1}", of_rounds[of_rounds.len() / 2]);
        }
        println!();
    }
}
