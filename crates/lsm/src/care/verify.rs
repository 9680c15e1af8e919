//! Reading everything and comparing it with what was written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_vfs::Fs;

use crate::db::{Core, Db};
use crate::error::Error;
use crate::tree::Tree;
use crate::version::levels::Version;
use crate::version::manifest::{self, Manifest};
use crate::version::state::State;
use crate::wal::format::BatchRecord;
use crate::wal::reader::{Damage, Head, SegmentReader, Sink};
use crate::wal::segment;

/// How far a verification is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// The file that was just found to be sound.
    pub file: PathBuf,
    /// Files that are done, this one included.
    pub done: u64,
    /// Files there are.
    pub files: u64,
    /// Bytes that were read so far.
    pub bytes: u64,
}

impl Db {
    /// As [`Db::verify`], and tells of each file that is done.
    ///
    /// # Errors
    /// [`Error::Corruption`] with the first damaged file and place.
    pub fn verify_with(&self, progress: &mut dyn FnMut(VerifyProgress)) -> Result<(), Error> {
        let core: &Core = &self.core;
        let trees: Vec<Tree> = core.trees.read().values().cloned().collect();
        // Held, so that the files stay while they are read.
        let versions: Vec<_> = trees.iter().map(|tree| tree.view().version.clone()).collect();
        let (floor, end) = verify_manifest(core)?;
        let files = |version: &Arc<Version>| version.tables().count() + version.blobs().len();
        let tables = versions.iter().map(|version| files(version) as u64).sum::<u64>();
        let mut at = VerifyProgress {
            file: manifest::path(&core.dir),
            done: 0,
            files: 1 + tables + end.saturating_sub(floor),
            bytes: 0,
        };
        let mut step = |file: PathBuf, bytes: u64| {
            at = VerifyProgress { file, done: at.done + 1, bytes: at.bytes + bytes, ..at.clone() };
            progress(at.clone());
        };
        step(manifest::path(&core.dir), 0);
        for table in versions.iter().flat_map(|version| version.tables()) {
            table.verify()?;
            let file = crate::table::format::path(&core.dir, table.record.id);
            step(file, table.record.bytes);
        }
        for used in versions.iter().flat_map(|version| version.blobs().values()) {
            used.file.verify()?;
            let record = used.file.record;
            step(crate::blob::format::path(&core.dir, record.id), record.bytes);
        }
        for id in floor..end {
            // A segment that a flush has made needless meanwhile may be gone.
            if let Some(bytes) = verify_segment(core, id)? {
                step(segment::path(&core.dir, id), bytes);
            }
        }
        Ok(())
    }
}

/// Compares the file with what is in memory; returns the segments of the log that are complete.
fn verify_manifest(core: &Core) -> Result<(u64, u64), Error> {
    let manifest = core.manifest.lock();
    let path = manifest::path(&core.dir);
    let loaded = Manifest::load(&*core.fs, &core.dir)?
        .ok_or_else(|| Error::corruption(&path, 0, "the manifest is missing"))?;
    if loaded.state != *manifest.state() {
        return Err(Error::corruption(&path, 0, "the manifest is not what was written last"));
    }
    Ok((manifest.state().wal_floor, core.log.segment()))
}

fn verify_segment(core: &Core, id: u64) -> Result<Option<u64>, Error> {
    let needed = || core.manifest.lock().state().wal_floor <= id;
    let open = |id| SegmentReader::open(&*core.fs, &core.dir, id);
    let (here, next) = match (open(id), open(id + 1)) {
        (Ok(here), Ok(next)) => (here, next),
        (Err(cause), _) | (_, Err(cause)) if needed() => return Err(cause),
        _ => return Ok(None),
    };
    for reader in [&here, &next] {
        if !matches!(reader.head(), Head::Sound(_)) {
            return Err(Error::corruption(reader.path(), 0, "the segment's header is damaged"));
        }
    }
    let Head::Sound(header) = next.head() else { return Ok(None) };
    here.replay(Some(header.previous_len), &mut Strict)?;
    Ok(Some(header.previous_len))
}

/// Reads the log of a database that nobody has open. The last segment may end in a torn tail.
pub(super) fn verify_log(
    fs: &dyn Fs,
    dir: &Path,
    state: &State,
    done: &mut dyn FnMut(&Path, u64),
) -> Result<(), Error> {
    let ids: Vec<u64> =
        segment::list(fs, dir)?.into_iter().filter(|id| *id >= state.wal_floor).collect();
    for (expected, (at, id)) in (state.wal_floor.max(1)..).zip(ids.iter().enumerate()) {
        if *id != expected {
            let path = segment::path(dir, expected);
            return Err(Error::corruption(path, 0, "the segment is missing and the log needs it"));
        }
        let reader = SegmentReader::open(fs, dir, *id)?;
        let next = ids.get(at + 1).map(|next| SegmentReader::open(fs, dir, *next)).transpose()?;
        let mut claimed = match next.as_ref().map(SegmentReader::head) {
            Some(Head::Sound(header)) => Some(header.previous_len),
            _ => None,
        };
        if let (None, Some((segment, bytes))) = (claimed, state.closed)
            && segment == *id
        {
            claimed = Some(bytes);
        }
        reader.replay(claimed, &mut Strict)?;
        done(reader.path(), reader.used());
    }
    Ok(())
}

/// Takes every batch and no damage.
struct Strict;

impl Sink for Strict {
    fn batch(&mut self, _path: &Path, _batch: BatchRecord<'_>, _at: u64) -> Result<(), Error> {
        Ok(())
    }

    fn damaged(&mut self, damage: Damage<'_>) -> Result<(), Error> {
        Err(Error::corruption(damage.path, damage.from, damage.what))
    }
}
