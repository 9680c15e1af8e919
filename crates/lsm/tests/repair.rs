//! A manifest is lost: at any moment of a random history, with every strategy, and while it is
//! being repaired. What comes back is what was there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::oracle::{
    State, TREES, Write, apply, batch, check, cut_at_every_sync, ingest, make_and_drop_another,
    read_all, trees, write, write_history,
};
use common::{DIR, open_small, settings, small_trees};
use meridian_lsm::{Error, RepairReport, repair};
use meridian_vfs::{CrashChoice, Fs, MemFs, StdFs};
use parking_lot::Mutex;
use proptest::prelude::*;

fn manifest() -> std::path::PathBuf {
    Path::new(DIR).join("MANIFEST")
}

fn repaired(disk: &Arc<dyn Fs>) -> RepairReport {
    let planned = repair(disk.clone(), DIR.as_ref(), &small_trees(), false).unwrap();
    let done = repair(disk.clone(), DIR.as_ref(), &small_trees(), true).unwrap();
    assert!(!planned.applied && done.applied);
    assert_eq!(RepairReport { applied: true, ..planned }, done);
    done
}

/// Ways to lose a manifest: damage where only a lie of the disk can have it, anywhere before its last
/// witness.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Removed,
    Cut(usize),
    Flipped(u64),
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::Removed),
        (0..32usize).prop_map(Loss::Cut),
        any::<u64>().prop_map(Loss::Flipped),
    ]
}

fn lose(disk: &MemFs, loss: Loss) {
    match loss {
        Loss::Removed => disk.remove(&manifest()).unwrap(),
        Loss::Cut(len) => disk.truncate(&manifest(), len).unwrap(),
        Loss::Flipped(bit) => {
            let bits = disk.open(&manifest()).unwrap().len().unwrap() * 8;
            // Behind the version, which may be turned into an earlier one.
            disk.flip_bit(&manifest(), 64 + bit % (bits - 64 - 24 * 8)).unwrap();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Write>),
    TakeSnapshot,
    DropSnapshots,
    Flush,
    Compact(bool),
    Poll(u8),
    Reopen,
    Ingest(usize, Vec<(u8, u8)>),
    Configure(usize, usize),
    Recreate,
    Clear,
    Lose(Loss),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(write(), 1..6).prop_map(Step::Write),
        2 => Just(Step::TakeSnapshot),
        1 => Just(Step::DropSnapshots),
        6 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Compact),
        6 => (1..4u8).prop_map(Step::Poll),
        1 => Just(Step::Reopen),
        2 => (0..2usize, proptest::collection::vec(any::<(u8, u8)>(), 1..30))
            .prop_map(|(tree, keys)| Step::Ingest(tree, keys)),
        2 => (0..2usize, any::<usize>()).prop_map(|(tree, which)| Step::Configure(tree, which)),
        1 => Just(Step::Recreate),
        1 => Just(Step::Clear),
        4 => loss().prop_map(Step::Lose),
    ]
}

/// Deletes everything, and merges it away.
fn clear(now: &State) -> Vec<Write> {
    (0..24).flat_map(|k| [Write::Delete(0, k), Write::Delete(1, k)]).take(now.len() + 48).collect()
}

/// A copy of the disk as it is now loses its manifest, and is repaired.
fn check_loss(disk: &MemFs, loss: Loss, now: &State) {
    let copy = disk.crash_clone(CrashChoice::KeepEverything);
    lose(&copy, loss);
    let copy: Arc<dyn Fs> = Arc::new(copy);
    let mut report = repair(copy.clone(), DIR.as_ref(), &small_trees(), false).unwrap();
    // Nothing hangs on a witness.
    let is_harmless = matches!(loss, Loss::Flipped(_)) && report.manifest.is_none();
    if !is_harmless {
        report = repaired(&copy);
    }
    assert!(report.is_complete(), "{report:?}");
    let (db, recovery) = open_small(&copy).unwrap();
    assert!(recovery.lost.is_empty());
    check(&db, &db.snapshot(), now);
    db.verify().unwrap();
    // It goes on from there.
    let mut now = now.clone();
    let writes = [Write::Put(0, 1, b"after".to_vec()), Write::Merge(1, 2, 3)];
    db.write(batch(&trees(&db), &writes)).unwrap();
    apply(&mut now, &writes);
    db.compact("a").unwrap();
    db.compact("b").unwrap();
    check(&db, &db.snapshot(), &now);
}

