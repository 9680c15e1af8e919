//! An open table: index and filter in memory or in partitions, blocks through the cache, every block's
//! checksum compared whenever it is read from the file.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use meridian_vfs::{File, Fs, read_exact_at};

use super::block::{Block, Visited};
use super::cache::{BlockCache, Pinned};
use super::compress::{self, Dictionary};
use super::filter::Filter;
use super::format::{
    BLOCK_TRAILER, FOOTER, Footer, HEADER, Handle, block_checksum, path, version_of,
};
pub(crate) use super::garbage::Garbage;
use super::index::Index;
use super::joined::Joined;
use super::lookup::Lookup;
use super::metadata::Metadata;
use super::parts::{Leaf, Parts};
use super::readahead::Readahead;
use crate::blob::format::Reference;
use crate::blob::reader::{BlobFile, Keep};
use crate::coding::{Decoder, Malformed};
use crate::digest::digest;
use crate::error::Error;
use crate::key::{Seqno, ValueKind, is_apart, kind_of, seek_tag, seqno_of};
use crate::version::edit::TableRecord;

pub(crate) struct Table {
    pub(crate) record: TableRecord,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) lookup: Lookup,
    pub(super) dictionary: Option<Dictionary>,
    /// The blob files that it refers to, in the order of its record.
    blobs: Vec<Arc<BlobFile>>,
    pub(super) cache: Arc<BlockCache>,
    pub(super) pinned: Pinned,
    /// No version after this one has it: its file goes when its last reader does.
    obsolete: AtomicBool,
    garbage: Arc<Garbage>,
    flushed: Seqno,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("id", &self.record.id).finish_non_exhaustive()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            self.garbage.put(std::mem::take(&mut self.path));
        }
    }
}

