//! What keeps a database well: copies of it while it is written to, sorted data brought in at
//! once, and the proof that every byte is what was written.

use std::path::Path;
use std::sync::Arc;

use meridian_vfs::Fs;

use crate::error::Error;
use crate::table::cache::BlockCache;
use crate::table::reader::{Garbage, Table};
use crate::version::edit::TableRecord;

pub mod backup;
pub(crate) mod checkpoint;
pub(crate) mod ingest;
pub mod inspect;
pub(crate) mod repair;
pub(crate) mod verify;

/// Bytes of blocks kept of a table that nobody else has open: each is read once.
const CACHE_BYTES: u64 = 1 << 20;

/// Opens a table of a database that nobody has open.
fn open_table(fs: &dyn Fs, dir: &Path, record: &TableRecord) -> Result<Table, Error> {
    let cache = Arc::new(BlockCache::new(CACHE_BYTES));
    Table::open(fs, dir, record.clone(), cache, Arc::new(Garbage::default()))
}
