//! A full disk: reads go on, writes are refused with an error that says so, and are taken again
//! when there is room, without anybody opening the database anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use common::oracle::{State, Write, apply, batch, read_all, trees};
use common::{DIR, open_small, small, small_options};
use meridian_lsm::{Compression, Db, DbOptions, Error, SyncPolicy, Workers, WriteBatch};
use meridian_vfs::{CrashChoice, Fault, FaultFs, FaultRule, Fs, MemFs, Op};

fn faulty() -> (MemFs, FaultFs, Arc<dyn Fs>) {
    let disk = MemFs::new();
    let fs = FaultFs::new(Arc::new(disk.clone()));
    (disk, fs.clone(), Arc::new(fs))
}

fn full(fs: &FaultFs, op: Op, path: &str) {
    let fault = Fault::Error(ErrorKind::StorageFull);
    fs.inject(FaultRule { op, path: path.into(), nth: 1, sticky: true, fault });
}

fn round(number: u8) -> Vec<Write> {
    vec![
        Write::Put(0, number, vec![number; 50]),
        Write::Merge(1, number % 7, number | 1),
        Write::Delete(0, number.wrapping_mul(3)),
    ]
}

fn is_full<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Full { .. }))
}

#[test]
fn the_log_refuses_while_the_disk_is_full_and_goes_on_by_itself() {
    for (op, at) in [(Op::Append, ".log"), (Op::Create, ".log")] {
        let (disk, fs, shared) = faulty();
        let (db, _) = open_small(&shared).unwrap();
        let mut state = State::new();
        full(&fs, op, at);
        // A log that has to begin a segment is full as well: it does so after 2 KiB.
        let mut accepted = 0;
        let refused = loop {
            let outcome = db.write(batch(&trees(&db), &round(accepted)));
            if is_full(&outcome) {
                break outcome;
            }
            outcome.unwrap();
            apply(&mut state, &round(accepted));
            accepted += 1;
            assert!(accepted < 100, "nothing is refused");
        };
        assert!(refused.unwrap_err().to_string().contains(".log"));
        assert!(is_full(&db.sync()));
        assert!(db.poisoned().is_none());
        assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
        fs.heal();
        db.write(batch(&trees(&db), &round(200))).unwrap();
        apply(&mut state, &round(200));
        db.sync().unwrap();
        assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
        let after: Arc<dyn Fs> = Arc::new(disk.crash_clone(CrashChoice::LoseUnsynced));
        let (db, recovery) = open_small(&after).unwrap();
        assert_eq!(recovery.torn_tail_bytes, 0);
        assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
    }
}

