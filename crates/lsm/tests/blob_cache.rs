//! Values of blob files in the cache: read once, never too many, and never those of another time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use common::{DIR, small, small_options};
use meridian_lsm::{Blobs, CacheStats, Compression, Db, DbOptions, Tree, TreeConfig, WriteBatch};
use meridian_vfs::{FaultFs, Fs, MemFs, Op};
use proptest::prelude::*;

const BLOBS: Blobs = Blobs { threshold: 100, garbage_percent: 30, oldest_percent: 100 };

/// A tree on a disk that counts.
struct Counted {
    disk: FaultFs,
    db: Db,
    tree: Tree,
}

impl Counted {
    fn open(cache: u64, compression: Compression) -> Self {
        let disk = FaultFs::new(Arc::new(MemFs::new()));
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let options = DbOptions {
            block_cache_bytes: cache,
            table_bytes: 1 << 20,
            wal_segment_bytes: 1 << 20,
            ..small_options()
        };
        let config = TreeConfig { blobs: Some(BLOBS), ..small("t", compression) };
        let (db, _) = Db::open(fs, Path::new(DIR), options, vec![config]).unwrap();
        let tree = db.tree("t").unwrap();
        Self { disk, db, tree }
    }

    fn put(&self, keys: impl Iterator<Item = u32>, round: u32, len: usize) {
        for k in keys {
            let mut batch = WriteBatch::new();
            batch.put(&self.tree, k.to_be_bytes(), value(k, round, len));
            self.db.write(batch).unwrap();
        }
    }

    /// Reads the keys, which have these values; says how often the disk was asked.
    fn reads(&self, keys: impl Iterator<Item = u32>, round: u32, len: usize) -> u64 {
        let before = self.disk.calls(Op::Read);
        for k in keys {
            let found = self.tree.get_latest(&k.to_be_bytes()).unwrap();
            assert_eq!(found.unwrap(), value(k, round, len), "{k}");
        }
        self.disk.calls(Op::Read) - before
    }

    fn cache(&self) -> CacheStats {
        self.db.stats().cache
    }
}

/// Bytes that compress to about half.
fn value(k: u32, round: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(k) << 32 | u64::from(round);
    let mut next = |at: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if (at / 32).is_multiple_of(2) { (state >> 56).to_le_bytes()[0] } else { 7 }
    };
    (0..len).map(&mut next).collect()
}

#[test]
fn a_value_is_read_once() {
    for compression in [Compression::None, Compression::Lz4] {
        let counted = Counted::open(1 << 20, compression);
        counted.put(0..50, 0, 1000);
        counted.db.flush().unwrap();
        let first = counted.reads(0..50, 0, 1000);
        assert!(first >= 50, "{first}");
        assert_eq!(counted.reads((0..50).rev(), 0, 1000), 0);
        // And lent, not copied.
        let lent = || counted.tree.get_latest(&7u32.to_be_bytes()).unwrap().unwrap();
        assert_eq!(lent().as_ptr(), lent().as_ptr());
        let bytes = counted.cache().bytes;
        assert!((50_000..70_000).contains(&bytes), "{bytes}");
    }
}

#[test]
fn values_and_blocks_have_one_bound() {
    for compression in [Compression::None, Compression::Lz4] {
        let counted = Counted::open(64 << 10, compression);
        counted.put(0..400, 0, 1000);
        counted.db.flush().unwrap();
        for k in 0..400 {
            counted.reads(k..=k, 0, 1000);
            let now = counted.cache();
            assert!(now.bytes + now.pinned <= now.capacity, "{now:?}");
        }
        let now = counted.cache();
        assert!(now.bytes > now.capacity / 2, "{now:?}");
    }
}

