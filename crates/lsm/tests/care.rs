//! Copies of a running database, bulk ingest, and what verification finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::oracle::{State, Write, apply, batch, ingest, read_all, trees};
use common::{DIR, open_small, open_small_in, small};
use meridian_lsm::{Compression, Db, DbOptions, Error, TreeConfig, Workers, WriteBatch, backup};
use meridian_vfs::{Fault, FaultFs, FaultRule, Fs, MemFs, Op, StdFs};

fn round(number: u8) -> Vec<Write> {
    vec![
        Write::Put(0, number, vec![number; 50]),
        Write::Merge(1, number % 7, number | 1),
        Write::Delete(0, number.wrapping_mul(3)),
    ]
}

#[test]
fn a_checkpoint_made_under_load_holds_what_was_acknowledged_and_no_half_of_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let tree = |name| TreeConfig { memtable_bytes: 64 << 10, ..small(name, Compression::Lz4) };
    let options = || DbOptions { wal_segment_bytes: 32 << 10, ..DbOptions::default() };
    let configs = || vec![tree("a"), tree("b")];
    let (db, _) = Db::open(fs.clone(), &dir.path().join("db"), options(), configs()).unwrap();
    let workers = Workers::start(&db, 1).unwrap();
    let written = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (a, b) = (db.tree("a").unwrap(), db.tree("b").unwrap());
            for number in 1..=6000u64 {
                let mut both = WriteBatch::new();
                both.put(&a, (number % 500).to_be_bytes(), number.to_be_bytes());
                both.put(
                    &b,
                    (number % 500).to_be_bytes(),
                    [&number.to_be_bytes()[..], &[1; 60]].concat(),
                );
                both.put(&a, b"last", number.to_be_bytes());
                db.write(both).unwrap();
                written.store(number, std::sync::atomic::Ordering::SeqCst);
            }
        });
        let mut made = 0;
        while !writer.is_finished() || made == 0 {
            let before = written.load(std::sync::atomic::Ordering::SeqCst);
            let copy = dir.path().join(format!("copy-{made}"));
            db.checkpoint(&copy).unwrap();
            let (opened, _) = Db::open(fs.clone(), &copy, options(), configs()).unwrap();
            opened.verify().unwrap();
            let (a, b) = (opened.tree("a").unwrap(), opened.tree("b").unwrap());
            let number = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().unwrap());
            let last = a.get_latest(b"last").unwrap().map_or(0, |value| number(&value));
            assert!(last >= before, "{last} after {before}");
            for key in 0..500u64 {
                let expected = (last.saturating_sub(499)..=last).find(|n| n % 500 == key && *n > 0);
                for tree in [&a, &b] {
                    let found = tree.get_latest(&key.to_be_bytes()).unwrap();
                    assert_eq!(found.map(|value| number(&value)), expected, "{key} at {last}");
                }
            }
            made += 1;
        }
        writer.join().unwrap();
    });
    workers.stop();
}

#[test]
fn a_checkpoint_that_fails_leaves_no_database() {
    let mut failed = 0;
    for op in [Op::Link, Op::Create, Op::Append, Op::Sync, Op::Rename, Op::SyncDir] {
        for nth in 1..40 {
            let fs = FaultFs::new(Arc::new(MemFs::new()));
            let disk: Arc<dyn Fs> = Arc::new(fs.clone());
            let (db, _) = open_small(&disk).unwrap();
            let mut state = State::new();
            for number in 0..20 {
                db.write(batch(&trees(&db), &round(number))).unwrap();
                apply(&mut state, &round(number));
            }
            let fault = Fault::Error(std::io::ErrorKind::Other);
            fs.inject(FaultRule { op, path: String::new(), nth, sticky: false, fault });
            let made = db.checkpoint("/copy".as_ref());
            fs.heal();
            failed += usize::from(made.is_err());
            assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
            if disk.exists("/copy/MANIFEST".as_ref()).unwrap() {
                let (copy, _) = open_small_in(&disk, "/copy").unwrap();
                assert_eq!(read_all(&copy, &copy.snapshot()).unwrap(), state);
            } else {
                assert!(made.is_err());
            }
            if made.is_ok() {
                let again = db.checkpoint("/copy".as_ref());
                assert!(matches!(again, Err(Error::InvalidArgument { .. })));
                break;
            }
        }
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn ingested_keys_go_as_deep_as_they_may() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, _) = open_small(&disk).unwrap();
    let mut state = State::new();
    let tables = |level: usize| db.stats().trees[0].levels[level].tables;
    ingest(&db, &mut state, 0, &[(1, 1), (2, 2), (3, 3)]);
    assert_eq!((tables(0), tables(6)), (0, 1));
    // The same range again: above what is there.
    ingest(&db, &mut state, 0, &[(2, 9), (3, 8)]);
    assert_eq!((tables(5), tables(6)), (1, 1));
    // Something older in memory: above that.
    let writes = [Write::Put(0, 2, vec![5]), Write::Merge(0, 3, 7)];
    db.write(batch(&trees(&db), &writes)).unwrap();
    apply(&mut state, &writes);
    ingest(&db, &mut state, 0, &[(2, 4)]);
    assert_eq!(tables(0), 2);
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
    // A tombstone that was written later covers what was ingested.
    db.write(batch(&trees(&db), &[Write::Delete(0, 2)])).unwrap();
    apply(&mut state, &[Write::Delete(0, 2)]);
    db.compact("a").unwrap();
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
    drop(db);
    let (db, _) = open_small(&disk).unwrap();
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
}

