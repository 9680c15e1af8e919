//! A file system in memory that knows what a power cut would leave.
//!
//! INVARIANT: `durable` and the first `synced` bytes of each inode are what a cut can never take;
//! everything in `pending` and behind `synced` may be there afterwards, in part or not at all.
//! Directories themselves are durable as soon as they are created.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::{File, Fs, IoError, LockGuard, Op};

mod crash;
mod space;

pub use crash::CrashChoice;

/// A file's bytes, shared by its names and its open handles.
#[derive(Clone, Debug, Default)]
struct Inode {
    data: Vec<u8>,
    /// Where the next append goes; behind it is room.
    end: usize,
    /// Length of the durable prefix of what was appended.
    synced: usize,
    /// The durable length, room included.
    synced_len: usize,
}

impl Inode {
    /// A file whose bytes are all durable.
    fn durable(data: Vec<u8>) -> Self {
        let len = data.len();
        Self { data, end: len, synced: len, synced_len: len }
    }

    fn append(&mut self, bytes: &[u8]) {
        let (into_room, behind) = bytes.split_at(bytes.len().min(self.data.len() - self.end));
        self.data[self.end..self.end + into_room.len()].copy_from_slice(into_room);
        self.data.extend_from_slice(behind);
        self.end += bytes.len();
    }

    fn sync(&mut self) {
        (self.synced, self.synced_len) = (self.end, self.data.len());
    }

    fn truncate(&mut self, len: usize) {
        self.data.truncate(len);
        let len = self.data.len();
        self.end = self.end.min(len);
        self.synced = self.synced.min(len);
        self.synced_len = self.synced_len.min(len);
    }
}

type InodeRef = Arc<Mutex<Inode>>;

/// A change of names that no directory sync has covered yet.
#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, InodeRef),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn touches(&self, dir: &Path) -> bool {
        let within = |path: &Path| path.parent() == Some(dir);
        match self {
            Self::Link(path, _) | Self::Unlink(path) => within(path),
            Self::Rename(from, to) => within(from) || within(to),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, InodeRef>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), inode.clone());
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Names {
    live: BTreeMap<PathBuf, InodeRef>,
    durable: BTreeMap<PathBuf, InodeRef>,
    pending: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
}

/// Whether a hook is called before a sync takes effect or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMoment {
    /// The sync was asked for and has not happened: its bytes are at risk.
    Before,
    /// The sync has happened.
    After,
}

/// A moment at which a hook may take a crash clone.
#[derive(Clone, Debug)]
pub struct SyncPoint {
    /// The number of this sync since the file system was made, from 1.
    pub number: u64,
    /// Before or after it took effect.
    pub moment: SyncMoment,
    /// The file or directory synced.
    pub path: PathBuf,
}

type Hook = Arc<dyn Fn(&MemFs, &SyncPoint) + Send + Sync>;

#[derive(Default)]
struct Shared {
    names: Mutex<Names>,
    hook: Mutex<Option<Hook>>,
    syncs: AtomicU64,
    /// Most bytes of all files together.
    quota: Mutex<Option<u64>>,
    is_off: AtomicBool,
}

/// A file system in memory. Clones share it; [`MemFs::crash_clone`] and [`MemFs::fork`] make another
/// one.
#[derive(Clone, Default)]
pub struct MemFs {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for MemFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemFs").field("syncs", &self.sync_points()).finish_non_exhaustive()
    }
}

impl MemFs {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many syncs (of files and directories) there were so far.
    #[must_use]
    pub fn sync_points(&self) -> u64 {
        self.shared.syncs.load(Ordering::SeqCst)
    }

    /// Calls `hook` before and after every sync from now on. The hook may take crash clones; it
    /// must not sync this file system itself.
    pub fn set_sync_hook(&self, hook: impl Fn(&Self, &SyncPoint) + Send + Sync + 'static) {
        *self.shared.hook.lock() = Some(Arc::new(hook));
    }

