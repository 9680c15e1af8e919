//! What an engine must do to be measured.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::engines;

/// Bytes of the memtable (write buffer), for every engine that has one.
pub(crate) const MEMTABLE_BYTES: usize = 64 << 20;
/// Bytes of the block (page) cache where the data is meant to fit.
pub(crate) const CACHE_BYTES: usize = 256 << 20;
/// Threads for flushes and compactions.
pub(crate) const WORKERS: usize = 2;

/// The engines.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// `meridian-lsm`.
    Lsm,
    /// `fjall`.
    Fjall,
    /// `sled`.
    Sled,
    /// `redb`.
    Redb,
    /// RocksDB, through `rocksdb`.
    #[cfg(feature = "rocksdb")]
    Rocksdb,
}

/// What is the same for all engines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Bytes of the block cache.
    pub(crate) cache_bytes: usize,
    /// A put returns when it is durable; otherwise it survives at least the process.
    pub(crate) sync: bool,
}

/// The store under measurement: the same six verbs for everybody. Opening is the first
/// ([`Kind::open`]), closing is dropping.
pub(crate) trait Engine: Send + Sync {
    /// Sets one key.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Shows the value of a key, in place where the engine can; says whether there is one.
    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool>;

    /// Removes one key.
    fn delete(&self, key: &[u8]) -> Result<()>;

    /// Shows at most `limit` keys and values from `from` on; says how many.
    fn scan(&self, from: &[u8], limit: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize>;

    /// Everything written so far is in the engine's files, and what it has to rearrange at once is
    /// rearranged.
    fn flush(&self) -> Result<()>;
}

impl Kind {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::Fjall => "fjall",
            Self::Sled => "sled",
            Self::Redb => "redb",
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => "rocksdb",
        }
    }

    /// Opens or creates the store in `dir`.
    pub(crate) fn open(self, dir: &Path, settings: Settings) -> Result<Arc<dyn Engine>> {
        Ok(match self {
            Self::Lsm => Arc::new(engines::lsm::Lsm::open(dir, settings)?),
            Self::Fjall => Arc::new(engines::fjall::Fjall::open(dir, settings)?),
            Self::Sled => Arc::new(engines::sled::Sled::open(dir, settings)?),
            Self::Redb => Arc::new(engines::redb::Redb::open(dir, settings)?),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => Arc::new(engines::rocksdb::Rocksdb::open(dir, settings)?),
        })
    }
}
