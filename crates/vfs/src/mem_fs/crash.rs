//! What a power cut leaves: everything synced, and of the rest whatever the choice says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::{Inode, InodeRef, MemFs, NameChange, Names};

/// Bytes that a disk writes in one piece.
const SECTOR: usize = 512;

/// What of the unsynced is there after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashChoice {
    /// Nothing of it: the harshest disk that is honest about sync.
    LoseUnsynced,
    /// All of it: a killed process on a machine that stayed up.
    KeepEverything,
    /// Any of it, drawn from this seed: each name change there or not; each file cut at any
    /// length behind its synced prefix, with sectors before the cut that were never written.
    Torn(u64),
}

/// SplitMix64 (Steele, Lea, Flood 2014): a few good bits from a seed, and no dependency.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..=max`, near enough.
    fn up_to(&mut self, max: usize) -> usize {
        let span = max as u64 + 1;
        usize::try_from(self.next() % span).unwrap_or(0)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }
}

pub(super) fn clone(fs: &MemFs, choice: CrashChoice) -> MemFs {
    let names = fs.shared.names.lock();
    let mut draw = Draw(match choice {
        CrashChoice::Torn(seed) => seed,
        _ => 0,
    });
    let mut kept = names.durable.clone();
    for change in &names.pending {
        let keep = match choice {
            CrashChoice::LoseUnsynced => false,
            CrashChoice::KeepEverything => true,
            CrashChoice::Torn(_) => draw.coin(),
        };
        if keep {
            change.apply(&mut kept);
        }
    }
    // Two names of one file stay two names of one file.
    let mut copies: BTreeMap<usize, InodeRef> = BTreeMap::new();
    let mut live = BTreeMap::new();
    for (path, inode) in kept {
        let identity = Arc::as_ptr(&inode).addr();
        let copy = copies.entry(identity).or_insert_with(|| survivor(&inode, choice, &mut draw));
        live.insert(path, copy.clone());
    }
    let (durable, dirs) = (live.clone(), names.dirs.clone());
    made(fs, Names { live, durable, dirs, ..Names::default() })
}

/// A file system of its own, with the same number of syncs behind it and the same quota.
fn made(from: &MemFs, names: Names) -> MemFs {
    let fs = MemFs::new();
    *fs.shared.names.lock() = names;
    fs.shared.syncs.store(from.sync_points(), Ordering::SeqCst);
    fs.set_quota(from.quota());
    fs
}

pub(super) fn fork(fs: &MemFs) -> MemFs {
    let names = fs.shared.names.lock();
    let mut copies: BTreeMap<usize, InodeRef> = BTreeMap::new();
    // A file that is live, durable and in a pending change is one file there as well.
    let mut copy = |inode: &InodeRef| {
        let new = || Arc::new(Mutex::new(inode.lock().clone()));
        copies.entry(Arc::as_ptr(inode).addr()).or_insert_with(new).clone()
    };
    let mut copies_of = |names: &BTreeMap<PathBuf, InodeRef>| -> BTreeMap<PathBuf, InodeRef> {
        names.iter().map(|(path, inode)| (path.clone(), copy(inode))).collect()
    };
    let (live, durable) = (copies_of(&names.live), copies_of(&names.durable));
    let pending = names.pending.iter().map(|change| match change {
        NameChange::Link(path, inode) => NameChange::Link(path.clone(), copy(inode)),
        other => other.clone(),
    });
    let pending = pending.collect();
    made(fs, Names { live, durable, pending, dirs: names.dirs.clone(), ..Names::default() })
}

/// A file as the disk has it after the cut; all of that is durable from now on.
fn survivor(inode: &InodeRef, choice: CrashChoice, draw: &mut Draw) -> InodeRef {
    let inode = inode.lock();
    let (synced, end) = (inode.synced, inode.end);
    let mut data = match choice {
        CrashChoice::LoseUnsynced => inode.data[..synced].to_vec(),
        CrashChoice::KeepEverything => inode.data.clone(),
        CrashChoice::Torn(_) => inode.data[..synced + draw.up_to(end - synced)].to_vec(),
    };
    if matches!(choice, CrashChoice::Torn(_)) && draw.coin() {
        lose_sectors(&mut data, synced, draw);
    }
    // The room reads as zeros, as what was to go into it and did not.
    let len = match choice {
        CrashChoice::Torn(_) if draw.coin() => inode.data.len(),
        _ => inode.synced_len,
    };
    data.resize(len.max(data.len()), 0);
    Arc::new(Mutex::new(Inode::durable(data)))
}

/// The length reached the disk before some of the sectors did: those read as zeros.
fn lose_sectors(data: &mut [u8], synced: usize, draw: &mut Draw) {
    let mut start = synced;
    while start < data.len() {
        let end = data.len().min((start / SECTOR + 1) * SECTOR);
        if draw.up_to(3) == 0 {
            data[start..end].fill(0);
        }
        start = end;
    }
}
