//! An open blob file: every record's checksum compared whenever it is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use meridian_vfs::{File, Fs, read_exact_at};

use super::format::{
    BlobRecord, HEADER, RECORD_HEADER, RecordHeader, Reference, header, id_of, path,
};
use crate::coding::Malformed;
use crate::digest::digest;
use crate::error::Error;
use crate::table::cache::{BlockCache, CachedValue};
use crate::table::compress;
use crate::table::filter;
use crate::table::format::block_checksum;
use crate::table::reader::Garbage;

/// In no manifest yet.
const NEW: u8 = 0;
const INSTALLED: u8 = 1;
/// No version needs it: its file goes when its last reader does.
const OBSOLETE: u8 = 2;

pub(crate) struct BlobFile {
    pub(crate) record: BlobRecord,
    path: PathBuf,
    file: Arc<dyn File>,
    state: AtomicU8,
    cache: Option<Arc<BlockCache>>,
    garbage: Arc<Garbage>,
}

/// Whether a value that is read goes into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    /// While it pushes nothing out: nobody may ever want what a scan has read.
    IfRoom,
    /// Everything is read once.
    No,
}

impl std::fmt::Debug for BlobFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobFile").field("id", &self.record.id).finish_non_exhaustive()
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) == OBSOLETE {
            self.garbage.put(std::mem::take(&mut self.path));
        }
    }
}

impl BlobFile {
    pub(crate) fn open(
        fs: &dyn Fs,
        dir: &Path,
        record: BlobRecord,
        garbage: Arc<Garbage>,
    ) -> Result<Self, Error> {
        let path = path(dir, record.id);
        if !fs.exists(&path)? {
            return Err(Error::corruption(path, 0, "the blob file is missing"));
        }
        let file = fs.open(&path)?;
        let len = file.len()?;
        if len != record.bytes {
            let what = format!("the file has {len} bytes, the manifest says {}", record.bytes);
            return Err(Error::corruption(path, len, what));
        }
        check_header(&*file, &path)?;
        Ok(Self { record, path, file, state: AtomicU8::new(NEW), cache: None, garbage })
    }

    /// With room for its values in `cache`.
    pub(crate) fn with_cache(mut self, cache: Arc<BlockCache>) -> Self {
        self.cache = Some(cache);
        self
    }

    pub(crate) fn is_new(&self) -> bool {
        self.state.load(Ordering::Acquire) == NEW
    }

    /// The manifest has it.
    pub(crate) fn mark_installed(&self) {
        self.state.store(INSTALLED, Ordering::Release);
    }

    pub(crate) fn mark_obsolete(&self) {
        self.state.store(OBSOLETE, Ordering::Release);
    }

    /// Lets go of it, if no manifest has it.
    pub(crate) fn forsake(&self) {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let _was_installed = self.state.compare_exchange(NEW, OBSOLETE, success, failure);
    }

    /// The value of `key` that a reference points to, through the cache.
    pub(crate) fn value(&self, at: Reference, key: &[u8], keep: Keep) -> Result<Bytes, Error> {
        let Some(cache) = &self.cache else { return self.read(at, key) };
        let (id, offset, of) = (self.record.id, at.offset, filter::hash(key));
        let found = match keep {
            Keep::No => cache.peek_value(id, offset),
            _ => cache.get_value(id, offset),
        };
        let is_meant =
            |found: &CachedValue| found.key == of && found.value.len() == at.value_len as usize;
        if let Some(found) = found.filter(is_meant) {
            return Ok(found.value);
        }
        let value = self.read(at, key)?;
        if keep != Keep::No {
            // Without compression the whole record stays in memory with it.
            let held = at.len.max(at.value_len);
            let cached = CachedValue { value: value.clone(), key: of, held };
            cache.insert_value(id, offset, cached, keep == Keep::IfRoom);
        }
        Ok(value)
    }

    /// As [`BlobFile::value`], from the file.
    pub(crate) fn read(&self, at: Reference, key: &[u8]) -> Result<Bytes, Error> {
        let corrupt = |what: &str| Error::corruption(&self.path, at.offset, what);
        let end = at.offset.checked_add(u64::from(at.len));
        if at.offset < HEADER as u64 || end.is_none_or(|end| end > self.record.bytes) {
            return Err(corrupt("a reference points out of the file"));
        }
        let (found, value) = read_record(&*self.file, &self.path, at.offset, at.len as usize)?;
        if *found != *key || value.len() != at.value_len as usize {
            return Err(corrupt("a reference points to the value of another key"));
        }
        Ok(value)
    }

