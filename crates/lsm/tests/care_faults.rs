//! Ingest, checkpoint, backup and restore on bad disks and under power cuts: every one ends whole or
//! with an error that names a file, the source stays as it was, and it works when the disk does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::oracle::{State, Write, apply, batch, key, read_all, trees};
use common::{open_small, open_small_in};
use meridian_lsm::{Db, Error, backup};
use meridian_vfs::{CrashChoice, Fault, FaultFs, FaultRule, Fs, MemFs, Op};
use parking_lot::Mutex;

fn round(number: u8) -> Vec<Write> {
    vec![
        Write::Put(0, number, vec![number; 50]),
        Write::Merge(1, number % 7, number | 1),
        Write::Delete(0, number.wrapping_mul(3)),
    ]
}

/// Tables, blob files and a log; a checkpoint in `/source` and its backup `one` in `/backups`.
fn build() -> (MemFs, State) {
    let memory = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(memory.clone());
    let (db, _) = open_small(&disk).unwrap();
    let mut state = State::new();
    for number in 0..30 {
        db.write(batch(&trees(&db), &round(number))).unwrap();
        apply(&mut state, &round(number));
        if number == 20 {
            db.flush().unwrap();
        }
    }
    db.sync().unwrap();
    db.checkpoint("/source".as_ref()).unwrap();
    backup::backup(&*disk, "/source".as_ref(), "/backups".as_ref(), "one").unwrap();
    drop(db);
    (memory, state)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Ingest,
    Checkpoint,
    Backup,
    Restore,
}

const VERBS: [Verb; 4] = [Verb::Ingest, Verb::Checkpoint, Verb::Backup, Verb::Restore];

fn rows() -> BTreeMap<Vec<u8>, Vec<u8>> {
    (0..24).map(|k| (key(k), vec![k; 200])).collect()
}

fn ingested(state: &State) -> State {
    let mut state = state.clone();
    state.extend(rows().into_iter().map(|(key, value)| ((0, key), value)));
    state
}

impl Verb {
    fn run(self, disk: &Arc<dyn Fs>, db: &Db, target: &str) -> Result<(), Error> {
        let name = target.trim_start_matches('/');
        match self {
            Self::Ingest => db.ingest(&trees(db)[0], &rows()).map(drop),
            Self::Checkpoint => db.checkpoint(target.as_ref()).map(drop),
            Self::Backup => {
                backup::backup(&**disk, "/source".as_ref(), "/backups".as_ref(), name).map(drop)
            }
            Self::Restore => {
                backup::restore(&**disk, "/backups".as_ref(), "one", target.as_ref()).map(drop)
            }
        }
    }

    /// Compares what it made with the state; false: it made nothing.
    fn check(self, disk: &Arc<dyn Fs>, target: &str, state: &State, what: &str) -> bool {
        let made: PathBuf = match self {
            Self::Ingest => return true,
            Self::Checkpoint | Self::Restore => Path::new(target).join("MANIFEST"),
            Self::Backup => Path::new("/backups/backups").join(target.trim_start_matches('/')),
        };
        if !disk.exists(&made).unwrap() {
            return false;
        }
        let mut dir = target.to_owned();
        if self == Self::Backup {
            dir.push_str("-restored");
            let name = target.trim_start_matches('/');
            backup::restore(&**disk, "/backups".as_ref(), name, dir.as_ref())
                .unwrap_or_else(|cause| panic!("{what}: {cause}"));
        }
        let opened = open_small_in(disk, &dir);
        let (db, recovery) = opened.unwrap_or_else(|cause| panic!("{what}: {cause}"));
        assert!(recovery.lost.is_empty());
        assert_eq!(&read_all(&db, &db.snapshot()).unwrap(), state, "{what}");
        db.verify().unwrap();
        true
    }
}

/// Every byte of what backups and restores read.
fn sources(disk: &dyn Fs) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for dir in ["/source", "/backups/files", "/backups/backups"] {
        for name in disk.list(dir.as_ref()).unwrap() {
            let file = Path::new(dir).join(name);
            let bytes = meridian_vfs::read_all(disk, &file).unwrap();
            files.insert(file, bytes);
        }
    }
    files
}

