//! Files, directories, sync and rename behind one trait, so that what is built on top can be
//! tried against a disk that loses power, lies, or is full.
//!
//! Three implementations: [`StdFs`] is the machine's own file system; [`MemFs`] lives in memory,
//! remembers what was synced, and can be cloned as it would look after a power cut; [`FaultFs`]
//! wraps another one and makes chosen calls fail.
//!
//! Knows: files that are only appended to, directories, sync, rename, links, the data-directory
//! lock. Must not know: what the files mean.
//!
//! Invariants:
//! - a file's bytes are durable only after [`File::sync_data`], its name only after
//!   [`Fs::sync_dir`] of its directory; nothing else promises anything;
//! - every error names the operation and the path;
//! - [`File::append`] either appends all bytes or fails, and after a failure the length of the
//!   file is unknown to the caller until it is opened again.

#![deny(missing_docs)]

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod error;
mod fault_fs;
mod mem_fs;
mod std_fs;

pub use error::{IoError, Op};
pub use fault_fs::{Fault, FaultFs, FaultRule};
pub use mem_fs::{CrashChoice, MemFs, SyncMoment, SyncPoint};
pub use std_fs::StdFs;

/// An open file. Files are written once, from front to back, and read anywhere.
pub trait File: Send + Sync + Debug {
    /// Appends all of `bytes` at the end (before the room, see [`File::reserve`]).
    ///
    /// # Errors
    /// The file may hold any prefix of `bytes` afterwards.
    fn append(&self, bytes: &[u8]) -> Result<(), IoError>;

    /// Gives the file exactly `bytes` bytes of room behind its end (0 takes back what an earlier
    /// call gave): they read as zeros, count in [`File::len`], and are what is appended next goes
    /// into. A sync of bytes that had room costs one write to the disk where a sync of a file that
    /// grew costs two or more, for its length is to be made durable as well. After a power cut the
    /// room may or may not be there. Where a file system cannot do this nothing happens.
    ///
    /// # Errors
    /// What was appended is as it was; there may be some of the room, or none.
    fn reserve(&self, bytes: u64) -> Result<(), IoError>;

    /// Reads at most `buf.len()` bytes from `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// `buf` holds nothing to rely on afterwards; reading again is harmless.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, IoError>;

    /// Makes every byte appended so far durable.
    ///
    /// # Errors
    /// After a failure nothing is known about the bytes since the last success, and a later
    /// success does not cover them: the caller must not go on with this file.
    fn sync_data(&self) -> Result<(), IoError>;

    /// The file's length in bytes, its room included.
    ///
    /// # Errors
    /// Nothing was changed; asking again is harmless.
    fn len(&self) -> Result<u64, IoError>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As [`File::len`].
    fn is_empty(&self) -> Result<bool, IoError> {
        Ok(self.len()? == 0)
    }
}

/// What holds the exclusive lock of a data directory; dropping it releases the lock.
pub trait LockGuard: Send + Sync + Debug {}

/// A file system. Object-safe: the engine holds an `Arc<dyn Fs>`.
///
/// Every method's error says that the named change may or may not have happened; none of them is
/// durable before [`Fs::sync_dir`].
pub trait Fs: Send + Sync + Debug {
    /// Creates an empty file to append to, replacing one of the same name.
    ///
    /// # Errors
    /// The old file may be gone.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError>;

    /// Opens an existing file for reading and syncing.
    ///
    /// # Errors
    /// Nothing was changed.
    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError>;

    /// Opens an existing file to append to and to read. Room behind its end that nobody took back
    /// is a part of it from now on.
    ///
    /// # Errors
    /// Nothing was changed.
    fn open_append(&self, path: &Path) -> Result<Arc<dyn File>, IoError>;

    /// Renames atomically, replacing `to`.
    ///
    /// # Errors
    /// One of the two names holds the file.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Removes a file. Whoever has it open goes on reading it.
    ///
    /// # Errors
    /// The file may be there still.
    fn remove(&self, path: &Path) -> Result<(), IoError>;

    /// The names of the files (not directories) in a directory, sorted.
    ///
    /// # Errors
    /// Nothing was changed.
    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, IoError>;

    /// Creates a directory and its parents.
    ///
    /// # Errors
    /// Some of the parents may have been created.
    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError>;

    /// Makes creations, renames and removals in `dir` durable.
    ///
    /// # Errors
    /// Nothing is known about the names changed since the last success.
    fn sync_dir(&self, dir: &Path) -> Result<(), IoError>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// The second name may or may not be there.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Whether a file or directory of that name is there.
    ///
    /// # Errors
    /// Nothing was changed.
    fn exists(&self, path: &Path) -> Result<bool, IoError>;

    /// Takes the exclusive lock that the file at `path` stands for, creating the file if needed.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::WouldBlock`] while somebody else holds it.
    fn lock(&self, path: &Path) -> Result<Box<dyn LockGuard>, IoError>;
}

/// Reads exactly `buf.len()` bytes from `offset`.
///
/// # Errors
/// [`std::io::ErrorKind::UnexpectedEof`] when the file ends before; `path` is named in the error.
pub fn read_exact_at(
    file: &dyn File,
    path: &Path,
    offset: u64,
    buf: &mut [u8],
) -> Result<(), IoError> {
    let mut done = 0;
    while done < buf.len() {
        let at = offset + done as u64;
        let n = file.read_at(at, &mut buf[done..])?;
        if n == 0 {
            return Err(IoError::new(
                Op::Read,
                path,
                std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    format!("the file ends at or before offset {at}"),
                ),
            ));
        }
        done += n;
    }
    Ok(())
}

/// Reads a whole (small) file.
///
/// # Errors
/// Whatever opening, measuring or reading it said.
pub fn read_all(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>, IoError> {
    let file = fs.open(path)?;
    let len = usize::try_from(file.len()?).map_err(|_cause| {
        IoError::new(Op::Read, path, std::io::Error::other("longer than the address space"))
    })?;
    let mut bytes = vec![0; len];
    read_exact_at(&*file, path, 0, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
