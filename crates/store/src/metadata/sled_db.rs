//! Metadata in `sled`.
//!
//! INVARIANT: after one failed operation nothing more is asked of the database. `sled` refuses
//! inserts after an I/O error but still answers reads, from memory that the disk may not have.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{
    From, META_TREE, Metadata, MetadataError, MetadataTree, MetadataTrees, Visit, scan_tree,
};

/// Bytes of pages that `sled` keeps in memory. Hints are written once and read once, so a cache
/// serves the working set of the metadata only.
pub(super) const SLED_CACHE_BYTES: u64 = 4 << 20;

/// How often `sled` makes durable what nobody flushed, in milliseconds: hints may lose as much in
/// a power cut, and anti-entropy brings what they would have brought.
pub(super) const SLED_FLUSH_MS: u64 = 500;

/// Metadata and hints in one `sled` database. Clones share it.
#[derive(Clone, Debug)]
pub struct SledMetadata {
    database: Arc<Database>,
    meta: SledTree,
}

#[derive(Debug)]
struct Database {
    sled: sled::Db,
    dir: PathBuf,
    failed: OnceLock<String>,
}

impl Database {
    fn run<T>(
        &self,
        op: &'static str,
        call: impl FnOnce() -> Result<T, sled::Error>,
    ) -> Result<T, MetadataError> {
        if let Some(cause) = self.failed.get() {
            let (dir, cause) = (self.dir.clone(), cause.clone());
            return Err(MetadataError::Stopped { dir, cause });
        }
        call().map_err(|cause| {
            let cause = self.failed.get_or_init(|| cause.to_string()).clone();
            MetadataError::Failed { dir: self.dir.clone(), op, cause }
        })
    }
}

impl SledMetadata {
    /// Opens the database in `dir`, or creates it.
    ///
    /// # Errors
    /// The directory cannot be used, is damaged, or is open somewhere else. Nothing was changed.
    pub fn open(dir: &Path) -> Result<Self, MetadataError> {
        let failed = |cause: sled::Error| {
            let cause = cause.to_string();
            MetadataError::Failed { dir: dir.to_owned(), op: "open it", cause }
        };
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(SLED_CACHE_BYTES)
            .flush_every_ms(Some(SLED_FLUSH_MS));
        let sled = config.open().map_err(failed)?;
        let tree = sled.open_tree(META_TREE).map_err(failed)?;
        let database = Arc::new(Database { sled, dir: dir.to_owned(), failed: OnceLock::new() });
        Ok(Self { meta: SledTree { tree, database: database.clone() }, database })
    }

    /// The failure that stopped it, if one did: the node must stop as well.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.database.failed.get().cloned()
    }
}

#[derive(Clone)]
struct SledTree {
    tree: sled::Tree,
    database: Arc<Database>,
}

impl std::fmt::Debug for SledTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The tree's own form walks over everything in it.
        f.debug_struct("SledTree").field("dir", &self.database.dir).finish_non_exhaustive()
    }
}

impl MetadataTree for SledTree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetadataError> {
        let found = self.database.run("read", || self.tree.get(key))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), MetadataError> {
        self.database.run("write", || self.tree.insert(key, value)).map(|_old| ())
    }

    fn remove(&self, key: &[u8]) -> Result<Option<usize>, MetadataError> {
        let old = self.database.run("remove", || self.tree.remove(key))?;
        Ok(old.map(|old| old.len()))
    }

    fn visit(&self, from: From<'_>, visit: Visit<'_>) -> Result<(), MetadataError> {
        for entry in self.tree.range::<&[u8], _>((from, From::Unbounded)) {
            let (key, value) = self.database.run("read", || entry)?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self) -> Result<Option<Bytes>, MetadataError> {
        let last = self.database.run("read", || self.tree.last())?;
        Ok(last.map(|(key, _)| Bytes::copy_from_slice(&key)))
    }
}

impl MetadataTrees for SledMetadata {
    fn tree(&self, name: &str) -> Result<Arc<dyn MetadataTree>, MetadataError> {
        let tree = self.database.run("open a tree", || self.database.sled.open_tree(name))?;
        Ok(Arc::new(SledTree { tree, database: self.database.clone() }))
    }

    fn names(&self) -> Result<Vec<String>, MetadataError> {
        let names = self.database.run("list the trees", || Ok(self.database.sled.tree_names()))?;
        Ok(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    fn flush(&self) -> Result<(), MetadataError> {
        self.database.run("flush", || self.database.sled.flush()).map(|_bytes| ())
    }
}

impl Metadata for SledMetadata {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetadataError> {
        self.meta.get(key)
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), MetadataError> {
        self.meta.insert(key, value)
    }

    fn remove(&self, key: &[u8]) -> Result<(), MetadataError> {
        self.meta.remove(key).map(|_old| ())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, MetadataError> {
        scan_tree(&self.meta, prefix)
    }

    fn flush(&self) -> Result<(), MetadataError> {
        MetadataTrees::flush(self)
    }
}