#[test]
fn values_that_would_push_out_many_others_stay_outside() {
    let counted = Counted::open(64 << 10, Compression::None);
    counted.put(0..4, 0, 20 << 10);
    counted.put(4..8, 0, 500);
    counted.db.flush().unwrap();
    for _ in 0..3 {
        counted.reads(4..8, 0, 500);
        // Each again and again; the others stay.
        assert!(counted.reads(0..4, 0, 20 << 10) >= 4);
    }
    assert_eq!(counted.reads(4..8, 0, 500), 0);
    let bytes = counted.cache().bytes;
    assert!(bytes < 20 << 10, "{bytes}");
}

#[test]
fn a_scan_leaves_the_values_that_others_want() {
    let misses = |scans: usize, wanted: u32| {
        let counted = Counted::open(256 << 10, Compression::None);
        counted.put(0..2000, 0, 1000);
        counted.db.compact("t").unwrap();
        counted.reads(0..wanted, 0, 1000);
        for _ in 0..scans {
            let everything = (Bound::Unbounded, Bound::Unbounded);
            assert_eq!(counted.tree.scan(everything, &counted.db.snapshot()).count(), 2000);
        }
        let before = counted.cache().misses;
        counted.reads(0..wanted, 0, 1000);
        counted.cache().misses - before
    };
    // A full cache, whatever of it was asked for once only.
    let (without, with) = (misses(0, 250), misses(3, 250));
    assert!(with <= without + 40, "{without} without scans, {with} with");
}

#[test]
fn a_scan_finds_what_is_there_and_keeps_what_there_is_room_for() {
    let counted = Counted::open(1 << 20, Compression::Lz4);
    counted.put(0..50, 0, 1000);
    counted.db.flush().unwrap();
    let scan = || {
        let before = counted.disk.calls(Op::Read);
        let everything = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(counted.tree.scan(everything, &counted.db.snapshot()).count(), 50);
        counted.disk.calls(Op::Read) - before
    };
    assert!(scan() >= 50);
    assert_eq!((scan(), counted.reads(0..50, 0, 1000)), (0, 0));
}

#[test]
fn compactions_leave_no_values_behind() {
    let counted = Counted::open(1 << 20, Compression::None);
    counted.put(0..50, 0, 1000);
    counted.db.flush().unwrap();
    counted.put((0..50).filter(|k| k % 2 == 0), 1, 1000);
    counted.db.compact("t").unwrap();
    while counted.db.poll_job().unwrap() {}
    let stats = counted.db.stats();
    assert!(stats.trees[0].blob_bytes < 60_000, "collected: {stats:?}");
    assert_eq!((stats.cache.bytes, stats.cache.misses), (0, 0));
}

proptest! {
    /// Overwritten, collected, deleted, read over and over: always the last value, however much of
    /// it is in the cache.
    #[test]
    fn a_collected_file_is_never_read_for_another(
        rounds in proptest::collection::vec(
            (proptest::collection::vec(0..20u32, 0..20), any::<bool>(), any::<bool>()),
            1..12,
        ),
        cache in prop_oneof![Just(4u64 << 10), Just(16 << 10), Just(1 << 20)],
    ) {
        let counted = Counted::open(cache, Compression::Lz4);
        let mut last = [None; 20];
        for (round, (keys, compact, delete)) in (0u32..).zip(rounds) {
            for k in keys {
                if delete && k % 5 == 0 {
                    let mut batch = WriteBatch::new();
                    batch.delete(&counted.tree, k.to_be_bytes());
                    counted.db.write(batch).unwrap();
                    last[k as usize] = None;
                } else {
                    counted.put(k..=k, round, 150);
                    last[k as usize] = Some(round);
                }
            }
            if compact { counted.db.compact("t").unwrap() } else { counted.db.flush().unwrap() }
            while counted.db.poll_job().unwrap() {}
            for _ in 0..2 {
                for (k, last) in (0u32..).zip(last) {
                    let found = counted.tree.get_latest(&k.to_be_bytes()).unwrap();
                    let wanted = last.map(|round| value(k, round, 150));
                    prop_assert_eq!(found.as_deref(), wanted.as_deref());
                }
            }
        }
    }
}
