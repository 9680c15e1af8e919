//! The names of segments: `wal-<id, 16 hex digits>.log`. Ids rise by one, without gaps.

use std::path::{Path, PathBuf};

use meridian_vfs::Fs;

use crate::error::Error;

pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("wal-{id:016x}.log"))
}

pub(crate) fn id_of(name: &Path) -> Option<u64> {
    let hex = name.to_str()?.strip_prefix("wal-")?.strip_suffix(".log")?;
    if hex.len() == 16 { u64::from_str_radix(hex, 16).ok() } else { None }
}

/// The ids of the segments in `dir`, ascending.
pub(crate) fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<u64>, Error> {
    let mut ids: Vec<u64> = fs.list(dir)?.iter().filter_map(|name| id_of(name)).collect();
    ids.sort_unstable();
    Ok(ids)
}
