//! `sled` 0.34. It has neither memtables nor blocks; its cache is given both budgets' larger one.

use std::path::Path;

use anyhow::Result;
use sled::Db;

use crate::engine::{Engine, Settings};

pub(crate) struct Sled {
    db: Db,
    sync: bool,
}

impl Sled {
    pub(crate) fn open(dir: &Path, settings: Settings) -> Result<Self> {
        let config = sled::Config::new().path(dir).cache_capacity(settings.cache_bytes as u64);
        Ok(Self { db: config.open()?, sync: settings.sync })
    }

    fn settle(&self) -> Result<()> {
        if self.sync {
            self.db.flush()?;
        }
        Ok(())
    }
}

impl Engine for Sled {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.insert(key, value)?;
        self.settle()
    }

    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.db.get(key)?;
        Ok(found.is_some_and(|value| {
            see(&value);
            true
        }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.db.remove(key)?;
        self.settle()
    }

    fn scan(&self, from: &[u8], limit: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut count = 0;
        for entry in self.db.range(from..).take(limit) {
            let (key, value) = entry?;
            see(&key, &value);
            count += 1;
        }
        Ok(count)
    }

    fn flush(&self) -> Result<()> {
        self.db.flush()?;
        Ok(())
    }
}
