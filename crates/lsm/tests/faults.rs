//! Disks that refuse, are full, or lie for a moment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use common::oracle::{State, Write, apply, batch, read_all, trees};
use common::{DIR, open_small, small};
use meridian_lsm::{Compression, Db, DbOptions, Error, TreeConfig, WriteBatch};
use meridian_vfs::{Fault, FaultFs, FaultRule, Fs, MemFs, Op};

fn faulty() -> (FaultFs, Arc<dyn Fs>) {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    (fs.clone(), Arc::new(fs))
}

fn rule(op: Op, path: &str, nth: u64, sticky: bool, fault: Fault) -> FaultRule {
    FaultRule { op, path: path.into(), nth, sticky, fault }
}

fn round(number: u8) -> Vec<Write> {
    vec![
        Write::Put(0, number, vec![number; 50]),
        Write::Merge(1, number % 7, number | 1),
        Write::Delete(0, number.wrapping_mul(3)),
    ]
}

fn filled(disk: &Arc<dyn Fs>, rounds: u8) -> (Db, State) {
    let (db, _) = open_small(disk).unwrap();
    let mut state = State::new();
    for number in 0..rounds {
        db.write(batch(&trees(&db), &round(number))).unwrap();
        apply(&mut state, &round(number));
    }
    (db, state)
}

#[test]
fn a_flush_on_a_full_disk_is_tried_again() {
    for op in [Op::Append, Op::Sync, Op::Create] {
        let (fs, disk) = faulty();
        let (db, state) = filled(&disk, 30);
        fs.inject(rule(op, ".sst", 1, true, Fault::Error(ErrorKind::StorageFull)));
        let told = db.flush().unwrap_err();
        assert!(matches!(&told, Error::Io(cause) if cause.is_disk_full()), "{told}");
        assert!(db.poll_job().is_err());
        assert!(db.stats().job_failures > 0 && db.stats().last_job_failure.is_some());
        assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
        // Writing goes on: there is room in memory.
        db.write(batch(&trees(&db), &round(200))).unwrap();
        fs.heal();
        while db.poll_job().unwrap() {}
        db.flush().unwrap();
        let mut state = state;
        apply(&mut state, &round(200));
        assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
        assert!(db.stats().last_job_failure.is_none());
        // Nothing half made is left.
        let tables = disk.list(Path::new(DIR)).unwrap();
        let tables = tables.iter().filter(|name| name.extension().is_some_and(|e| e == "sst"));
        let known: u64 =
            db.stats().trees.iter().flat_map(|tree| &tree.levels).map(|level| level.tables).sum();
        assert_eq!(tables.count() as u64, known);
    }
}

#[test]
fn writers_are_told_when_memory_is_full_and_nothing_can_be_flushed() {
    let (fs, disk) = faulty();
    let config = TreeConfig { memtable_bytes: 64 << 10, ..small("a", Compression::None) };
    let options = DbOptions::default();
    let (db, _) = Db::open(disk, Path::new(DIR), options, vec![config]).unwrap();
    let tree = db.tree("a").unwrap();
    fs.inject(rule(Op::Append, ".sst", 1, true, Fault::Error(ErrorKind::StorageFull)));
    let put = |number: u32| {
        let mut batch = WriteBatch::new();
        batch.put(&tree, number.to_be_bytes(), [7; 1000]);
        db.write(batch)
    };
    let refused = (0..10_000).find_map(|number| put(number).err().map(|cause| (number, cause)));
    let (number, cause) = refused.unwrap();
    assert!(matches!(cause, Error::Stalled { .. }), "{cause}");
    assert_eq!(tree.get_latest(&number.to_be_bytes()).unwrap(), None);
    fs.heal();
    put(number).unwrap();
    assert!(tree.get_latest(&number.to_be_bytes()).unwrap().is_some());
    assert!(tree.get_latest(&0u32.to_be_bytes()).unwrap().is_some());
    assert!(db.stats().stops > 0);
}