fn run(steps: &[Step]) {
    let memory = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(memory.clone());
    let (mut db, _) = open_small(&disk).unwrap();
    let mut now = State::new();
    let mut snapshots = Vec::new();
    for step in steps {
        match step {
            Step::Write(writes) => {
                db.write(batch(&trees(&db), writes)).unwrap();
                apply(&mut now, writes);
            }
            // A scan that is under way keeps the files of tables that are replaced.
            Step::TakeSnapshot => {
                let at = db.snapshot();
                let range = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
                snapshots.push((trees(&db)[0].scan(range, &at), at));
            }
            Step::DropSnapshots => snapshots.clear(),
            Step::Flush => db.flush().unwrap(),
            Step::Compact(first) => db.compact(if *first { "a" } else { "b" }).unwrap(),
            Step::Poll(times) => {
                for _ in 0..*times {
                    db.poll_job().unwrap();
                }
            }
            Step::Reopen => {
                snapshots.clear();
                drop(db);
                (db, _) = open_small(&disk).unwrap();
            }
            Step::Ingest(tree, keys) => ingest(&db, &mut now, *tree, keys),
            Step::Configure(tree, which) => {
                db.create_tree(settings(TREES[*tree], *which)).unwrap();
            }
            Step::Recreate => make_and_drop_another(&db),
            Step::Clear => {
                let writes = clear(&now);
                db.write(batch(&trees(&db), &writes)).unwrap();
                apply(&mut now, &writes);
                db.compact("a").unwrap();
            }
            Step::Lose(loss) => {
                db.sync().unwrap();
                check_loss(&memory, *loss, &now);
            }
        }
    }
    db.sync().unwrap();
    check_loss(&memory, Loss::Removed, &now);
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 128 unless PROPTEST_CASES says otherwise.
        cases: ProptestConfig::default().cases.div_ceil(2),
        ..ProptestConfig::default()
    })]
    #[test]
    fn a_lost_manifest_loses_nothing(steps in proptest::collection::vec(step(), 1..40)) {
        run(&steps);
    }
}

/// A disk as a power cut left it, with how many batches were durable and begun by then.
type Cut = (MemFs, String, usize, usize);

/// Runs steps, with a cut at every sync.
fn cuts(steps: &[Step]) -> (Vec<State>, Vec<Cut>) {
    let memory = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(memory.clone());
    let (db, _) = open_small(&disk).unwrap();
    let taken = Arc::new(Mutex::new((0, 0, Vec::new())));
    let hooked = taken.clone();
    cut_at_every_sync(&memory, move |disk, what| {
        let mut taken = hooked.lock();
        let (synced, begun) = (taken.0, taken.1);
        taken.2.push((disk, what, synced, begun));
    });
    let mut states = vec![State::new()];
    let mut ends = Vec::new();
    for step in steps {
        let mut next = states.last().unwrap().clone();
        match step {
            Step::Write(writes) => {
                apply(&mut next, writes);
                states.push(next);
                taken.lock().1 += 1;
                ends.push(db.write(batch(&trees(&db), writes)).unwrap().seqno());
            }
            Step::Clear => {
                let writes = clear(&next);
                apply(&mut next, &writes);
                states.push(next);
                taken.lock().1 += 1;
                ends.push(db.write(batch(&trees(&db), &writes)).unwrap().seqno());
                db.compact("a").unwrap();
            }
            Step::Ingest(tree, keys) => {
                taken.lock().1 += 1;
                ingest(&db, &mut next, *tree, keys);
                states.push(next);
                ends.push(db.visible_seqno());
            }
            Step::Flush => db.flush().unwrap(),
            Step::Compact(first) => db.compact(if *first { "a" } else { "b" }).unwrap(),
            Step::Poll(times) => {
                for _ in 0..*times {
                    db.poll_job().unwrap();
                }
            }
            Step::Configure(tree, which) => {
                db.create_tree(settings(TREES[*tree], *which)).unwrap();
            }
            _ => db.sync().unwrap(),
        }
        let durable = db.durable_seqno();
        taken.lock().0 = ends.iter().take_while(|end| **end <= durable).count();
    }
    memory.clear_sync_hook();
    drop(db);
    let cuts = std::mem::take(&mut taken.lock().2);
    (states, cuts)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 16 unless PROPTEST_CASES says otherwise.
        cases: ProptestConfig::default().cases.div_ceil(16),
        ..ProptestConfig::default()
    })]
    #[test]
    fn a_manifest_lost_in_a_power_cut_leaves_a_prefix(
        steps in proptest::collection::vec(step(), 1..25),
    ) {
        let (states, cuts) = cuts(&steps);
        for (cut, what, synced, begun) in cuts {
            lose(&cut, Loss::Removed);
            let disk: Arc<dyn Fs> = Arc::new(cut);
            let report = repaired(&disk);
            prop_assert!(report.missing.is_empty() && report.lost_writes.is_none(), "{report:?}");
            let (db, _) = open_small(&disk).unwrap();
            let found = read_all(&db, &db.snapshot()).unwrap();
            prop_assert!(
                states[synced..=begun].contains(&found),
                "{what}: {synced} to {begun}: {found:?}, {report:?}"
            );
            db.verify().unwrap();
        }
    }
}