impl Table {
    pub(crate) fn open(
        fs: &dyn Fs,
        dir: &Path,
        record: TableRecord,
        cache: Arc<BlockCache>,
        garbage: Arc<Garbage>,
    ) -> Result<Self, Error> {
        let path = path(dir, record.id);
        if !fs.exists(&path)? {
            return Err(Error::corruption(path, 0, "the table is missing"));
        }
        let file = fs.open(&path)?;
        let (version, footer) = read_footer(&*file, &path, Some(record.bytes))?;
        let load = |handle: Handle| read_raw(&*file, &path, handle, None);
        let corrupt = |handle: Handle, what: &'static str| {
            let path = path.clone();
            move |_malformed: Malformed| Error::corruption(path, handle.offset, what)
        };
        let meta = Metadata::decode(version, &load(footer.meta)?)
            .map_err(corrupt(footer.meta, "the metadata cannot be decoded"))?;
        if !meta.is_of(&record) {
            let what = "the metadata is not what the manifest says";
            return Err(Error::corruption(path, footer.meta.offset, what));
        }
        let whole = load(footer.index)?;
        let lookup = if meta.partitions > 0 {
            let parts = Parts::parse(whole, footer.file_len);
            // The last separator is the last key: whatever the table covers is in a partition.
            let sound = parts.ok().filter(|parts| parts.is_for(&meta));
            let what = "the top of the index is not what the metadata says";
            let damage = || Error::corruption(&path, footer.index.offset, what);
            Lookup::Parts(sound.ok_or_else(damage)?)
        } else {
            let index = Index::parse(whole)
                .map_err(corrupt(footer.index, "the index cannot be decoded"))?;
            let filter = match footer.filter.len {
                0 => None,
                _ => Some(
                    Filter::parse(load(footer.filter)?)
                        .map_err(corrupt(footer.filter, "the filter cannot be decoded"))?,
                ),
            };
            Lookup::Whole { index, filter }
        };
        let obsolete = AtomicBool::new(false);
        let dictionary = match meta.dictionary.len {
            0 => None,
            _ => Some(
                Dictionary::parse(&load(meta.dictionary)?)
                    .map_err(corrupt(meta.dictionary, "the dictionary cannot be decoded"))?,
            ),
        };
        let dictionary_bytes = dictionary.as_ref().map_or(0, Dictionary::bytes);
        let pinned = cache.pin((lookup.bytes() + dictionary_bytes) as u64);
        Ok(Self {
            record,
            path,
            file,
            lookup,
            dictionary,
            blobs: Vec::new(),
            cache,
            pinned,
            obsolete,
            garbage,
            flushed: meta.origin.as_ref().map_or(0, |origin| origin.flushed),
        })
    }

    /// With the blob files that it refers to, out of `files`.
    pub(crate) fn with_blobs(
        mut self,
        files: &BTreeMap<u64, Arc<BlobFile>>,
    ) -> Result<Self, Error> {
        for share in &self.record.blobs {
            let Some(file) = files.get(&share.file) else {
                let what = format!("the manifest knows no blob file {:016x}", share.file);
                return Err(Error::corruption(&self.path, 0, what));
            };
            self.blobs.push(file.clone());
        }
        Ok(self)
    }

    pub(crate) fn blobs(&self) -> &[Arc<BlobFile>] {
        &self.blobs
    }

    /// The value of `key` that `stored` refers to.
    pub(crate) fn apart(&self, key: &[u8], stored: &[u8]) -> Result<Bytes, Error> {
        let reference = Reference::decode(stored);
        let file = reference.ok().and_then(|reference| {
            let at = self.record.blobs.binary_search_by_key(&reference.file, |share| share.file);
            self.blobs.get(at.ok()?).map(|file| (file, reference))
        });
        let Some((file, reference)) = file else {
            let what = "a reference is to no blob file that the table knows";
            return Err(Error::corruption(&self.path, 0, what));
        };
        file.value(reference, key, Keep::Yes)
    }

    /// Lets go of it, and of the blob files that no manifest has.
    pub(crate) fn forsake(&self) {
        self.mark_obsolete();
        self.blobs.iter().for_each(|file| file.forsake());
    }

    pub(crate) fn mark_obsolete(&self) {
        self.garbage.obsolete(self.record.id);
        self.obsolete.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) const fn has_dictionary(&self) -> bool {
        self.dictionary.is_some()
    }

    /// How far its tree had been flushed when it was begun, as it says itself.
    pub(crate) const fn flushed(&self) -> Seqno {
        self.flushed
    }

    /// Bytes of index, filter and dictionary that stay in memory.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.pinned.bytes()
    }

    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        *self.record.smallest <= *key && *key <= *self.record.largest
    }

    /// Hands the versions of `key` visible at `at` to `visit`, newest first. `hash` is the key's.
    pub(crate) fn visit(
        &self,
        key: &[u8],
        hash: u64,
        at: Seqno,
        visit: &mut impl FnMut(Seqno, ValueKind, Bytes) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let mut leaf = Leaf::new(true);
        let Some(first) = self.locate(&mut leaf, key, hash, at)? else {
            return Ok(ControlFlow::Continue(()));
        };
        self.visit_from(&mut leaf, first, &mut |leaf, at| self.block(leaf, at), key, at, visit)
    }

    /// As [`Table::visit`], without asking the filter. `first`: what the index finds; `block`: where
    /// blocks come from.
    pub(crate) fn visit_from(
        &self,
        leaf: &mut Leaf,
        first: usize,
        block: &mut impl FnMut(&mut Leaf, usize) -> Result<Block, Error>,
        key: &[u8],
        at: Seqno,
        visit: &mut impl FnMut(Seqno, ValueKind, Bytes) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let mut unreadable = None;
        let mut resolved = |tag: u64, stored: Bytes| {
            let value = if is_apart(tag) { self.apart(key, &stored) } else { Ok(stored) };
            match value {
                Ok(value) => visit(seqno_of(tag), kind_of(tag), value),
                Err(cause) => {
                    unreadable = Some(cause);
                    ControlFlow::Break(())
                }
            }
        };
        for block_at in first..self.blocks() {
            match block(leaf, block_at)?.visit(key, seek_tag(at), &mut resolved) {
                Ok(Visited::Enough) => {
                    return unreadable.map_or(Ok(ControlFlow::Break(())), Err);
                }
                Ok(Visited::EndOfBlock) if self.goes_on_with(leaf, block_at, key)? => {}
                Ok(_) => break,
                Err(malformed) => return Err(self.malformed(block_at, malformed)),
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A block that passed its checksum cannot be decoded.
    pub(crate) fn malformed(&self, block_at: usize, _malformed: Malformed) -> Error {
        let handle = self.handle(&mut Leaf::new(false), block_at);
        let offset = handle.map_or(0, |handle| handle.offset);
        Error::corruption(&self.path, offset, "a block cannot be decoded")
    }

    /// The block at `block_at` of the index, which goes into the cache.
    pub(crate) fn block(&self, leaf: &mut Leaf, block_at: usize) -> Result<Block, Error> {
        let handle = self.handle(leaf, block_at)?;
        if let Some(block) = self.cache.get(self.record.id, handle.offset) {
            return Ok(block);
        }
        let block = self.parse(block_at, self.raw(handle, None, true)?)?;
        self.cache.insert(self.record.id, handle.offset, block.clone());
        Ok(block)
    }

    /// The raw bytes of a block, whose `stored` ones were read with others'. `keep`: they will be
    /// kept, and must not keep all of what was read with them.
    fn raw(&self, handle: Handle, stored: Option<Bytes>, keep: bool) -> Result<Bytes, Error> {
        let dictionary = self.dictionary.as_ref();
        let Some(stored) = stored else {
            return read_raw(&*self.file, &self.path, handle, dictionary);
        };
        Ok(match unpack(&self.path, handle, &stored, dictionary)? {
            Unpacked::Raw(raw) => Bytes::from(raw),
            Unpacked::Stored(len) if keep => Bytes::copy_from_slice(&stored[..len]),
            Unpacked::Stored(len) => stored.slice(..len),
        })
    }

    /// As [`Table::block`], for those who want others as well.
    pub(crate) fn block_joined(
        &self,
        leaf: &mut Leaf,
        block_at: usize,
        joined: &mut Joined,
    ) -> Result<Block, Error> {
        let handle = self.handle(leaf, block_at)?;
        let id = self.record.id;
        if let Some(block) = self.cache.get(id, handle.offset) {
            return Ok(block);
        }
        // A partition that cannot be read is an error when it is its turn.
        let handle_of = |at| self.handle(leaf, at).ok();
        let is_here = |handle: Handle| self.cache.peek(id, handle.offset).is_some();
        let stored = joined.read(&*self.file, &self.path, block_at, handle_of, is_here);
        let block = self.parse(block_at, self.raw(handle, stored, true)?)?;
        self.cache.insert(id, handle.offset, block.clone());
        Ok(block)
    }

    /// As [`Table::block`], for a cursor that may go on to the blocks behind. [`Leaf::keep`]: it goes
    /// into the cache; that of a long scan only while there is room, for others may want what it
    /// pushes out, and nobody may ever want what it has read.
    pub(crate) fn block_ahead(
        &self,
        leaf: &mut Leaf,
        block_at: usize,
        ahead: &mut Readahead,
    ) -> Result<Block, Error> {
        let keep = leaf.keep;
        let (index, local) = self.leaf(leaf, block_at)?;
        let handle = index.handle(local).ok_or_else(|| self.not_in_index())?;
        let (id, offset) = (self.record.id, handle.offset);
        let goes_on = ahead.enter(block_at);
        let found = if keep { self.cache.get(id, offset) } else { self.cache.peek(id, offset) };
        if let Some(block) = found {
            return Ok(block);
        }
        if goes_on && ahead.get(handle).is_none() {
            ahead.read(&*self.file, &self.path, index, local);
        }
        let block = self.parse(block_at, self.raw(handle, ahead.get(handle), keep)?)?;
        if keep && (!ahead.is_long() || self.cache.has_room(&block)) {
            self.cache.insert(id, offset, block.clone());
        }
        Ok(block)
    }

    fn parse(&self, block_at: usize, raw: Bytes) -> Result<Block, Error> {
        Block::parse(raw).map_err(|malformed| self.malformed(block_at, malformed))
    }

    /// Reads the whole file and compares it with the manifest.
    pub(crate) fn verify(&self) -> Result<(), Error> {
        if digest(&*self.file)? == self.record.digest {
            return Ok(());
        }
        self.read_through()?;
        Err(Error::corruption(&self.path, 0, "the file's digest is not the manifest's"))
    }
}

/// What a table that no manifest speaks of says of itself, and its bytes.
pub(crate) fn read_metadata(fs: &dyn Fs, path: &Path) -> Result<(Metadata, u64), Error> {
    let file = fs.open(path)?;
    let (version, footer) = read_footer(&*file, path, None)?;
    let meta = Metadata::decode(version, &read_raw(&*file, path, footer.meta, None)?);
    let what = "the metadata cannot be decoded";
    let meta = meta.map_err(|_cause| Error::corruption(path, footer.meta.offset, what))?;
    Ok((meta, footer.file_len))
}

/// The version and the footer of a table of `expected` bytes, if somebody knows how many.
fn read_footer(file: &dyn File, path: &Path, expected: Option<u64>) -> Result<(u8, Footer), Error> {
    let len = file.len()?;
    if expected.is_some_and(|expected| len != expected) || len < (HEADER + FOOTER) as u64 {
        let what = match expected {
            Some(expected) => format!("the file has {len} bytes, the manifest says {expected}"),
            None => format!("the file has {len} bytes: too few for a table"),
        };
        return Err(Error::corruption(path, len, what));
    }
    let mut head = [0; HEADER];
    read_exact_at(file, path, 0, &mut head)?;
    let Some(version) = version_of(&head) else {
        return Err(Error::corruption(path, 0, "the header is damaged or of another version"));
    };
    let at = len - FOOTER as u64;
    let mut bytes = [0; FOOTER];
    read_exact_at(file, path, at, &mut bytes)?;
    match Footer::decode(&bytes) {
        Ok(footer) if footer.file_len == len && bytes.ends_with(&head) => Ok((version, footer)),
        _ => Err(Error::corruption(path, at, "the footer is damaged")),
    }
}

/// Reads, checks and decompresses one block.
pub(super) fn read_raw(
    file: &dyn File,
    path: &Path,
    handle: Handle,
    dictionary: Option<&Dictionary>,
) -> Result<Bytes, Error> {
    let mut stored = vec![0; handle.len as usize];
    match read_exact_at(file, path, handle.offset, &mut stored) {
        Ok(()) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::corruption(path, handle.offset, "the file ends inside a block"));
        }
        Err(cause) => return Err(cause.into()),
    }
    Ok(match unpack(path, handle, &stored, dictionary)? {
        Unpacked::Raw(raw) => Bytes::from(raw),
        Unpacked::Stored(len) => {
            stored.truncate(len);
            Bytes::from(stored)
        }
    })
}

