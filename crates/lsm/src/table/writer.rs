//! Writing a table, front to back: data blocks, filter, index, metadata, footer; hashed as it goes.
//! In a large table a partition of filter and index follows the data blocks that it is for, so that
//! no more than one has to be in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use meridian_vfs::{File, Fs};

use super::block::BlockBuilder;
use super::compress::{SAMPLE_BYTES, Trained};
use super::filter_bits::Runs;
use super::format::{BLOCK_TRAILER, Footer, HEADER, Handle, block_checksum, header, path};
use super::metadata::{Metadata, Origin};
use super::parts::encode_part;
use super::{compress, filter, index};
use crate::blob::format::{Reference, count};
use crate::error::Error;
use crate::key::{ValueKind, is_apart, kind_of, seqno_of};
use crate::options::{Compression, TreeConfig};
use crate::version::edit::TableRecord;

/// Bytes gathered before they are written and hashed: large enough for both to be efficient.
const WRITE_BYTES: usize = 256 << 10;

/// With fewer bits for each key a filter says yes so often that it is not worth asking.
const LEAST_FILTER_BITS: f64 = 0.5;

pub(crate) struct TableWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    meta: Metadata,
    origin: Origin,
    compression: Compression,
    block_bytes: usize,
    bloom_bits: u8,
    /// What decides how many bits its filter has; `None`: `bloom_bits`.
    runs: Option<Runs>,
    partition_bytes: usize,
    block: BlockBuilder,
    /// The hashes of the block's keys.
    block_hashes: Vec<u64>,
    /// Blocks that wait for a dictionary to be trained from them.
    samples: Option<Samples>,
    trained: Option<Trained>,
    /// The last key of a written block and where it is: its separator needs the next key.
    pending: Option<(Vec<u8>, Handle)>,
    part: OpenPart,
    /// Ended partitions: the top of the index.
    top: Vec<u8>,
    /// Different keys in blocks that are placed; of two blocks with the same one both count.
    keys: u64,
    hasher: blake3::Hasher,
    out: Vec<u8>,
    /// The file's length once `out` is written.
    offset: u64,
}

/// What the placed blocks since the last partition need.
#[derive(Default)]
struct OpenPart {
    index: Vec<u8>,
    blocks: u64,
    hashes: Vec<u64>,
}

/// Raw blocks, one behind the other.
#[derive(Default)]
struct Samples {
    raw: Vec<u8>,
    blocks: Vec<Sample>,
}

struct Sample {
    bytes: usize,
    last: Vec<u8>,
    /// Known with the next key.
    separator: Option<Vec<u8>>,
    hashes: Vec<u64>,
}

impl TableWriter {
    pub(crate) fn create(
        fs: &dyn Fs,
        dir: &Path,
        config: &TreeConfig,
        compression: Compression,
        origin: Origin,
    ) -> Result<Self, Error> {
        let path = path(dir, origin.table);
        let file = fs.create(&path)?;
        Ok(Self {
            file,
            path,
            meta: Metadata { min_seqno: u64::MAX, ..Metadata::default() },
            origin,
            compression,
            block_bytes: config.block_bytes,
            bloom_bits: config.bloom_bits_per_key,
            runs: None,
            partition_bytes: config.partition_bytes,
            block: BlockBuilder::default(),
            block_hashes: Vec::new(),
            samples: matches!(compression, Compression::ZstdTrained(_)).then(Samples::default),
            trained: None,
            pending: None,
            part: OpenPart::default(),
            top: Vec::new(),
            keys: 0,
            hasher: blake3::Hasher::new(),
            out: header().to_vec(),
            offset: HEADER as u64,
        })
    }

    /// With the share of the filters' memory that is right for these runs.
    pub(crate) fn with_runs(mut self, runs: Option<Runs>) -> Self {
        self.runs = runs;
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset + self.samples.as_ref().map_or(0, |samples| samples.raw.len() as u64)
    }

    /// Counts an entry that expires.
    pub(crate) fn expires(&mut self, at: u64) {
        self.origin.times.expires(at);
    }