/// One verb over a disk with one fault; whether it failed, and whether the fault was met.
fn one(whole: &MemFs, state: &State, verb: Verb, rule: FaultRule) -> (bool, bool) {
    let what = format!("{verb:?} {rule:?}");
    let memory = whole.crash_clone(CrashChoice::KeepEverything);
    let fs = FaultFs::new(Arc::new(memory.clone()));
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let before = sources(&memory);
    let (db, _) = open_small(&disk).unwrap();
    let calls = fs.calls(rule.op);
    let (op, nth, silent) = (rule.op, rule.nth, !matches!(rule.fault, Fault::Error(_)));
    fs.inject(rule);
    let outcome = verb.run(&disk, &db, "/target");
    let met = fs.calls(op) - calls >= nth;
    fs.heal();
    if let Err(told) = &outcome {
        assert!(met, "{what}: {told}");
        assert!(told.to_string().contains('/'), "{what} names no file: {told}");
        assert!(silent || !told.is_corruption(), "{what}: {told}");
    }
    // The source is as it was.
    let after = sources(&memory);
    assert!(before.iter().all(|(file, bytes)| after.get(file) == Some(bytes)), "{what}");
    let now = read_all(&db, &db.snapshot()).unwrap();
    let expected =
        if verb == Verb::Ingest && outcome.is_ok() { ingested(state) } else { state.clone() };
    assert_eq!(now, expected, "{what}: {outcome:?}");
    let made = verb.check(&disk, "/target", state, &what);
    assert!(made || outcome.is_err(), "{what}");
    // It works when the disk does; after a fault that stopped the writes, when it is open again.
    let stopped = db.poisoned().is_some();
    drop(db);
    let (db, _) = open_small(&disk).unwrap();
    let now = read_all(&db, &db.snapshot()).unwrap();
    assert!(now == expected || stopped && now == ingested(state), "{what}: {outcome:?}");
    verb.run(&disk, &db, "/again").unwrap_or_else(|cause| panic!("{what}, then {cause}"));
    let now = if verb == Verb::Ingest { ingested(state) } else { now };
    assert!(verb.check(&disk, "/again", state, &what));
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), now, "{what}");
    while db.poll_job().unwrap() {}
    db.verify().unwrap();
    (outcome.is_err(), met)
}

fn every_call(op: Op, fault: Fault, sticky: bool) -> usize {
    let (memory, state) = build();
    let mut failed = 0;
    for verb in VERBS {
        for nth in 1.. {
            let rule = FaultRule { op, path: String::new(), nth, sticky, fault };
            let (failure, met) = one(&memory, &state, verb, rule);
            failed += usize::from(failure);
            if !met {
                break;
            }
            assert!(nth < 1000, "{verb:?} {op} for ever");
        }
    }
    failed
}

#[test]
fn any_call_may_fail() {
    let failed: usize =
        Op::EVERY.iter().map(|op| every_call(*op, Fault::Error(ErrorKind::Other), false)).sum();
    assert!(failed > 200, "{failed}");
}

#[test]
fn the_disk_may_be_full_from_any_call_on() {
    let ops = [Op::Create, Op::Append, Op::Sync, Op::Link, Op::Rename];
    let full = Fault::Error(ErrorKind::StorageFull);
    let failed: usize = ops.iter().map(|op| every_call(*op, full, true)).sum();
    let halves: usize =
        [0, 41].iter().map(|n| every_call(Op::Append, Fault::PartialAppend(*n), false)).sum();
    assert!(failed > 60 && halves > 20, "{failed} {halves}");
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let failed: usize =
        [5, 333].iter().map(|bit| every_call(Op::Read, Fault::FlipBit(*bit), false)).sum();
    assert!(failed > 10, "{failed}");
}

#[test]
fn a_power_cut_leaves_the_source_and_whole_copies_or_none() {
    let (whole, state) = build();
    for verb in VERBS {
        let memory = whole.crash_clone(CrashChoice::KeepEverything);
        let disk: Arc<dyn Fs> = Arc::new(memory.clone());
        let (db, _) = open_small(&disk).unwrap();
        let cuts = Arc::new(Mutex::new(Vec::new()));
        let taken = cuts.clone();
        memory.set_sync_hook(move |fs, point| {
            for choice in [
                CrashChoice::LoseUnsynced,
                CrashChoice::KeepEverything,
                CrashChoice::Torn(2 * point.number),
                CrashChoice::Torn(2 * point.number + 1),
            ] {
                taken.lock().push((fs.crash_clone(choice), format!("{choice:?} at {point:?}")));
            }
        });
        verb.run(&disk, &db, "/target").unwrap();
        memory.clear_sync_hook();
        let cuts = std::mem::take(&mut *cuts.lock());
        assert!(cuts.len() > 10, "{verb:?}: {}", cuts.len());
        let mut made = 0;
        for (cut, at) in cuts {
            let what = format!("{verb:?}, {at}");
            let disk: Arc<dyn Fs> = Arc::new(cut);
            let (db, _) = open_small(&disk).unwrap();
            let found = read_all(&db, &db.snapshot()).unwrap();
            assert!(found == state || verb == Verb::Ingest && found == ingested(&state), "{what}");
            made += usize::from(verb.check(&disk, "/target", &state, &what));
            verb.run(&disk, &db, "/again").unwrap_or_else(|cause| panic!("{what}, then {cause}"));
            assert!(verb.check(&disk, "/again", &state, &what));
        }
        assert!(made > 0, "{verb:?}");
        drop(db);
    }
}