#[test]
fn who_waits_for_a_sync_is_told() {
    let (_disk, fs, shared) = faulty();
    let options = DbOptions { sync: SyncPolicy::Always, ..small_options() };
    let config = vec![small("a", Compression::None)];
    let (db, _) = Db::open(shared.clone(), Path::new(DIR), options, config).unwrap();
    let tree = db.tree("a").unwrap();
    let put = |number: u32| {
        let mut batch = WriteBatch::new();
        batch.put(&tree, number.to_be_bytes(), [7; 30]);
        db.write(batch)
    };
    let workers = Workers::start(&db, 1).unwrap();
    db.wait(&put(0).unwrap()).unwrap();
    full(&fs, Op::Append, ".log");
    // The thread notices when it writes; whoever is in by then is told when waiting.
    let mut written = vec![0];
    for number in 1.. {
        let Ok(commit) = put(number) else { break };
        written.push(number);
        assert!(is_full(&db.wait(&commit)));
    }
    let refused = u32::try_from(written.len()).unwrap();
    assert!(is_full(&put(refused)) && db.poisoned().is_none());
    assert_eq!(tree.get_latest(&refused.to_be_bytes()).unwrap(), None);
    fs.heal();
    let commit = loop {
        match put(refused) {
            Ok(commit) => break commit,
            Err(Error::Full { .. }) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    };
    db.wait(&commit).unwrap();
    workers.stop();
    db.close().unwrap();
    let (db, recovery) = Db::open(shared, Path::new(DIR), small_options(), Vec::new()).unwrap();
    assert!(recovery.clean_shutdown);
    let tree = db.tree("a").unwrap();
    for number in 0..=refused {
        assert!(tree.get_latest(&number.to_be_bytes()).unwrap().is_some(), "{number}");
    }
}

#[test]
fn a_manifest_without_room_refuses_flushes_and_no_writes() {
    let (disk, fs, shared) = faulty();
    let (db, _) = open_small(&shared).unwrap();
    let mut state = State::new();
    for number in 0..20 {
        db.write(batch(&trees(&db), &round(number))).unwrap();
        apply(&mut state, &round(number));
    }
    full(&fs, Op::Append, "MANIFEST");
    assert!(is_full(&db.flush()) && is_full(&db.drop_tree("a")) && is_full(&db.compact("b")));
    assert!(is_full(&db.create_tree(common::config("c"))) && db.poisoned().is_none());
    db.write(batch(&trees(&db), &round(77))).unwrap();
    apply(&mut state, &round(77));
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
    fs.heal();
    db.flush().unwrap();
    db.compact("a").unwrap();
    while db.poll_job().unwrap() {}
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
    let tables = disk.list(Path::new(DIR)).unwrap();
    let tables = tables.iter().filter(|name| name.extension().is_some_and(|e| e == "sst"));
    let known: u64 =
        db.stats().trees.iter().flat_map(|tree| &tree.levels).map(|level| level.tables).sum();
    assert_eq!(tables.count() as u64, known);
    let after: Arc<dyn Fs> = Arc::new(disk.crash_clone(CrashChoice::LoseUnsynced));
    let (db, _) = open_small(&after).unwrap();
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
    db.verify().unwrap();
}

/// Tries what a full disk refused once more.
fn again<T>(mut act: impl FnMut() -> Result<T, Error>) -> T {
    let told = match act() {
        Ok(done) => return done,
        Err(cause) => cause,
    };
    let passes = match &told {
        Error::Full { .. } | Error::Stalled { .. } => true,
        Error::Io(cause) => cause.is_disk_full(),
        _ => false,
    };
    assert!(passes, "{told}");
    act().unwrap_or_else(|cause| panic!("{cause} after {told}"))
}

#[test]
fn any_append_may_find_no_room_once_and_nothing_is_lost() {
    let mut hits = 0;
    for kept in [0, 1, 39, 40, 60] {
        for nth in 1.. {
            let (disk, fs, shared) = faulty();
            let (db, _) = open_small(&shared).unwrap();
            let fault = Fault::PartialAppend(kept);
            fs.inject(FaultRule { op: Op::Append, path: String::new(), nth, sticky: false, fault });
            let mut state = State::new();
            for number in 0..20 {
                again(|| db.write(batch(&trees(&db), &round(number))));
                apply(&mut state, &round(number));
                match number % 8 {
                    2 => again(|| db.sync()),
                    4 => again(|| db.flush()),
                    6 => while again(|| db.poll_job()) {},
                    _ => {}
                }
            }
            again(|| db.compact("a"));
            again(|| db.sync());
            assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state, "{kept} {nth}");
            let appends = fs.calls(Op::Append);
            if nth % 2 == 0 {
                again(|| db.clone().close());
            }
            drop(db);
            let after: Arc<dyn Fs> = Arc::new(disk.crash_clone(CrashChoice::LoseUnsynced));
            let (db, recovery) = open_small(&after).unwrap();
            assert_eq!(recovery.clean_shutdown, nth % 2 == 0);
            assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state, "{kept} {nth}");
            db.verify().unwrap();
            if nth > appends {
                break;
            }
            hits += 1;
        }
    }
    assert!(hits > 150, "{hits}");
}