/// A database with tables on several levels, deletes, operands, and a log.
fn build() -> (MemFs, State) {
    let memory = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(memory.clone());
    let (db, _) = open_small(&disk).unwrap();
    let state = write_history(&db);
    (memory, state)
}

fn tables(disk: &dyn Fs) -> Vec<std::path::PathBuf> {
    let names = disk.list(DIR.as_ref()).unwrap();
    let tables = names.iter().filter(|name| name.extension().is_some_and(|end| end == "sst"));
    tables.map(|name| Path::new(DIR).join(name)).collect()
}

#[test]
fn a_repair_that_is_stopped_anywhere_is_begun_again() {
    let (memory, state) = build();
    let disk: Arc<dyn Fs> = Arc::new(memory.clone());
    lose(&memory, Loss::Cut(30));
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let taken = cuts.clone();
    cut_at_every_sync(&memory, move |disk, _what| taken.lock().push(disk));
    let first = repaired(&disk);
    memory.clear_sync_hook();
    assert!(first.is_complete() && first.manifest.is_some(), "{first:?}");
    let cuts = std::mem::take(&mut *cuts.lock());
    assert!(cuts.len() > 5, "{}", cuts.len());
    for cut in cuts {
        let disk: Arc<dyn Fs> = Arc::new(cut);
        repair(disk.clone(), DIR.as_ref(), &small_trees(), true).unwrap();
        let (db, _) = open_small(&disk).unwrap();
        assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
        db.verify().unwrap();
    }
    // A second one finds nothing to do.
    let again = repair(disk.clone(), DIR.as_ref(), &small_trees(), true).unwrap();
    assert!(again.manifest.is_none() && !again.applied && again.is_complete());
    assert!(disk.exists(&Path::new(DIR).join("MANIFEST.damaged")).unwrap());
}

#[test]
fn a_damaged_table_is_set_aside_and_named_with_or_without_a_manifest() {
    let (memory, state) = build();
    for (with_manifest, table) in [true, false]
        .into_iter()
        .flat_map(|with| tables(&memory).into_iter().map(move |t| (with, t)))
    {
        let damaged = memory.crash_clone(CrashChoice::KeepEverything);
        damaged.flip_bit(&table, 300).unwrap();
        if !with_manifest {
            lose(&damaged, Loss::Removed);
        }
        let disk: Arc<dyn Fs> = Arc::new(damaged);
        let report = repaired(&disk);
        let named: Vec<_> = report.set_aside.iter().map(|aside| &aside.file).collect();
        assert_eq!(named, [&table], "{report:?}");
        assert!(!report.is_complete());
        let kept = table.with_extension("sst.aside");
        let (db, _) = open_small(&disk).unwrap();
        db.verify().unwrap();
        for value in read_all(&db, &db.snapshot()).unwrap().values() {
            assert!(!value.is_empty());
        }
        assert!(disk.exists(&kept).unwrap() && !state.is_empty());
    }
}

#[test]
fn where_no_database_was_none_is_made() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    disk.create_dir_all(DIR.as_ref()).unwrap();
    let told = repair(disk.clone(), DIR.as_ref(), &small_trees(), true).unwrap_err();
    assert!(matches!(told, Error::InvalidArgument { .. }), "{told}");
    assert!(!disk.exists(&manifest()).unwrap());
}