    /// Adds the next version in order: a value, or a reference to one, as `tag` says.
    pub(crate) fn add(&mut self, key: &[u8], tag: u64, value: &[u8]) -> Result<(), Error> {
        if !self.block.is_empty() && self.block.bytes() + key.len() + value.len() > self.block_bytes
        {
            self.finish_block()?;
        }
        if let Some((last, handle)) = self.pending.take() {
            self.enter(&index::separator(&last, key), handle)?;
        }
        if let Some(sample) = self.samples.as_mut().and_then(|samples| samples.blocks.last_mut()) {
            sample.separator.get_or_insert_with(|| index::separator(&sample.last, key));
        }
        let hash = filter::hash(key);
        if self.bloom_bits > 0 && self.block_hashes.last() != Some(&hash) {
            self.block_hashes.push(hash);
        }
        if is_apart(tag) {
            let reference = Reference::decode(value).map_err(|_cause| {
                Error::corruption(&self.path, self.offset, "a reference cannot be decoded")
            })?;
            count(&mut self.origin.blobs, reference.file, u64::from(reference.len));
        }
        let (meta, seqno) = (&mut self.meta, seqno_of(tag));
        if meta.entries == 0 {
            meta.smallest = Bytes::copy_from_slice(key);
        }
        meta.min_seqno = meta.min_seqno.min(seqno);
        meta.max_seqno = meta.max_seqno.max(seqno);
        meta.entries += 1;
        meta.deletes += u64::from(kind_of(tag) == ValueKind::Delete);
        meta.merges += u64::from(kind_of(tag) == ValueKind::Merge);
        meta.raw_bytes += (key.len() + value.len()) as u64;
        self.block.add(key, tag, value);
        Ok(())
    }

    fn finish_block(&mut self) -> Result<(), Error> {
        let last = self.block.last_key().to_vec();
        self.meta.blocks += 1;
        let mut block = std::mem::take(&mut self.block);
        let mut hashes = std::mem::take(&mut self.block_hashes);
        let raw = block.finish();
        let placed = match &mut self.samples {
            Some(samples) => {
                samples.raw.extend_from_slice(raw);
                let hashes = hashes.clone();
                samples.blocks.push(Sample { bytes: raw.len(), last, separator: None, hashes });
                if samples.raw.len() >= SAMPLE_BYTES { self.train() } else { Ok(()) }
            }
            None => self.place(raw, last, None, &hashes),
        };
        block.clear();
        hashes.clear();
        (self.block, self.block_hashes) = (block, hashes);
        placed
    }

    /// Trains the dictionary, and writes the blocks that waited for it.
    fn train(&mut self) -> Result<(), Error> {
        let Some(samples) = self.samples.take() else { return Ok(()) };
        if let Compression::ZstdTrained(level) = self.compression {
            let sizes: Vec<usize> = samples.blocks.iter().map(|sample| sample.bytes).collect();
            self.trained = Trained::train(&samples.raw, &sizes, level);
        }
        let mut rest = &samples.raw[..];
        for sample in samples.blocks {
            let (raw, behind) = rest.split_at(sample.bytes);
            rest = behind;
            self.place(raw, sample.last, sample.separator, &sample.hashes)?;
        }
        Ok(())
    }

    /// Writes a block that ends with `last` and has keys with these hashes; without a separator the
    /// next key makes it.
    fn place(
        &mut self,
        raw: &[u8],
        last: Vec<u8>,
        separator: Option<Vec<u8>>,
        hashes: &[u64],
    ) -> Result<(), Error> {
        let (out, trained) = (&mut self.out, self.trained.as_mut());
        let handle = put_block(out, self.offset, self.compression, trained, raw);
        self.offset += u64::from(handle.len);
        let known = usize::from(self.part.hashes.last() == hashes.first());
        let fresh = hashes.get(known..).unwrap_or_default();
        self.keys += fresh.len() as u64;
        self.part.hashes.extend_from_slice(fresh);
        match separator {
            Some(separator) => self.enter(&separator, handle)?,
            None => self.pending = Some((last, handle)),
        }
        if self.out.len() >= WRITE_BYTES { self.write_out() } else { Ok(()) }
    }