#[test]
fn what_is_written_while_an_ingest_runs_is_newer() {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, _) = open_small(&disk).unwrap();
    let mut state = State::new();
    let write = |state: &mut State, writes: &[Write]| {
        db.write(batch(&trees(&db), writes)).unwrap();
        apply(state, writes);
    };
    write(&mut state, &[Write::Put(0, 1, vec![1]), Write::Put(0, 2, vec![1])]);
    let keys = [1, 2].map(common::oracle::key);
    state.extend(keys.iter().map(|key| ((0, key.clone()), vec![9; 60])));
    // The second row is asked for when the first one's table has been begun.
    let rows = keys.iter().enumerate().map(|(at, key)| {
        if at == 1 {
            write(&mut state, &[Write::Merge(0, 1, 7), Write::Put(0, 2, vec![5])]);
        }
        (key, [9; 60])
    });
    db.ingest(&trees(&db)[0], rows).unwrap();
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
    db.compact("a").unwrap();
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
}

#[test]
fn an_ingest_that_fails_brings_nothing() {
    let disk = MemFs::new();
    let shared: Arc<dyn Fs> = Arc::new(disk.clone());
    let (db, _) = open_small(&shared).unwrap();
    let tree = db.tree("b").unwrap();
    let rows = [("a", [7; 900]), ("c", [7; 900]), ("b", [7; 900])];
    assert!(matches!(db.ingest(&tree, rows), Err(Error::InvalidArgument { .. })));
    assert_eq!(db.ingest(&tree, Vec::<(&str, &str)>::new()).unwrap().tables, 0);
    while db.poll_job().unwrap() {}
    let names = disk.list(Path::new(DIR)).unwrap();
    assert!(!names.iter().any(|name| name.extension().is_some_and(|end| end == "sst")));
    assert_eq!(tree.get_latest(b"a").unwrap(), None);
    let sorted: Vec<_> = (0..40u8).map(|k| ([k], [k; 200])).collect();
    let ingested = db.ingest(&tree, sorted).unwrap();
    assert!(ingested.tables > 3 && ingested.entries == 40, "{ingested:?}");
    assert_eq!(tree.get_latest(&[39]).unwrap().unwrap(), [39; 200][..]);
}

#[test]
fn verification_tells_of_every_file_and_finds_rot_in_each() {
    let disk = MemFs::new();
    let shared: Arc<dyn Fs> = Arc::new(disk.clone());
    let (db, _) = open_small(&shared).unwrap();
    for number in 0..60 {
        db.write(batch(&trees(&db), &round(number))).unwrap();
        if number == 20 {
            db.flush().unwrap();
        }
    }
    db.sync().unwrap();
    let mut files = Vec::new();
    db.verify_with(&mut |progress| files.push(progress)).unwrap();
    let last = files.last().unwrap();
    assert!(last.done == last.files && last.bytes > 1000 && files.len() > 4, "{files:?}");
    for progress in &files {
        let bit = if progress.file.ends_with("MANIFEST") { 3 } else { 60 * 8 };
        disk.flip_bit(&progress.file, bit).unwrap();
        let told = db.verify().unwrap_err();
        assert!(
            matches!(&told, Error::Corruption { file, .. } if *file == progress.file),
            "{told}"
        );
        disk.flip_bit(&progress.file, bit).unwrap();
    }
    db.verify().unwrap();
}

