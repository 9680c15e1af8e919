//! Power cuts: at every sync point of a random run, before and after it takes effect, with the
//! unsynced lost, kept or torn. The reopened state is a prefix of the history and holds
//! everything that was synced.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::oracle::{
    State, TREES, Write, apply, batch, ingest, make_and_drop_another, read_all, trees, write,
};
use common::{open_small, open_small_in, settings};
use meridian_lsm::Db;
use meridian_vfs::{CrashChoice, Fs, MemFs};
use parking_lot::Mutex;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Write>),
    Sync,
    Flush,
    Poll,
    Compact,
    Reopen { cleanly: bool },
    Recreate,
    Ingest(usize, Vec<(u8, u8)>),
    Checkpoint,
    Configure(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(write(), 1..5).prop_map(Step::Write),
        3 => Just(Step::Sync),
        2 => Just(Step::Flush),
        4 => Just(Step::Poll),
        1 => Just(Step::Compact),
        1 => any::<bool>().prop_map(|cleanly| Step::Reopen { cleanly }),
        1 => Just(Step::Recreate),
        1 => (0..2usize, proptest::collection::vec(any::<(u8, u8)>(), 1..30))
            .prop_map(|(tree, keys)| Step::Ingest(tree, keys)),
        1 => Just(Step::Checkpoint),
        1 => (0..2usize, any::<usize>()).prop_map(|(tree, which)| Step::Configure(tree, which)),
    ]
}

/// What was known when a cut was taken.
struct Cut {
    disk: MemFs,
    what: String,
    /// Batches acknowledged as durable by then.
    synced: usize,
    /// Batches begun by then.
    begun: usize,
}

#[derive(Default)]
struct Progress {
    synced: usize,
    begun: usize,
    cuts: Vec<Cut>,
}

fn choices(number: u64) -> [CrashChoice; 4] {
    [
        CrashChoice::LoseUnsynced,
        CrashChoice::KeepEverything,
        CrashChoice::Torn(number.wrapping_mul(2)),
        CrashChoice::Torn(number.wrapping_mul(2) + 1),
    ]
}

fn watch(fs: &MemFs, progress: &Arc<Mutex<Progress>>) {
    let progress = progress.clone();
    fs.set_sync_hook(move |fs, point| {
        for choice in choices(point.number) {
            let disk = fs.crash_clone(choice);
            let mut progress = progress.lock();
            let what = format!("{choice:?} at {point:?}");
            let (synced, begun) = (progress.synced, progress.begun);
            progress.cuts.push(Cut { disk, what, synced, begun });
        }
    });
}

fn durable(db: &Db, ends: &[u64]) -> usize {
    let seqno = db.durable_seqno();
    ends.iter().take_while(|end| **end <= seqno).count()
}

/// Runs the steps; returns the state after each batch, and the cuts.
fn run(steps: &[Step]) -> (Vec<State>, Vec<Cut>, Vec<usize>) {
    let fs = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let progress = Arc::new(Mutex::new(Progress::default()));
    watch(&fs, &progress);
    let (mut db, _) = open_small(&disk).unwrap();
    let mut states = vec![State::new()];
    let mut ends = Vec::new();
    // For each checkpoint the number of batches before it.
    let mut checkpoints = Vec::new();
    for step in steps {
        match step {
            Step::Write(writes) => {
                let mut next = states.last().unwrap().clone();
                apply(&mut next, writes);
                states.push(next);
                progress.lock().begun += 1;
                ends.push(db.write(batch(&trees(&db), writes)).unwrap().seqno());
            }
            Step::Sync => db.sync().unwrap(),
            Step::Flush => db.flush().unwrap(),
            Step::Poll => {
                db.poll_job().unwrap();
            }
            Step::Compact => db.compact("a").unwrap(),
            Step::Reopen { cleanly } => {
                if *cleanly {
                    db.clone().close().unwrap();
                }
                drop(db);
                (db, _) = open_small(&disk).unwrap();
            }
            Step::Ingest(tree, keys) => {
                let mut next = states.last().unwrap().clone();
                progress.lock().begun += 1;
                ingest(&db, &mut next, *tree, keys);
                states.push(next);
                ends.push(db.visible_seqno());
            }
            Step::Checkpoint => {
                checkpoints.push(states.len() - 1);
                db.checkpoint(checkpoint_dir(checkpoints.len() - 1).as_ref()).unwrap();
            }
            Step::Configure(tree, which) => {
                db.create_tree(settings(TREES[*tree], *which)).unwrap();
            }
            Step::Recreate => make_and_drop_another(&db),
        }
        progress.lock().synced = durable(&db, &ends);
    }
    fs.clear_sync_hook();
    let cuts = std::mem::take(&mut progress.lock().cuts);
    (states, cuts, checkpoints)
}

fn checkpoint_dir(number: usize) -> String {
    format!("/checkpoint-{number}")
}

/// Every checkpoint that is a database at all is the whole one.
fn check_checkpoints(states: &[State], cut: &Cut, checkpoints: &[usize]) {
    let disk: Arc<dyn Fs> = Arc::new(cut.disk.clone());
    for (number, before) in checkpoints.iter().enumerate() {
        let dir = checkpoint_dir(number);
        if disk.exists(&Path::new(&dir).join("MANIFEST")).unwrap() {
            let opened = open_small_in(&disk, &dir);
            let (db, _) = opened.unwrap_or_else(|cause| panic!("{}: {cause}", cut.what));
            assert_eq!(read_all(&db, &db.snapshot()).unwrap(), states[*before], "{}", cut.what);
        }
    }
}

fn check_cut(states: &[State], cut: &Cut) {
    let disk: Arc<dyn Fs> = Arc::new(cut.disk.clone());
    let opened = open_small(&disk);
    let (db, _) = opened.unwrap_or_else(|cause| panic!("{}: {cause}", cut.what));
    let state = read_all(&db, &db.snapshot()).unwrap();
    let found = (cut.synced..=cut.begun).find(|at| states[*at] == state);
    assert!(
        found.is_some(),
        "{}: no prefix between {} and {}: {state:?}",
        cut.what,
        cut.synced,
        cut.begun
    );
    // It goes on from there, and survives being killed at once.
    let writes = [Write::Put(0, 1, b"after".to_vec())];
    let mut expected = state;
    apply(&mut expected, &writes);
    db.write(batch(&trees(&db), &writes)).unwrap();
    db.flush().unwrap();
    drop(db);
    let (db, _) = open_small(&disk).unwrap();
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), expected, "{}", cut.what);
    db.verify().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 64 unless PROPTEST_CASES says otherwise.
        cases: ProptestConfig::default().cases.div_ceil(4),
        ..ProptestConfig::default()
    })]
    #[test]
    fn every_cut_leaves_a_prefix_with_everything_synced(
        steps in proptest::collection::vec(step(), 1..25),
    ) {
        let (states, cuts, checkpoints) = run(&steps);
        prop_assert!(!cuts.is_empty());
        for cut in &cuts {
            check_cut(&states, cut);
            check_checkpoints(&states, cut, &checkpoints);
        }
    }
}
