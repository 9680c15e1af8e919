//! A node's few durable facts outside of the storage engine: identity, incarnation, catalog; and
//! the trees that hints live in.
//!
//! Behind a trait, so that a simulation does without the threads of `sled`, and so that nothing
//! depends on it being `sled`.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

mod mem;
mod sled_db;

pub use mem::MemMetadata;
pub use sled_db::SledMetadata;

/// Durable facts by name.
pub trait Metadata: Send + Sync + Debug {
    /// The value of a key.
    ///
    /// # Errors
    /// Nothing was changed. After [`MetadataError::Stopped`] the node must stop.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetadataError>;

    /// Sets a key. Durable after [`Self::flush`].
    ///
    /// # Errors
    /// The key may have the old value or the new one; the node must stop.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), MetadataError>;

    /// Removes a key. Durable after [`Self::flush`].
    ///
    /// # Errors
    /// The key may be there or not; the node must stop.
    fn remove(&self, key: &[u8]) -> Result<(), MetadataError>;

    /// The keys that begin with `prefix`, in their order, and their values.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, MetadataError>;

    /// Makes everything so far durable.
    ///
    /// # Errors
    /// Nothing is known about what was written since the last success; the node must stop.
    fn flush(&self) -> Result<(), MetadataError>;
}

/// Metadata could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetadataError {
    /// An operation failed.
    #[error("metadata in {}: cannot {op}: {cause}", dir.display())]
    Failed {
        /// The directory.
        dir: PathBuf,
        /// The operation.
        op: &'static str,
        /// What was said.
        cause: String,
    },
    /// An operation failed before, and what is on the disk since is unknown: nothing is done until
    /// the node was started again.
    #[error("metadata in {} is stopped since an earlier failure: {cause}", dir.display())]
    Stopped {
        /// The directory.
        dir: PathBuf,
        /// The earlier failure.
        cause: String,
    },
}

/// Where a visit of a tree begins.
pub(crate) type From<'a> = std::ops::Bound<&'a [u8]>;

/// Called with each key and value; whether to go on.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// One ordered tree of the metadata's database.
pub(crate) trait MetadataTree: Send + Sync + Debug {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetadataError>;
    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), MetadataError>;
    /// The bytes of the value that was there.
    fn remove(&self, key: &[u8]) -> Result<Option<usize>, MetadataError>;
    /// Visits keys from a bound on, ascending.
    fn visit(&self, from: From<'_>, visit: Visit<'_>) -> Result<(), MetadataError>;
    /// The last key.
    fn last_key(&self) -> Result<Option<Bytes>, MetadataError>;
}

/// A database of named trees: what `sled` offers of itself and as much as hints need.
pub(crate) trait MetadataTrees: Send + Sync + Debug {
    fn tree(&self, name: &str) -> Result<Arc<dyn MetadataTree>, MetadataError>;
    fn names(&self) -> Result<Vec<String>, MetadataError>;
    fn flush(&self) -> Result<(), MetadataError>;
}

/// The tree that [`Metadata`] itself is kept in.
const META_TREE: &str = "meta";

fn scan_tree(tree: &dyn MetadataTree, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, MetadataError> {
    let mut found = Vec::new();
    tree.visit(From::Included(prefix), &mut |key, value| {
        let is_in = key.starts_with(prefix);
        if is_in {
            found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        }
        is_in
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests;
