//! RocksDB.

use std::path::Path;

use anyhow::Result;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, WaitForCompactOptions, WriteOptions,
};

use crate::engine::{Engine, MEMTABLE_BYTES, Settings, WORKERS};

pub(crate) struct Rocksdb {
    db: DB,
    sync: bool,
}

impl Rocksdb {
    pub(crate) fn open(dir: &Path, settings: Settings) -> Result<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(settings.cache_bytes));
        blocks.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(MEMTABLE_BYTES);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_max_background_jobs(i32::try_from(WORKERS)?);
        Ok(Self { db: DB::open(&options, dir)?, sync: settings.sync })
    }

    fn how(&self) -> WriteOptions {
        let mut how = WriteOptions::default();
        how.set_sync(self.sync);
        how
    }
}

impl Engine for Rocksdb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.how())?)
    }

    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.db.get_pinned(key)?;
        Ok(found.is_some_and(|value| {
            see(&value);
            true
        }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.db.delete_opt(key, &self.how())?)
    }

    fn scan(&self, from: &[u8], limit: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut rows = self.db.raw_iterator();
        rows.seek(from);
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = rows.item()
        {
            see(key, value);
            count += 1;
            rows.next();
        }
        rows.status()?;
        Ok(count)
    }

    fn flush(&self) -> Result<()> {
        self.db.flush()?;
        Ok(self.db.wait_for_compact(&WaitForCompactOptions::default())?)
    }
}
