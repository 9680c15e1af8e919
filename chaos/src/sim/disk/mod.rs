//! The disk of a simulated machine: a node's data directory and its metadata, and what may happen
//! to them. It outlives the node's lives.
//!
//! | what happens | what it takes |
//! |---|---|
//! | [`Loss::Nothing`]: the process is killed | what the process had not written. What it had written and not synced is still at risk: a later power cut takes it |
//! | [`Loss::Unsynced`]: power cut | everything that no sync covered, names as well as bytes; metadata that no flush covered |
//! | [`Loss::Torn`]: power cut | any part of that, by the seed: each change of a name or not, each file cut anywhere behind its synced prefix, sectors before the cut that read as zeros; of the metadata the last changes, any number of them |
//! | [`Disk::cut_at_sync`] | as a power cut, in the middle of whatever syncs then: that sync has happened or not, and nobody is told |
//! | [`Disk::wipe`] | everything of a part, as a new disk in its place |
//! | [`Disk::restore`] | what was written to a part since the snapshot |
//! | [`Disk::rot`] | one bit, for good; a node that runs may have the right one in memory |
//! | [`Disk::set_quota`] | nothing: what finds no room is refused, and that is told |
//! | [`Pace::set_slowness`] | nothing but time |
//! | [`Disk::faults`] | what the rule says, until the disk is put to another life |
//!
//! A life works on [`Disk::fs`] and [`Disk::metadata`] as they were when it began. Whatever ends a
//! life (everything above `rot` in the table) leaves those to it: an old life that goes
//! on writing, or is dropped late, does so in nobody's sight.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_store::MemMetadata;
use meridian_types::{Mutation, broken};
use meridian_vfs::{CrashChoice, FaultFs, Fs, MemFs, SyncMoment, read_all};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

mod pace;
#[cfg(test)]
mod tests;

pub use pace::{DiskTiming, Pace};

use super::Draw;

/// What the end of a life takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process is killed, the machine stays up.
    Nothing,
    /// A power cut, on a disk that keeps nothing but what it was told to.
    Unsynced,
    /// A power cut, on a disk that has kept some of the rest, by this seed.
    Torn(u64),
}

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The data directory.
    Data,
    /// The metadata: identity, catalog, hints.
    Metadata,
    /// All of it.
    Both,
}

impl Part {
    const fn has_data(self) -> bool {
        matches!(self, Self::Data | Self::Both)
    }

    const fn has_metadata(self) -> bool {
        matches!(self, Self::Metadata | Self::Both)
    }
}

/// Where bits rot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// In a file of sorted rows.
    Table,
    /// In a segment of the log behind which there is another one.
    Log,
}

impl Rot {
    fn is_of(self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match self {
            Self::Table => name.ends_with(".sst"),
            Self::Log => name.starts_with("wal-"),
        }
    }
}

/// A bit that was flipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotten {
    /// In which file.
    pub path: PathBuf,
    /// Which of its bits.
    pub bit: u64,
}

/// A disk as it was at some moment. Restored as often as one likes.
#[derive(Clone, Debug)]
pub struct DiskSnapshot {
    data: MemFs,
    metadata: MemMetadata,
}

/// Data and metadata.
#[derive(Clone, Debug)]
struct Content {
    data: MemFs,
    metadata: MemMetadata,
}

impl Content {
    fn after(&self, loss: Loss) -> Self {
        let Self { data, metadata } = self;
        match loss {
            Loss::Nothing => Self { data: data.fork(), metadata: metadata.fork() },
            Loss::Unsynced => {
                let (data, metadata) =
                    (data.crash_clone(CrashChoice::LoseUnsynced), metadata.crash_clone());
                if broken(Mutation::DropTailOnReplay) {
                    drop_tail(&data);
                }
                Self { data, metadata }
            }
            Loss::Torn(seed) => Self {
                data: data.crash_clone(CrashChoice::Torn(seed)),
                metadata: metadata.crash_clone_keeping(seed),
            },
        }
    }
}

/// Bytes that a broken disk forgets although they were synced: a few writes.
const FORGOTTEN_BYTES: usize = 400;

/// What no disk may do: the end of the log goes, synced or not.
fn drop_tail(data: &MemFs) {
    let mut files = data.files();
    files.retain(|(path, _)| Rot::Log.is_of(path));
    let Some((path, _)) = files.pop() else { return };
    // Behind what was written there may be room.
    let bytes = read_all(data, &path).unwrap_or_default();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // A file that is gone has no end.
    drop(data.truncate(&path, end.saturating_sub(FORGOTTEN_BYTES)));
}

/// See the module.
#[derive(Debug)]
pub struct Disk {
    content: Content,
    faults: FaultFs,
    pace: Pace,
    /// What a cut at a sync has left.
    left: Arc<Mutex<Option<Content>>>,
}