#[test]
fn a_missing_table_is_named() {
    let (memory, _) = build();
    let table = tables(&memory).pop().unwrap();
    memory.remove(&table).unwrap();
    let disk: Arc<dyn Fs> = Arc::new(memory);
    assert!(open_small(&disk).is_err());
    let report = repaired(&disk);
    assert_eq!(report.missing, [table]);
    open_small(&disk).unwrap().0.verify().unwrap();
}

/// Somebody puts an old manifest back. What it names that is gone is named, and nothing is touched;
/// a repair goes by the tables then. Where everything that it names is there, so is the log.
#[test]
fn an_older_manifest_is_refused_or_loses_nothing() {
    let memory = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(memory.clone());
    let (db, _) = open_small(&disk).unwrap();
    let mut older = Vec::new();
    let mut state = State::new();
    for round in 0..60u8 {
        let writes = [
            Write::Put(usize::from(round % 2), round, vec![round; 90]),
            Write::Merge(0, round / 2, round | 1),
            Write::Delete(1, round.wrapping_mul(5)),
        ];
        db.write(batch(&trees(&db), &writes)).unwrap();
        apply(&mut state, &writes);
        if round % 7 == 5 {
            db.flush().unwrap();
        }
        if round % 13 == 3 {
            while db.poll_job().unwrap() {}
        }
        older.push(meridian_vfs::read_all(&*disk, &manifest()).unwrap());
    }
    db.sync().unwrap();
    // The last one before it knew of other settings, no more.
    db.create_tree(settings(TREES[0], 3)).unwrap();
    drop(db);
    older.dedup();
    let (mut refused, mut sound) = (0, 0);
    for bytes in older {
        let copy = memory.crash_clone(CrashChoice::KeepEverything);
        copy.remove(&manifest()).unwrap();
        copy.create(&manifest()).unwrap().append(&bytes).unwrap();
        let copy: Arc<dyn Fs> = Arc::new(copy);
        let before = copy.list(DIR.as_ref()).unwrap();
        match open_small(&copy) {
            Ok(_) => sound += 1,
            Err(Error::Corruption { file, what, .. }) => {
                assert!(what.contains("missing"), "{}: {what}", file.display());
                assert_eq!(copy.list(DIR.as_ref()).unwrap(), before);
                let report = repaired(&copy);
                assert!(report.is_complete() && report.manifest.is_some(), "{report:?}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
        let (db, _) = open_small(&copy).unwrap();
        check(&db, &db.snapshot(), &state);
        db.verify().unwrap();
    }
    assert!(refused > 5 && sound > 0, "{refused} refused, {sound} sound");
}

#[test]
fn without_the_list_of_trees_tables_tell_their_names() {
    let (memory, state) = build();
    lose(&memory, Loss::Removed);
    memory.remove(&Path::new(DIR).join("TREES")).unwrap();
    let disk: Arc<dyn Fs> = Arc::new(memory);
    // Nobody knows how operands are merged.
    let told = repair(disk.clone(), DIR.as_ref(), &[], true).unwrap_err();
    assert!(matches!(told, Error::InvalidArgument { .. }), "{told}");
    let report = repaired(&disk);
    assert!(!report.trees_known && !report.is_complete());
    let names: Vec<_> = report.trees.iter().map(|tree| tree.name.as_str()).collect();
    assert_eq!(names, TREES);
    let (db, _) = open_small(&disk).unwrap();
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
}

#[test]
fn tables_of_version_1_are_set_aside_and_kept() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1-table");
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    disk.create_dir_all(DIR.as_ref()).unwrap();
    for name in StdFs.list(&from).unwrap().iter().filter(|name| !name.ends_with("MANIFEST")) {
        let bytes = meridian_vfs::read_all(&StdFs, &from.join(name)).unwrap();
        disk.create(&Path::new(DIR).join(name)).unwrap().append(&bytes).unwrap();
    }
    let tables = tables(&*disk);
    let report = repaired(&disk);
    let aside: Vec<_> = report.set_aside.iter().map(|aside| aside.file.clone()).collect();
    assert_eq!(aside, tables);
    assert!(report.set_aside.iter().all(|aside| aside.why.contains("version 1")), "{report:?}");
    // Nobody knows the trees of what is in the log.
    assert!(!report.unknown_trees.is_empty() && !report.is_complete());
    open_small(&disk).unwrap().0.verify().unwrap();
    for table in aside {
        assert!(disk.exists(&table.with_extension("sst.aside")).unwrap());
    }
}