    /// Ends what [`MemFs::set_sync_hook`] began.
    pub fn clear_sync_hook(&self) {
        *self.shared.hook.lock() = None;
    }

    /// The file system as it may look after a power cut now.
    #[must_use]
    pub fn crash_clone(&self, choice: CrashChoice) -> Self {
        crash::clone(self, choice)
    }

    /// Another file system with the same files: what is at risk here is at risk there. Nobody has
    /// anything open in it, and nobody holds its lock.
    #[must_use]
    pub fn fork(&self) -> Self {
        crash::fork(self)
    }

    /// Takes the power from whoever uses it: every operation fails from now on and changes nothing,
    /// and so does the sync that a hook is called for at this moment. What is on the disk stays
    /// there for [`MemFs::crash_clone`].
    pub fn cut_power(&self) {
        self.shared.is_off.store(true, Ordering::SeqCst);
    }

    fn check_power(&self, op: Op, path: &Path) -> Result<(), IoError> {
        if self.shared.is_off.load(Ordering::SeqCst) {
            return Err(IoError::new(op, path, io::Error::other("there is no power")));
        }
        Ok(())
    }

    /// Flips one bit of a file in place, durable part included: bit rot.
    ///
    /// # Errors
    /// When there is no such file or no such bit.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> Result<(), IoError> {
        let inode = self.find(path, Op::Append)?;
        let mut inode = inode.lock();
        let byte = usize::try_from(bit / 8).ok().and_then(|at| inode.data.get_mut(at));
        let byte = byte.ok_or_else(|| {
            IoError::new(Op::Append, path, io::Error::other("no such bit in the file"))
        })?;
        *byte ^= 1 << (bit % 8);
        Ok(())
    }

    /// Cuts a file to `len` bytes in place, durable part included.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn truncate(&self, path: &Path, len: usize) -> Result<(), IoError> {
        let inode = self.find(path, Op::Append)?;
        inode.lock().truncate(len);
        Ok(())
    }

    fn find(&self, path: &Path, op: Op) -> Result<InodeRef, IoError> {
        let names = self.shared.names.lock();
        names.live.get(path).cloned().ok_or_else(|| missing(op, path))
    }

    fn handle(&self, path: &Path, inode: InodeRef, writable: bool) -> Arc<dyn File> {
        Arc::new(MemFile { fs: self.clone(), path: path.to_path_buf(), inode, writable })
    }

    /// Runs a sync with the hook before and after it, called without any lock held.
    fn synced(&self, op: Op, path: &Path, sync: impl FnOnce()) -> Result<(), IoError> {
        self.check_power(op, path)?;
        let number = self.shared.syncs.fetch_add(1, Ordering::SeqCst) + 1;
        let hook = self.shared.hook.lock().clone();
        let call = |moment| {
            if let Some(hook) = &hook {
                hook(self, &SyncPoint { number, moment, path: path.to_path_buf() });
            }
        };
        call(SyncMoment::Before);
        self.check_power(op, path)?;
        sync();
        call(SyncMoment::After);
        self.check_power(op, path)
    }
}

fn missing(op: Op, path: &Path) -> IoError {
    IoError::new(op, path, io::Error::new(io::ErrorKind::NotFound, "no such file"))
}

#[derive(Debug)]
struct MemFile {
    fs: MemFs,
    path: PathBuf,
    inode: InodeRef,
    writable: bool,
}

impl File for MemFile {
    fn append(&self, bytes: &[u8]) -> Result<(), IoError> {
        if !self.writable {
            let cause = io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading");
            return Err(IoError::new(Op::Append, &self.path, cause));
        }
        self.fs.check_power(Op::Append, &self.path)?;
        self.fs.append(&self.path, &self.inode, bytes)
    }