impl Disk {
    /// An empty disk. `draw` decides how long each of its operations takes.
    #[must_use]
    pub fn new(timing: DiskTiming, draw: Draw) -> Self {
        let content = Content { data: MemFs::new(), metadata: MemMetadata::new() };
        let faults = FaultFs::new(Arc::new(content.data.clone()));
        Self { content, faults, pace: Pace::new(timing, draw), left: Arc::default() }
    }

    /// The data directory's file system, for a life.
    #[must_use]
    pub fn fs(&self) -> Arc<dyn Fs> {
        Arc::new(self.faults.clone())
    }

    /// The metadata, for a life; and where its hints are.
    #[must_use]
    pub fn metadata(&self) -> MemMetadata {
        self.content.metadata.clone()
    }

    /// The data directory's files, past all faults.
    #[must_use]
    pub fn data(&self) -> &MemFs {
        &self.content.data
    }

    /// Makes chosen calls of this life fail.
    #[must_use]
    pub fn faults(&self) -> &FaultFs {
        &self.faults
    }

    /// How long things take. Shared with the disk.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace.clone()
    }

    /// Lets the data have at most so many bytes; `None` ends that. Stays over the ends of lives.
    /// What was given room before goes into that still: of the log 64 KiB or more.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.content.data.set_quota(bytes);
    }

    /// Ends a life: what the next one finds. After [`Self::cut_at_sync`] has struck, that is what it
    /// left, whatever the loss.
    pub fn crash(&mut self, loss: Loss) {
        let content = self.ended(loss);
        self.put(content);
    }

    fn ended(&self, loss: Loss) -> Content {
        let left = self.left.lock().take();
        left.unwrap_or_else(|| self.content.after(loss))
    }

    /// The power goes at the `nth` sync of a file or a directory from now, from 1, before it has
    /// happened or after. From then on nothing that this life asks of its disk succeeds, that sync
    /// included: so no promise goes out that the disk does not keep. The world sees
    /// [`Self::is_cut`] and ends the life.
    pub fn cut_at_sync(&self, nth: u64, moment: SyncMoment, loss: Loss) {
        let at = self.content.data.sync_points() + nth;
        let (metadata, left) = (self.content.metadata.clone(), Arc::clone(&self.left));
        self.content.data.set_sync_hook(move |data, point| {
            if point.number == at && point.moment == moment {
                data.cut_power();
                metadata.set_failing(true);
                let (data, metadata) = (data.clone(), metadata.clone());
                *left.lock() = Some(Content { data, metadata }.after(loss));
            }
        });
    }

    /// Whether [`Self::cut_at_sync`] has struck, and nobody has ended the life yet.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.left.lock().is_some()
    }

    /// A new disk in the place of a part; the rest as after [`Loss::Nothing`].
    pub fn wipe(&mut self, part: Part) {
        let mut content = self.ended(Loss::Nothing);
        if part.has_data() {
            content.data = MemFs::new();
            content.data.set_quota(self.content.data.quota());
        }
        if part.has_metadata() {
            content.metadata = MemMetadata::new();
        }
        self.put(content);
    }

    /// The disk as it is now, what was not synced included: of one moment, as no copy of a running
    /// node's files would be.
    #[must_use]
    pub fn snapshot(&self) -> DiskSnapshot {
        let Content { data, metadata } = self.content.after(Loss::Nothing);
        DiskSnapshot { data, metadata }
    }

    /// Puts a part back as it was; the rest as after [`Loss::Nothing`]. All that is put back is
    /// durable: it was copied there. The quota is what it is now.
    pub fn restore(&mut self, snapshot: &DiskSnapshot, part: Part) {
        let mut content = self.ended(Loss::Nothing);
        if part.has_data() {
            content.data = snapshot.data.crash_clone(CrashChoice::KeepEverything);
            content.data.set_quota(self.content.data.quota());
        }
        if part.has_metadata() {
            content.metadata = snapshot.metadata.copy();
        }
        self.put(content);
    }

    /// Flips a bit of a file, drawn from the seed: each block of each such file as likely as the
    /// others. `None` where there is no such file.
    #[must_use]
    pub fn rot(&self, rot: Rot, seed: u64) -> Option<Rotten> {
        let mut files = self.content.data.files();
        files.retain(|(path, len)| rot.is_of(path) && *len > 0);
        if rot == Rot::Log {
            // Their names are in the order of their ages.
            files.pop();
        }
        let bits: u64 = files.iter().map(|(_, len)| len * 8).sum();
        let mut bit = xxh3_64_with_seed(b"rot", seed).checked_rem(bits)?;
        for (path, len) in files {
            if bit < len * 8 {
                self.content.data.flip_bit(&path, bit).ok()?;
                return Some(Rotten { path, bit });
            }
            bit -= len * 8;
        }
        None
    }

    fn put(&mut self, content: Content) {
        // That of the old life's hook, if it has one, is nobody's.
        self.left = Arc::default();
        self.faults = FaultFs::new(Arc::new(content.data.clone()));
        self.content = content;
    }
}