    /// Enters the block that was placed last into the index, and ends a partition that is large
    /// enough: the next block's keys are not yet in its filter.
    fn enter(&mut self, separator: &[u8], handle: Handle) -> Result<(), Error> {
        index::encode_entry(&mut self.part.index, separator, handle);
        self.part.blocks += 1;
        let filter_bytes = self.part.hashes.len() * usize::from(self.bloom_bits) / 8;
        if self.part.index.len().max(filter_bytes) < self.partition_bytes {
            return Ok(());
        }
        self.end_part(separator);
        if self.out.len() >= WRITE_BYTES { self.write_out() } else { Ok(()) }
    }

    fn end_part(&mut self, separator: &[u8]) {
        let filter = self.put_filter();
        let part = std::mem::take(&mut self.part);
        let index = self.put(self.compression, &part.index);
        encode_part(&mut self.top, separator, index, filter, part.blocks);
        self.meta.partitions += 1;
    }

    /// The filter of the open partition.
    fn put_filter(&mut self) -> Handle {
        let bits = self.filter_bits();
        if bits < LEAST_FILTER_BITS {
            return Handle::default();
        }
        let filter = filter::build(&self.part.hashes, bits);
        self.put(Compression::None, &filter)
    }

    fn write_out(&mut self) -> Result<(), Error> {
        self.hasher.update(&self.out);
        self.file.append(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn put(&mut self, compression: Compression, raw: &[u8]) -> Handle {
        let handle = put_block(&mut self.out, self.offset, compression, None, raw);
        self.offset += u64::from(handle.len);
        handle
    }

    fn filter_bits(&self) -> f64 {
        let average = f64::from(self.bloom_bits);
        match &self.runs {
            Some(runs) if self.bloom_bits > 0 => runs.bits(self.keys, average),
            _ => average,
        }
    }

    /// Ends the index, or its last partition: where the index or its top is, and the filter if that
    /// is whole.
    fn finish_index(&mut self) -> (Handle, Handle) {
        if let Some((last, handle)) = self.pending.take() {
            index::encode_entry(&mut self.part.index, &last, handle);
            self.part.blocks += 1;
        }
        if self.meta.partitions == 0 {
            let filter = self.put_filter();
            let index = std::mem::take(&mut self.part.index);
            return (self.put(self.compression, &index), filter);
        }
        let largest = self.meta.largest.clone();
        self.end_part(&largest);
        let top = std::mem::take(&mut self.top);
        (self.put(self.compression, &top), Handle::default())
    }

    /// Finishes the file and makes its bytes durable (its name is the caller's to make durable).
    /// At least one entry was added.
    pub(crate) fn finish(mut self) -> Result<TableRecord, Error> {
        self.meta.largest = Bytes::copy_from_slice(self.block.last_key());
        self.finish_block()?;
        self.train()?;
        if let Some(trained) = self.trained.take() {
            self.meta.dictionary = self.put(Compression::None, &trained.dictionary);
        }
        let (index, filter) = self.finish_index();
        self.meta.origin = Some(std::mem::take(&mut self.origin));
        let meta = self.put(Compression::None, &self.meta.encode());
        self.offset += super::format::FOOTER as u64;
        let footer = Footer { index, filter, meta, file_len: self.offset };
        self.out.extend_from_slice(&footer.encode());
        self.write_out()?;
        self.file.sync_data()?;
        let digest = *self.hasher.finalize().as_bytes();
        Ok(self.meta.record(self.offset, digest).expect("it has an origin"))
    }
}

fn put_block(
    out: &mut Vec<u8>,
    offset: u64,
    compression: Compression,
    trained: Option<&mut Trained>,
    raw: &[u8],
) -> Handle {
    let start = out.len();
    let code = match trained {
        Some(trained) => trained.compress(raw, out),
        None => compress::compress(compression, raw, out),
    };
    let raw_len = u32::try_from(raw.len()).expect("a block is far below 4 GiB");
    out.push(code);
    out.extend_from_slice(&raw_len.to_le_bytes());
    let checksum = block_checksum(&out[start..], offset);
    out.extend_from_slice(&checksum.to_le_bytes());
    debug_assert!(out.len() - start <= raw.len() + BLOCK_TRAILER);
    let len = u32::try_from(out.len() - start).expect("a block is far below 4 GiB");
    Handle { offset, len }
}