    fn reserve(&self, bytes: u64) -> Result<(), IoError> {
        self.fs.check_power(Op::Reserve, &self.path)?;
        self.fs.reserve(&self.path, &self.inode, bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, IoError> {
        self.fs.check_power(Op::Read, &self.path)?;
        let inode = self.inode.lock();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(inode.data.len());
        let n = buf.len().min(inode.data.len() - start);
        buf[..n].copy_from_slice(&inode.data[start..start + n]);
        Ok(n)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.fs.synced(Op::Sync, &self.path, || {
            self.inode.lock().sync();
        })
    }

    fn len(&self) -> Result<u64, IoError> {
        self.fs.check_power(Op::Length, &self.path)?;
        Ok(self.inode.lock().data.len() as u64)
    }
}

#[derive(Debug)]
struct MemLock {
    fs: MemFs,
    path: PathBuf,
}

impl LockGuard for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.fs.shared.names.lock().locked.remove(&self.path);
    }
}

impl Fs for MemFs {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.check_power(Op::Create, path)?;
        let inode = InodeRef::default();
        let mut names = self.shared.names.lock();
        names.live.insert(path.to_path_buf(), inode.clone());
        names.pending.push(NameChange::Link(path.to_path_buf(), inode.clone()));
        drop(names);
        Ok(self.handle(path, inode, true))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.check_power(Op::Open, path)?;
        Ok(self.handle(path, self.find(path, Op::Open)?, false))
    }

    fn open_append(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.check_power(Op::Open, path)?;
        let inode = self.find(path, Op::Open)?;
        {
            let mut inode = inode.lock();
            inode.end = inode.data.len();
        }
        Ok(self.handle(path, inode, true))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.check_power(Op::Rename, from)?;
        let mut names = self.shared.names.lock();
        let inode = names.live.remove(from).ok_or_else(|| missing(Op::Rename, from))?;
        names.live.insert(to.to_path_buf(), inode);
        names.pending.push(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.check_power(Op::Remove, path)?;
        let mut names = self.shared.names.lock();
        names.live.remove(path).ok_or_else(|| missing(Op::Remove, path))?;
        names.pending.push(NameChange::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, IoError> {
        self.check_power(Op::List, dir)?;
        let names = self.shared.names.lock();
        if !names.dirs.contains(dir) && !names.live.keys().any(|path| path.starts_with(dir)) {
            return Err(missing(Op::List, dir));
        }
        let files = names.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(files.filter_map(|path| path.file_name()).map(PathBuf::from).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        self.check_power(Op::CreateDir, dir)?;
        let mut names = self.shared.names.lock();
        names.dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.synced(Op::SyncDir, dir, || {
            let mut names = self.shared.names.lock();
            let Names { durable, pending, .. } = &mut *names;
            pending.retain(|change| {
                let covered = change.touches(dir);
                if covered {
                    change.apply(durable);
                }
                !covered
            });
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.check_power(Op::Link, from)?;
        let mut names = self.shared.names.lock();
        let inode = names.live.get(from).cloned().ok_or_else(|| missing(Op::Link, from))?;
        if names.live.contains_key(to) {
            let cause = io::Error::new(io::ErrorKind::AlreadyExists, "the name is taken");
            return Err(IoError::new(Op::Link, to, cause));
        }
        names.live.insert(to.to_path_buf(), inode.clone());
        names.pending.push(NameChange::Link(to.to_path_buf(), inode));
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        self.check_power(Op::Exists, path)?;
        let names = self.shared.names.lock();
        Ok(names.live.contains_key(path) || names.dirs.contains(path))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn LockGuard>, IoError> {
        self.check_power(Op::Lock, path)?;
        if !self.shared.names.lock().locked.insert(path.to_path_buf()) {
            let cause = io::Error::new(io::ErrorKind::WouldBlock, "somebody else has it open");
            return Err(IoError::new(Op::Lock, path, cause));
        }
        Ok(Box::new(MemLock { fs: self.clone(), path: path.to_path_buf() }))
    }
}
