//! Every compaction strategy, and changes between them while the database runs: random operations
//! against a map, and power cuts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::oracle::{
    State, Write, apply, batch, check, check_merged, cut_at_every_sync, drop_one, read_all, trees,
    write,
};
use common::{DIR, small, small_options, strategies};
use meridian_lsm::{Compression, Db, Error, TreeConfig, WriteBatch};
use meridian_vfs::{Fs, MemFs};
use parking_lot::Mutex;
use proptest::prelude::*;

fn configs(strategy: usize) -> Vec<TreeConfig> {
    let config = |name, compression| TreeConfig {
        compaction: strategies()[strategy],
        ..small(name, compression)
    };
    vec![config("a", Compression::Lz4), config("b", Compression::None)]
}

fn open(disk: &Arc<dyn Fs>, strategy: usize) -> Result<Db, Error> {
    let (db, _) = Db::open(disk.clone(), Path::new(DIR), small_options(), configs(strategy))?;
    Ok(db)
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Write>),
    TakeSnapshot,
    DropSnapshot(usize),
    Flush,
    Compact,
    Poll(u8),
    Settle,
    Wait(u64),
    Switch(usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(write(), 1..6).prop_map(Step::Write),
        1 => Just(Step::TakeSnapshot),
        1 => any::<usize>().prop_map(Step::DropSnapshot),
        8 => Just(Step::Flush),
        1 => Just(Step::Compact),
        4 => (1..4u8).prop_map(Step::Poll),
        1 => Just(Step::Settle),
        2 => (1..150u64).prop_map(Step::Wait),
        1 => (0..4usize).prop_map(Step::Switch),
        1 => Just(Step::Reopen),
    ]
}

fn run(first: usize, steps: &[Step]) {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (mut strategy, mut now_ms) = (first, 1);
    let mut db = open(&disk, strategy).unwrap();
    let mut now = State::new();
    let mut snapshots = Vec::new();
    for step in steps {
        db.set_time(now_ms);
        match step {
            Step::Write(writes) => {
                db.write(batch(&trees(&db), writes)).unwrap();
                apply(&mut now, writes);
            }
            Step::TakeSnapshot => snapshots.push((db.snapshot(), now.clone())),
            Step::DropSnapshot(at) => drop_one(&db, &mut snapshots, *at),
            Step::Flush => db.flush().unwrap(),
            Step::Compact => db.compact("a").unwrap(),
            Step::Poll(times) => {
                for _ in 0..*times {
                    db.poll_job().unwrap();
                }
            }
            Step::Settle => settle(&db),
            Step::Wait(by) => now_ms += by,
            Step::Switch(to) => {
                strategy = *to;
                for config in configs(strategy) {
                    db.create_tree(config).unwrap();
                }
            }
            Step::Reopen => {
                snapshots.clear();
                drop(db);
                db = open(&disk, strategy).unwrap();
            }
        }
        check(&db, &db.snapshot(), &now);
    }
    settle(&db);
    for (snapshot, then) in &snapshots {
        check(&db, snapshot, then);
    }
    check(&db, &db.snapshot(), &now);
    drop(snapshots);
    check_merged(&db, &now);
}

fn settle(db: &Db) {
    for round in 0.. {
        assert!(round < 10_000, "compaction never ends: {:?}", db.stats());
        if !db.poll_job().unwrap() {
            break;
        }
    }
    for tree in db.stats().trees {
        assert_eq!((tree.running_compactions, tree.pending_compaction_bytes), (0, 0));
    }
}

/// A disk as a power cut left it, with how many batches were durable and begun by then.
type Cut = (MemFs, usize, usize);

/// Writes, flushes and compacts, with a cut at every sync.
fn cuts(strategies: &[usize], batches: &[Vec<Write>]) -> (Vec<State>, Vec<Cut>) {
    let fs = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let taken = Arc::new(Mutex::new((0, 0, Vec::new())));
    let hooked = taken.clone();
    cut_at_every_sync(&fs, move |disk, _what| {
        let mut taken = hooked.lock();
        let (synced, begun) = (taken.0, taken.1);
        taken.2.push((disk, synced, begun));
    });
    let db = open(&disk, strategies[0]).unwrap();
    let mut states = vec![State::new()];
    for (number, writes) in batches.iter().enumerate() {
        let mut next = states.last().unwrap().clone();
        apply(&mut next, writes);
        states.push(next);
        taken.lock().1 += 1;
        db.write(batch(&trees(&db), writes)).unwrap();
        db.set_time(number as u64 * 30 + 1);
        db.flush().unwrap();
        taken.lock().0 = states.len() - 1;
        while db.poll_job().unwrap() {}
        for config in configs(strategies[number % strategies.len()]) {
            db.create_tree(config).unwrap();
        }
    }
    drop(db);
    fs.clear_sync_hook();
    let cuts = std::mem::take(&mut taken.lock().2);
    (states, cuts)
}

#[test]
fn a_window_that_is_over_is_one_run_and_left_alone() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let db = open(&disk, 2).unwrap();
    let tree = db.tree("a").unwrap();
    let mut written = Vec::new();
    for window in 0..4u64 {
        for part in 0..3u64 {
            db.set_time(window * 100 + part * 20 + 10);
            let mut batch = WriteBatch::new();
            (0..20u64).for_each(|key| batch.put(&tree, (key + part).to_be_bytes(), [7; 40]));
            db.write(batch).unwrap();
            db.flush().unwrap();
        }
        db.set_time(window * 100 + 100);
        settle(&db);
        let stats = db.stats();
        assert_eq!(stats.trees[0].levels[0].tables, window + 1, "one for each window");
        written.push(stats.trees[0].compaction_written_bytes);
    }
    // What a window costs does not grow with those before it.
    let costs: Vec<u64> = written.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(costs.iter().all(|cost| *cost <= written[0] + 200), "{written:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_a_map(
        first in 0..4usize,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(first, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn every_cut_leaves_a_prefix(
        strategies in proptest::collection::vec(0..4usize, 1..4),
        batches in proptest::collection::vec(proptest::collection::vec(write(), 1..8), 2..12),
    ) {
        let (states, cuts) = cuts(&strategies, &batches);
        for (cut, synced, begun) in cuts {
            let disk: Arc<dyn Fs> = Arc::new(cut);
            let db = open(&disk, strategies[0]).unwrap();
            let found = read_all(&db, &db.snapshot()).unwrap();
            prop_assert!(states[synced..=begun].contains(&found), "{synced} to {begun}: {found:?}");
            settle(&db);
            prop_assert_eq!(read_all(&db, &db.snapshot()).unwrap(), found);
            db.verify().unwrap();
        }
    }
}