    /// Reads the whole file and compares it with the manifest.
    pub(crate) fn verify(&self) -> Result<(), Error> {
        if digest(&*self.file)? == self.record.digest {
            return Ok(());
        }
        // Find the damaged record, to name it.
        self.each(&mut |_offset, _header, _key| {})?;
        Err(Error::corruption(&self.path, 0, "the file's digest is not the manifest's"))
    }
}

impl BlobFile {
    /// Reads all records.
    pub(crate) fn each(&self, each: &mut dyn FnMut(u64, RecordHeader, Bytes)) -> Result<(), Error> {
        each_record(&*self.file, &self.path, each)
    }
}

fn check_header(file: &dyn File, path: &Path) -> Result<(), Error> {
    let mut head = [0; HEADER];
    match read_exact_at(file, path, 0, &mut head) {
        Ok(()) if head == header() => Ok(()),
        Err(cause) if cause.kind() != std::io::ErrorKind::UnexpectedEof => Err(cause.into()),
        _ => Err(Error::corruption(path, 0, "the header is damaged or of another version")),
    }
}

/// What the manifest would say of a blob file that it does not know.
pub(crate) fn describe(fs: &dyn Fs, file: &Path) -> Result<BlobRecord, Error> {
    let id = file.file_name().and_then(|name| id_of(Path::new(name)));
    let Some(id) = id else {
        return Err(Error::invalid(format!("{} is not named as a blob file is", file.display())));
    };
    let opened = fs.open(file)?;
    check_header(&*opened, file)?;
    Ok(BlobRecord { id, bytes: opened.len()?, digest: digest(&*opened)? })
}

/// Reads a record of `len` bytes, every checksum compared: its key and its value.
fn read_record(
    file: &dyn File,
    path: &Path,
    offset: u64,
    len: usize,
) -> Result<(Bytes, Bytes), Error> {
    let corrupt = |what: &str| Error::corruption(path, offset, what);
    let mut stored = vec![0; len];
    match read_exact_at(file, path, offset, &mut stored) {
        Ok(()) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(corrupt("the file ends inside a record"));
        }
        Err(cause) => return Err(cause.into()),
    }
    let header = RecordHeader::decode(&stored);
    let header = header.map_err(|_cause| corrupt("a record's header cannot be decoded"))?;
    if header.len() != len as u64 || block_checksum(&stored[4..], offset) != header.checksum {
        return Err(corrupt("a record's checksum does not match"));
    }
    let stored = Bytes::from(stored);
    let value_at = RECORD_HEADER + header.key_len as usize;
    let (key, value) = (stored.slice(RECORD_HEADER..value_at), stored.slice(value_at..));
    match compress::decompress(header.compression, &value, header.value_len as usize) {
        Ok(None) => Ok((key, value)),
        Ok(Some(raw)) => Ok((key, Bytes::from(raw))),
        Err(Malformed) => Err(corrupt("a record cannot be decompressed")),
    }
}

/// Reads all records of a blob file.
fn each_record(
    file: &dyn File,
    path: &Path,
    each: &mut dyn FnMut(u64, RecordHeader, Bytes),
) -> Result<(), Error> {
    let end = file.len()?;
    let mut at = HEADER as u64;
    while at < end {
        let corrupt = |what: &str| Error::corruption(path, at, what);
        let mut head = [0; RECORD_HEADER];
        if at + RECORD_HEADER as u64 > end {
            return Err(corrupt("the file ends inside a record"));
        }
        read_exact_at(file, path, at, &mut head)?;
        let header = RecordHeader::decode(&head);
        let header = header.map_err(|_cause| corrupt("a record's header cannot be decoded"))?;
        if at + header.len() > end {
            return Err(corrupt("the file ends inside a record"));
        }
        let len =
            usize::try_from(header.len()).map_err(|_cause| corrupt("a record is too long"))?;
        let (key, _value) = read_record(file, path, at, len)?;
        each(at, header, key);
        at += header.len();
    }
    Ok(())
}