/// The payload of a stored block.
enum Unpacked {
    Raw(Vec<u8>),
    /// The first so many bytes, as they are.
    Stored(usize),
}

/// Checks and decompresses a stored block.
fn unpack(
    path: &Path,
    handle: Handle,
    stored: &[u8],
    dictionary: Option<&Dictionary>,
) -> Result<Unpacked, Error> {
    let corrupt = |what: &str| Error::corruption(path, handle.offset, what);
    let Some(trailer_at) = stored.len().checked_sub(BLOCK_TRAILER) else {
        return Err(corrupt("a block is shorter than its trailer"));
    };
    let mut trailer = Decoder::new(&stored[trailer_at..]);
    let parsed = (trailer.u8(), trailer.u32(), trailer.u32());
    let (Ok(code), Ok(raw_len), Ok(checksum)) = parsed else {
        return Err(corrupt("a block is shorter than its trailer"));
    };
    if block_checksum(&stored[..stored.len() - 4], handle.offset) != checksum {
        return Err(corrupt("a block's checksum does not match"));
    }
    let payload = &stored[..trailer_at];
    match compress::decompress_with(dictionary, code, payload, raw_len as usize) {
        Ok(Some(raw)) => Ok(Unpacked::Raw(raw)),
        Ok(None) => Ok(Unpacked::Stored(trailer_at)),
        Err(Malformed) => Err(corrupt("a block cannot be decompressed")),
    }
}