/// Writes, takes a checkpoint and backs it up.
fn back_up(disk: &Arc<dyn Fs>, db: &Db, name: &str) -> backup::Copied {
    let checkpoint = format!("/checkpoint-{name}");
    db.checkpoint(checkpoint.as_ref()).unwrap();
    backup::backup(&**disk, checkpoint.as_ref(), "/backups".as_ref(), name).unwrap()
}

#[test]
fn backups_share_what_did_not_change_and_each_is_restored_whole() {
    let memory = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(memory.clone());
    let (db, _) = open_small(&disk).unwrap();
    let mut states = vec![State::new()];
    let mut write = |db: &Db, number: u8| {
        let mut next = states.last().unwrap().clone();
        for at in 0..20 {
            let writes = round(number.wrapping_add(at));
            db.write(batch(&trees(db), &writes)).unwrap();
            apply(&mut next, &writes);
        }
        states.push(next);
    };
    write(&db, 0);
    let first = back_up(&disk, &db, "one");
    assert_eq!(first.copied_bytes, first.bytes);
    write(&db, 100);
    let second = back_up(&disk, &db, "two");
    assert!(second.copied_bytes < second.bytes, "{second:?}");
    let taken = backup::backup(&*disk, "/checkpoint-two".as_ref(), "/backups".as_ref(), "two");
    assert!(matches!(taken, Err(Error::InvalidArgument { .. })));
    drop(db);
    let restore = |disk: &dyn Fs, name: &str, dir: &str| {
        backup::restore(disk, "/backups".as_ref(), name, dir.as_ref())
    };
    for (at, name) in ["one", "two"].iter().enumerate() {
        let dir = format!("/restored-{name}");
        restore(&*disk, name, &dir).unwrap();
        let (db, _) = open_small_in(&disk, &dir).unwrap();
        assert_eq!(read_all(&db, &db.snapshot()).unwrap(), states[at + 1]);
        db.verify().unwrap();
    }
    assert!(matches!(restore(&*disk, "three", "/x"), Err(Error::InvalidArgument { .. })));
    assert!(matches!(restore(&*disk, "../LOCK", "/x"), Err(Error::InvalidArgument { .. })));
    // Rot in any file of the repository is found before there is a database.
    for (number, dir) in ["/backups/files", "/backups/backups"].into_iter().enumerate() {
        for name in memory.list(dir.as_ref()).unwrap() {
            let damaged = memory.crash_clone(meridian_vfs::CrashChoice::KeepEverything);
            let file = Path::new(dir).join(&name);
            damaged.flip_bit(&file, 100).unwrap();
            let told = ["one", "two"].map(|name| restore(&damaged, name, &format!("/r-{name}")));
            assert!(told.iter().any(Result::is_err), "{number} {}", file.display());
            for (outcome, name) in told.iter().zip(["one", "two"]) {
                let manifest = format!("/r-{name}/MANIFEST");
                assert_eq!(damaged.exists(manifest.as_ref()).unwrap(), outcome.is_ok());
            }
        }
    }
}

#[test]
fn a_power_cut_leaves_whole_backups_only() {
    let memory = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(memory.clone());
    let (db, _) = open_small(&disk).unwrap();
    let mut state = State::new();
    for number in 0..30 {
        db.write(batch(&trees(&db), &round(number))).unwrap();
        apply(&mut state, &round(number));
    }
    let cuts = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let taken = cuts.clone();
    memory.set_sync_hook(move |fs, point| {
        for seed in [2 * point.number, 2 * point.number + 1] {
            taken.lock().push(fs.crash_clone(meridian_vfs::CrashChoice::Torn(seed)));
        }
    });
    back_up(&disk, &db, "one");
    backup::restore(&*disk, "/backups".as_ref(), "one", "/restored".as_ref()).unwrap();
    memory.clear_sync_hook();
    let cuts = std::mem::take(&mut *cuts.lock());
    let mut whole = 0;
    for cut in cuts {
        let there: Arc<dyn Fs> = Arc::new(cut);
        for (list, dir) in [("/backups/backups/one", "/again"), ("/restored/MANIFEST", "/restored")]
        {
            if there.exists(list.as_ref()).unwrap() {
                if dir == "/again" {
                    backup::restore(&*there, "/backups".as_ref(), "one", dir.as_ref()).unwrap();
                }
                let (db, _) = open_small_in(&there, dir).unwrap();
                assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
                whole += 1;
            }
        }
    }
    assert!(whole > 5, "{whole}");
}
