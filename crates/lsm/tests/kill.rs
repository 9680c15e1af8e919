//! `kill -9` of a real process that writes, flushes and compacts on a real disk: whatever it said
//! was synced is there afterwards, and what is there is a prefix without holes.
//!
//! `MERIDIAN_LSM_KILLS=500 cargo test -p meridian-lsm --test kill` kills more often than the default.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "the test runs itself as another process and tells it by the environment"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use common::small;
use meridian_lsm::{Compression, Db, DbOptions, SyncPolicy, TreeConfig, Workers, WriteBatch};
use meridian_vfs::StdFs;

const CHILD: &str = "MERIDIAN_LSM_KILL_CHILD";
const KILLS: &str = "MERIDIAN_LSM_KILLS";
const THREADS: u64 = 2;

fn open(dir: &Path, sync: SyncPolicy) -> Db {
    let tree = |name| TreeConfig { memtable_bytes: 64 << 10, ..small(name, Compression::Lz4) };
    let options = DbOptions {
        sync,
        wal_segment_bytes: 64 << 10,
        table_bytes: 16 << 10,
        ..DbOptions::default()
    };
    Db::open(Arc::new(StdFs), dir, options, vec![tree("a"), tree("b")]).unwrap().0
}

fn key(thread: u64, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&thread.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn value(thread: u64, number: u64) -> Vec<u8> {
    let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ thread;
    seed.to_le_bytes().repeat(usize::try_from(4 + number % 40).unwrap())
}

/// How far each thread's keys go; panics at a hole, a wrong value, or half a batch.
fn written(db: &Db) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    let at = db.snapshot();
    let rows = |name: &str| -> Vec<_> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        db.tree(name).unwrap().scan(everything, &at).map(Result::unwrap).collect()
    };
    let (a, b) = (rows("a"), rows("b"));
    assert_eq!(a, b, "half a batch");
    for (stored, bytes) in a {
        let thread = u64::from_be_bytes(stored[..8].try_into().unwrap());
        let number = u64::from_be_bytes(stored[8..].try_into().unwrap());
        let before = found.insert(thread, number).unwrap_or(0);
        assert_eq!(number, before + 1, "a hole");
        assert_eq!(bytes, value(thread, number), "a wrong value");
    }
    found
}

/// Writes until it is killed; says each number that is synced.
fn write_for_ever(dir: &Path) {
    let db = open(dir, SyncPolicy::Always);
    let workers = Workers::start(&db, 1).unwrap();
    let from = written(&db);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (db, from) = (&db, from.get(&thread).copied().unwrap_or(0));
            scope.spawn(move || {
                let trees = [db.tree("a").unwrap(), db.tree("b").unwrap()];
                for number in from + 1.. {
                    let mut batch = WriteBatch::new();
                    for tree in &trees {
                        batch.put(tree, key(thread, number), value(thread, number));
                    }
                    let commit = db.write(batch).unwrap();
                    // Most are in flight without anybody who waits for them.
                    if number % 4 == 0 {
                        db.wait(&commit).unwrap();
                        let line = format!("synced {thread} {number}\n");
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    drop(workers);
}

/// Not a test: what the killed process runs.
#[test]
fn child() {
    if let Ok(dir) = std::env::var(CHILD) {
        write_for_ever(Path::new(&dir));
    }
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills after so many lines; returns the highest number of each thread that was said to be synced.
fn kill_after(mut child: Child, lines: u64) -> BTreeMap<u64, u64> {
    let mut synced = BTreeMap::new();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The harness says things, too; the last line may be cut.
        let Some((_, told)) = line.split_once("synced ") else { continue };
        let Some((thread, number)) = told.split_once(' ') else { continue };
        seen += 1;
        if seen == lines {
            child.kill().unwrap();
        }
        // A cut number is smaller than the whole one.
        if let (Ok(thread), Ok(number)) = (thread.parse::<u64>(), number.parse::<u64>()) {
            let highest = synced.entry(thread).or_insert(0);
            *highest = number.max(*highest);
        }
    }
    assert!(!child.wait().unwrap().success() && seen >= lines, "it ended by itself");
    synced
}

#[test]
fn what_was_said_to_be_synced_survives_kill_9() {
    let kills = std::env::var(KILLS).ok().map_or(20, |kills| kills.parse::<u64>().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut lines = 17u64;
    for kill in 0..kills {
        lines =
            lines.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let path = dir.path().join(format!("{}", kill / 50));
        let synced = kill_after(start(&path), 1 + (lines >> 33) % 150);
        let db = open(&path, SyncPolicy::default());
        let found = written(&db);
        for (thread, number) in &synced {
            let there = found.get(thread).copied().unwrap_or(0);
            assert!(there >= *number, "kill {kill}: {thread} has {there} of {number}");
        }
        db.verify().unwrap();
    }
}
