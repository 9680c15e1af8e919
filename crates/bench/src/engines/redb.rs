//! `redb`. Each put is a transaction of its own, as for everybody; without sync its durability is
//! `None`, which is less than the others promise (a killed process loses it).

use std::path::Path;

use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, TableDefinition, WriteTransaction};

use crate::engine::{Engine, Settings};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");

pub(crate) struct Redb {
    db: Database,
    sync: bool,
}

impl Redb {
    pub(crate) fn open(dir: &Path, settings: Settings) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut builder = Database::builder();
        builder.set_cache_size(settings.cache_bytes);
        let engine = Self { db: builder.create(dir.join("bench.redb"))?, sync: settings.sync };
        let create = engine.begin(true)?;
        create.open_table(TABLE)?;
        create.commit()?;
        Ok(engine)
    }

    fn begin(&self, sync: bool) -> Result<WriteTransaction> {
        let mut writing = self.db.begin_write()?;
        writing.set_durability(if sync { Durability::Immediate } else { Durability::None })?;
        Ok(writing)
    }
}

impl Engine for Redb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let writing = self.begin(self.sync)?;
        writing.open_table(TABLE)?.insert(key, value)?;
        Ok(writing.commit()?)
    }

    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        let found = table.get(key)?;
        Ok(found.is_some_and(|value| {
            see(value.value());
            true
        }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let writing = self.begin(self.sync)?;
        writing.open_table(TABLE)?.remove(key)?;
        Ok(writing.commit()?)
    }

    fn scan(&self, from: &[u8], limit: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        let mut count = 0;
        for entry in table.range(from..)?.take(limit) {
            let (key, value) = entry?;
            see(key.value(), value.value());
            count += 1;
        }
        Ok(count)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.begin(true)?.commit()?)
    }
}
