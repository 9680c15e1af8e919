//! Random operations against a map that remembers everything. A failure is shrunk, printed and
//! kept; `PROPTEST_CASES=100000 cargo test -p meridian-lsm --test model` runs as long as one likes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Bound;
use std::sync::Arc;

use common::oracle::{
    State, TREES, Write, apply, batch, check, check_merged, check_range, drop_one, ingest, trees,
    write,
};
use common::{open_as, open_small, open_small_in, settings};
use meridian_lsm::{Db, Error, Recovery};
use meridian_vfs::{Fs, MemFs};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Write>),
    TakeSnapshot,
    DropSnapshot(usize),
    Flush,
    Compact(bool),
    Poll,
    Reopen {
        cleanly: bool,
    },
    /// With other options, and other settings of both trees.
    ReopenAs {
        cleanly: bool,
        options: usize,
        trees: [usize; 2],
    },
    /// More than the smallest memtable holds.
    Fill(usize, u8),
    Ingest(usize, Vec<(u8, u8)>),
    Checkpoint,
    Configure(usize, usize),
    Range(Bound<u8>, Bound<u8>),
}

fn bound() -> impl Strategy<Value = Bound<u8>> {
    prop_oneof![
        any::<u8>().prop_map(Bound::Included),
        any::<u8>().prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(write(), 1..6).prop_map(Step::Write),
        2 => Just(Step::TakeSnapshot),
        1 => any::<usize>().prop_map(Step::DropSnapshot),
        2 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Compact),
        3 => Just(Step::Poll),
        1 => any::<bool>().prop_map(|cleanly| Step::Reopen { cleanly }),
        2 => (any::<bool>(), any::<usize>(), any::<[usize; 2]>()).prop_map(
            |(cleanly, options, trees)| Step::ReopenAs { cleanly, options, trees }),
        1 => (0..2usize, any::<u8>()).prop_map(|(tree, byte)| Step::Fill(tree, byte)),
        2 => (0..2usize, proptest::collection::vec(any::<(u8, u8)>(), 1..30))
            .prop_map(|(tree, keys)| Step::Ingest(tree, keys)),
        1 => Just(Step::Checkpoint),
        1 => (0..2usize, any::<usize>()).prop_map(|(tree, which)| Step::Configure(tree, which)),
        2 => (bound(), bound()).prop_map(|(low, high)| Step::Range(low, high)),
    ]
}

/// What a checkpoint made now holds, opened beside the database.
fn check_checkpoint(fs: &Arc<dyn Fs>, db: &Db, number: usize, now: &State) {
    let dir = format!("/checkpoint-{number}");
    let made = db.checkpoint(dir.as_ref()).unwrap();
    assert_eq!(made.seqno, db.visible_seqno());
    let (copy, recovery) = open_small_in(fs, &dir).unwrap();
    assert!(recovery.lost.is_empty() && recovery.torn_tail_bytes == 0);
    check(&copy, &copy.snapshot(), now);
    // What happens to the copy is nothing to the database.
    copy.write(batch(&trees(&copy), &[Write::Delete(0, 0), Write::Put(1, 1, vec![9])])).unwrap();
    copy.compact("a").unwrap();
    copy.verify().unwrap();
}

fn reopen(db: Db, cleanly: bool, open: impl Fn() -> Result<(Db, Recovery), Error>) -> Db {
    if cleanly {
        db.clone().close().unwrap();
    }
    drop(db);
    let (again, recovery) = open().unwrap();
    assert_eq!((recovery.clean_shutdown, recovery.torn_tail_bytes), (cleanly, 0));
    again
}

fn fill(db: &Db, now: &mut State, tree: usize, byte: u8) {
    for number in 0..24 {
        let writes = [Write::Put(tree, number, vec![byte; 3000]), Write::Merge(1, number, byte)];
        db.write(batch(&trees(db), &writes)).unwrap();
        apply(now, &writes);
    }
}

fn run(steps: &[Step]) {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (mut db, _) = open_small(&fs).unwrap();
    let mut now = State::new();
    let mut snapshots = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Write(writes) => {
                db.write(batch(&trees(&db), writes)).unwrap();
                apply(&mut now, writes);
            }
            Step::TakeSnapshot => snapshots.push((db.snapshot(), now.clone())),
            Step::DropSnapshot(at) => drop_one(&db, &mut snapshots, *at),
            Step::Flush => db.flush().unwrap(),
            Step::Compact(first) => db.compact(if *first { "a" } else { "b" }).unwrap(),
            Step::Poll => {
                db.poll_job().unwrap();
            }
            Step::Reopen { cleanly } => {
                snapshots.clear();
                db = reopen(db, *cleanly, || open_small(&fs));
            }
            Step::ReopenAs { cleanly, options, trees } => {
                snapshots.clear();
                db = reopen(db, *cleanly, || open_as(&fs, *options, *trees));
            }
            Step::Fill(tree, byte) => fill(&db, &mut now, *tree, *byte),
            Step::Ingest(tree, keys) => ingest(&db, &mut now, *tree, keys),
            Step::Checkpoint => check_checkpoint(&fs, &db, number, &now),
            Step::Configure(tree, which) => {
                db.create_tree(settings(TREES[*tree], *which)).unwrap();
            }
            Step::Range(low, high) => check_range(&db, &db.snapshot(), &now, *low, *high),
        }
        check(&db, &db.snapshot(), &now);
    }
    while db.poll_job().unwrap() {}
    for (snapshot, then) in &snapshots {
        check(&db, snapshot, then);
    }
    drop(snapshots);
    check_merged(&db, &now);
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 256 unless PROPTEST_CASES says otherwise.
        cases: ProptestConfig::default().cases.saturating_mul(4),
        ..ProptestConfig::default()
    })]
    #[test]
    fn behaves_like_a_map(steps in proptest::collection::vec(step(), 1..60)) {
        run(&steps);
    }
}
