//! The statistics add up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{DIR, small, small_options};
use meridian_lsm::{Compaction, Compression, Db, Tiers, TreeConfig, WriteBatch};
use meridian_vfs::{Fs, MemFs};

#[test]
fn what_enters_a_level_and_what_is_written_adds_up() {
    let tiers = Tiers { min_runs: 2, small_bytes: 300, ..Tiers::default() };
    for compaction in [
        Compaction::Leveled { l0_files: 2, l1_bytes: 2 << 10, factor: 2 },
        Compaction::SizeTiered(tiers),
        Compaction::Hybrid { tiers, run_bytes: 1 << 10, factor: 2 },
    ] {
        let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
        let config = TreeConfig { compaction, ..small("a", Compression::None) };
        let (db, _) = Db::open(disk, Path::new(DIR), small_options(), vec![config]).unwrap();
        let tree = db.tree("a").unwrap();
        for round in 0..40u32 {
            for key in 0..20u32 {
                let mut batch = WriteBatch::new();
                batch.put(&tree, (key * 7919 % 400 + round).to_be_bytes(), [7; 30]);
                db.write(batch).unwrap();
            }
            db.flush().unwrap();
            while db.poll_job().unwrap() {}
        }
        let stats = db.stats();
        let tree = &stats.trees[0];
        let sum =
            |of: fn(&meridian_lsm::LevelStats) -> u64| tree.levels.iter().map(of).sum::<u64>();
        let written = tree.flushed_bytes + tree.compaction_written_bytes;
        assert_eq!(sum(|level| level.written_bytes), written);
        assert_eq!(sum(|level| level.read_bytes), tree.compaction_read_bytes);
        assert_eq!(tree.levels[0].entered_bytes, tree.flushed_bytes);
        assert_eq!(tree.write_amplification_percent(), written * 100 / tree.flushed_bytes);
        assert!(tree.write_amplification_percent() > 100, "{compaction:?}");
        assert!(tree.space_amplification_percent() >= 100);
        let entered = tree.levels[1..].iter().map(|level| level.entered_bytes);
        assert!(entered.sum::<u64>() > 0, "{compaction:?}");
        assert_eq!((stats.running_flushes, stats.running_compactions), (0, 0));
        assert_eq!((stats.queued_flushes, stats.pending_compaction_bytes), (0, 0));
        assert_eq!(stats.stall_permille, 0);
    }
}
