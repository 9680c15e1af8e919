//! `meridian-lsm`.

use std::cell::RefCell;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use meridian_lsm::{Db, DbOptions, SyncPolicy, Tree, TreeConfig, Workers, WriteBatch};
use meridian_vfs::StdFs;

use crate::engine::{Engine, MEMTABLE_BYTES, Settings, WORKERS};

pub(crate) struct Lsm {
    // The workers stop before the database is closed.
    workers: Option<Workers>,
    db: Db,
    tree: Tree,
    sync: bool,
}

thread_local! {
    /// A caller that writes one key after the other uses its batch again.
    static BATCH: RefCell<WriteBatch> = RefCell::new(WriteBatch::new());
}

impl Lsm {
    pub(crate) fn open(dir: &Path, settings: Settings) -> Result<Self> {
        let options = DbOptions {
            sync: if settings.sync { SyncPolicy::Always } else { SyncPolicy::Os },
            block_cache_bytes: settings.cache_bytes as u64,
            ..DbOptions::default()
        };
        let config = TreeConfig { memtable_bytes: MEMTABLE_BYTES, ..TreeConfig::new("bench") };
        let (db, _recovery) = Db::open(Arc::new(StdFs), dir, options, vec![config.clone()])?;
        let tree = db.create_tree(config)?;
        let workers = Some(Workers::start(&db, WORKERS)?);
        Ok(Self { workers, db, tree, sync: settings.sync })
    }

    fn write(&self, fill: impl FnOnce(&mut WriteBatch)) -> Result<()> {
        BATCH.with_borrow_mut(|batch| {
            batch.clear();
            fill(batch);
            let commit = self.db.write_ref(batch)?;
            if self.sync {
                self.db.wait(&commit)?;
            }
            Ok(())
        })
    }
}

impl Drop for Lsm {
    fn drop(&mut self) {
        drop(self.workers.take());
        // What a close could not do, the next opening does.
        let _closed = self.db.clone().close();
    }
}

impl Engine for Lsm {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(|batch| batch.put(&self.tree, key, value))
    }

    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.tree.get_latest(key)?;
        Ok(found.is_some_and(|value| {
            see(&value);
            true
        }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.write(|batch| batch.delete(&self.tree, key))
    }

    fn scan(&self, from: &[u8], limit: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let from = bytes::Bytes::copy_from_slice(from);
        let range = (Bound::Included(from), Bound::Unbounded);
        let mut rows = self.tree.scan(range, &self.db.snapshot());
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = rows.next_ref()?
        {
            see(key, value);
            count += 1;
        }
        Ok(count)
    }

    fn flush(&self) -> Result<()> {
        self.db.flush()?;
        Ok(self.db.finish_jobs()?)
    }
}
