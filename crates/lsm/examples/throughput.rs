//! Puts and gets of 100-byte values from one thread, in a directory given as the argument: a quick
//! look at the data path, not a benchmark to quote.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a command for people, which measures time"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use meridian_lsm::{Db, DbOptions, SyncPolicy, TreeConfig, Workers, WriteBatch};
use meridian_vfs::StdFs;

const KEYS: u64 = 1_000_000;

fn key(number: u64) -> [u8; 16] {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&spread.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Seconds that this thread has spent on a processor, where the system says: a figure that other
/// work on the machine disturbs less.
fn on_processor() -> Option<f64> {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(figures.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

fn rate(what: &str, count: u64, work: impl FnOnce()) {
    let (begun, processor) = (Instant::now(), on_processor());
    work();
    let seconds = begun.elapsed().as_secs_f64();
    let thousands = count as f64 / 1000.0;
    print!("{what:<34}{:>10.0} k/s {seconds:>8.2} s", thousands / seconds);
    match (processor, on_processor()) {
        (Some(before), Some(after)) => {
            println!("{:>10.0} k/s of this thread's processor time", thousands / (after - before));
        }
        _ => println!(),
    }
}

fn main() {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "/tmp/throughput".into()));
    let options = DbOptions { block_cache_bytes: 256 << 20, ..DbOptions::default() };
    let configs = vec![TreeConfig::new("t")];
    let (db, recovery) = Db::open(Arc::new(StdFs), &dir, options, configs).unwrap();
    println!("{recovery:?}");
    let workers = Workers::start(&db, 1).unwrap();
    let tree = db.tree("t").unwrap();
    let value = [7u8; 100];
    let mut batch = WriteBatch::new();
    let mut worst = std::time::Duration::ZERO;
    rate("put, random order", KEYS, || {
        for number in 0..KEYS {
            let begun = Instant::now();
            batch.clear();
            batch.put(&tree, key(number), value);
            db.write_ref(&batch).unwrap();
            worst = worst.max(begun.elapsed());
        }
    });
    println!("worst put {worst:?}");
    rate("put, random order, owned batches", KEYS / 2, || {
        for number in 0..KEYS / 2 {
            let mut batch = WriteBatch::new();
            batch.put(&tree, key(number), value);
            db.write(batch).unwrap();
        }
    });
    rate("get, hot 1,000 keys in memtable", KEYS, || {
        for number in 0..KEYS {
            assert!(tree.get_latest(&key(KEYS / 2 - 1 - number % 1000)).unwrap().is_some());
        }
    });
    rate("get, random, as it lies", KEYS, || {
        for number in 0..KEYS {
            assert!(tree.get_latest(&key(number * 7919 % KEYS)).unwrap().is_some());
        }
    });
    rate("flush and compact", KEYS, || db.compact("t").unwrap());
    for round in ["cold", "warm"] {
        rate(&format!("get, random, tables, {round}"), KEYS, || {
            for number in 0..KEYS {
                assert!(tree.get_latest(&key(number * 7919 % KEYS)).unwrap().is_some());
            }
        });
    }
    rate("get, hot 1,000 keys in tables", KEYS, || {
        for number in 0..KEYS {
            assert!(tree.get_latest(&key(number % 1000)).unwrap().is_some());
        }
    });
    rate("get, missing", KEYS, || {
        for number in 0..KEYS {
            assert!(tree.get_latest(&key(KEYS + number)).unwrap().is_none());
        }
    });
    rate("scan, all", KEYS, || {
        let range = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        assert_eq!(tree.scan(range, &db.snapshot()).map(Result::unwrap).count() as u64, KEYS);
    });
    println!("{:#?}", db.stats());
    workers.stop();
    db.close().unwrap();
    synced(&dir.join("synced"));
}

/// Synced puts, from one and from eight threads.
fn synced(dir: &std::path::Path) {
    let options = DbOptions { sync: SyncPolicy::Always, ..DbOptions::default() };
    let configs = vec![TreeConfig::new("t")];
    let (db, _) = Db::open(Arc::new(StdFs), dir, options, configs).unwrap();
    let workers = Workers::start(&db, 1).unwrap();
    let tree = db.tree("t").unwrap();
    for threads in [1u64, 8, 64] {
        let each = 20_000 / threads.min(8);
        rate(&format!("synced put, {threads} threads"), threads * each, || {
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let (db, tree) = (&db, &tree);
                    scope.spawn(move || {
                        for number in 0..each {
                            let mut batch = WriteBatch::new();
                            batch.put(tree, key(thread * each + number), [7u8; 100]);
                            let commit = db.write(batch).unwrap();
                            db.wait(&commit).unwrap();
                        }
                    });
                }
            });
        });
    }
    workers.stop();
    db.close().unwrap();
}
