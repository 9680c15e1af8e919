//! The machine's own file system: positioned reads, `fdatasync`, `flock`.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};

use crate::{File, Fs, IoError, LockGuard, Op};

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdFs;

#[derive(Debug)]
struct StdFile {
    path: PathBuf,
    file: fs::File,
    /// Where the next append goes: behind it may be room.
    end: AtomicU64,
}

impl StdFile {
    fn new(path: &Path, file: fs::File, end: u64) -> Arc<Self> {
        Arc::new(Self { path: path.to_path_buf(), file, end: AtomicU64::new(end) })
    }

    fn err(&self, op: Op) -> impl FnOnce(io::Error) -> IoError + '_ {
        move |cause| IoError::new(op, &self.path, cause)
    }
}

impl File for StdFile {
    fn append(&self, bytes: &[u8]) -> Result<(), IoError> {
        let at = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(bytes, at).map_err(self.err(Op::Append))
    }

    fn reserve(&self, bytes: u64) -> Result<(), IoError> {
        let end = self.end.load(Ordering::Relaxed);
        self.file.set_len(end).map_err(self.err(Op::Reserve))?;
        if bytes == 0 {
            return Ok(());
        }
        let given = fallocate(&self.file, FallocateFlags::empty(), end, bytes);
        match given.map_err(io::Error::from) {
            Err(cause) if cause.kind() == io::ErrorKind::Unsupported => Ok(()),
            given => given.map_err(self.err(Op::Reserve)),
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, IoError> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.err(Op::Read)(cause)),
            }
        }
        Ok(done)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.file.sync_data().map_err(self.err(Op::Sync))
    }

    fn len(&self) -> Result<u64, IoError> {
        Ok(self.file.metadata().map_err(self.err(Op::Length))?.len())
    }
}

#[derive(Debug)]
struct StdLock {
    /// The lock lives as long as the descriptor.
    _file: fs::File,
}

impl LockGuard for StdLock {}

impl Fs for StdFs {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        // Whoever has the old file open goes on reading that one.
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(IoError::new(Op::Create, path, cause)),
        }
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|cause| IoError::new(Op::Create, path, cause))?;
        Ok(StdFile::new(path, file, 0))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        let file = fs::File::open(path).map_err(|cause| IoError::new(Op::Open, path, cause))?;
        Ok(StdFile::new(path, file, 0))
    }

    fn open_append(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|cause| IoError::new(Op::Open, path, cause))?;
        let end = file.metadata().map_err(|cause| IoError::new(Op::Length, path, cause))?.len();
        Ok(StdFile::new(path, file, end))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        fs::rename(from, to).map_err(|cause| IoError::new(Op::Rename, from, cause))
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        fs::remove_file(path).map_err(|cause| IoError::new(Op::Remove, path, cause))
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, IoError> {
        let err = |cause| IoError::new(Op::List, dir, cause);
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(err)? {
            let entry = entry.map_err(err)?;
            if entry.file_type().map_err(err)?.is_file() {
                names.push(PathBuf::from(entry.file_name()));
            }
        }
        names.sort();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        fs::create_dir_all(dir).map_err(|cause| IoError::new(Op::CreateDir, dir, cause))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        let open = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        fs::File::open(open)
            .and_then(|handle| handle.sync_all())
            .map_err(|cause| IoError::new(Op::SyncDir, dir, cause))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        fs::hard_link(from, to).map_err(|cause| IoError::new(Op::Link, from, cause))
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        path.try_exists().map_err(|cause| IoError::new(Op::Exists, path, cause))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn LockGuard>, IoError> {
        let err = |cause| IoError::new(Op::Lock, path, cause);
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(err)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(StdLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Err(err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "another process (or another part of this one) has it open",
            ))),
            Err(fs::TryLockError::Error(cause)) => Err(err(cause)),
        }
    }
}