#[test]
fn a_read_that_fails_is_an_error_and_not_an_absence() {
    let (fs, disk) = faulty();
    let (db, state) = filled(&disk, 60);
    db.flush().unwrap();
    for fault in [Fault::Error(ErrorKind::Other), Fault::FlipBit(77)] {
        // Nothing is kept of a bad read.
        fs.inject(rule(Op::Read, ".sst", 1, true, fault));
        let told = read_all(&db, &db.snapshot()).unwrap_err();
        assert!(matches!(told, Error::Io(_) | Error::Corruption { .. }), "{told}");
        assert_eq!(told.is_corruption(), matches!(fault, Fault::FlipBit(_)));
        assert!(told.to_string().contains(".sst"), "{told}");
        fs.heal();
    }
    fs.inject(rule(Op::Read, ".sst", 1, true, Fault::ShortRead(3)));
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
}

#[test]
fn a_manifest_that_cannot_be_synced_stops_the_writes() {
    let (fs, disk) = faulty();
    let (db, state) = filled(&disk, 30);
    fs.inject(rule(Op::Sync, "MANIFEST", 1, false, Fault::Error(ErrorKind::Other)));
    let told = db.flush().unwrap_err();
    assert!(matches!(&told, Error::Poisoned { file, .. } if file.ends_with("MANIFEST")), "{told}");
    assert!(db.write(batch(&trees(&db), &round(1))).is_err());
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
    drop(db);
    let (db, _) = open_small(&disk).unwrap();
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
}

#[test]
fn half_a_chunk_in_the_log_is_cut() {
    let (fs, disk) = faulty();
    let (db, state) = filled(&disk, 3);
    fs.inject(rule(Op::Append, ".log", 1, false, Fault::PartialAppend(41)));
    // It is in memory, and goes to the log with the next one; but there is none.
    db.write(batch(&trees(&db), &round(9))).unwrap();
    drop(db);
    let (db, recovery) = open_small(&disk).unwrap();
    assert_eq!(recovery.torn_tail_bytes, 41);
    assert_eq!(read_all(&db, &db.snapshot()).unwrap(), state);
}

/// Writes, syncs, flushes, compacts and closes; notes how far it came.
fn script(disk: &Arc<dyn Fs>, states: &mut Vec<State>, synced: &mut usize) -> Result<(), Error> {
    let (db, _) = open_small(disk)?;
    let trees = trees(&db);
    for number in 0..24 {
        let mut next = states.last().unwrap().clone();
        apply(&mut next, &round(number));
        states.push(next);
        db.write(batch(&trees, &round(number)))?;
        match number % 8 {
            2 => {
                db.sync()?;
                *synced = states.len() - 1;
            }
            4 => db.flush()?,
            6 => while db.poll_job()? {},
            _ => {}
        }
    }
    db.compact("a")?;
    db.close()?;
    *synced = states.len() - 1;
    Ok(())
}

#[test]
fn any_call_may_fail_and_nothing_synced_is_lost() {
    let mut failed = 0;
    for op in Op::EVERY {
        for nth in 1.. {
            let (fs, disk) = faulty();
            fs.inject(rule(op, "", nth, false, Fault::Error(ErrorKind::Other)));
            let (mut states, mut synced) = (vec![State::new()], 0);
            let ended = script(&disk, &mut states, &mut synced);
            fs.heal();
            let (db, _) = open_small(&disk).unwrap();
            let found = read_all(&db, &db.snapshot()).unwrap();
            let kept = (synced..states.len()).any(|at| states[at] == found);
            assert!(kept, "{op} {nth}: {ended:?}");
            db.verify().unwrap();
            failed += usize::from(ended.is_err());
            if ended.is_ok() && nth > 60 {
                break;
            }
            assert!(nth < 2000, "{op} fails for ever");
        }
    }
    assert!(failed > 100, "{failed}");
}
