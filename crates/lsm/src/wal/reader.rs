//! Reading a segment back, and the question of every log: is this the end, or damage?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_vfs::{File, Fs, read_exact_at};

use super::format::{
    BatchRecord, CHUNK_HEADER, CHUNK_MAGIC, ChunkHeader, ChunkKind, SEGMENT_HEADER, SegmentHeader,
    decode_batch,
};
use super::segment;
use crate::coding::{Decoder, crc32c};
use crate::error::Error;

/// Bytes looked at in one piece when a segment is searched for a later chunk.
const SEARCH_WINDOW: usize = 1 << 20;

/// Where a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    /// Bytes that hold whole chunks.
    pub(crate) valid: u64,
    /// Bytes behind them that were cut.
    pub(crate) torn: u64,
    /// Whether the last chunk says that the database was closed.
    pub(crate) closed: bool,
}

/// An open segment.
pub(crate) struct SegmentReader {
    path: PathBuf,
    file: Arc<dyn File>,
    id: u64,
    len: u64,
    header: Option<SegmentHeader>,
}

impl SegmentReader {
    pub(crate) fn open(fs: &dyn Fs, dir: &Path, id: u64) -> Result<Self, Error> {
        let path = segment::path(dir, id);
        let file = fs.open(&path)?;
        let len = file.len()?;
        let mut reader = Self { path, file, id, len, header: None };
        reader.header = reader.read_header()?;
        Ok(reader)
    }

    /// `None`: the header never became durable, so nothing in the segment did.
    pub(crate) const fn header(&self) -> Option<SegmentHeader> {
        self.header
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        Ok(self.file.sync_data()?)
    }

    fn read_header(&self) -> Result<Option<SegmentHeader>, Error> {
        if self.len >= SEGMENT_HEADER as u64 {
            let mut bytes = [0; SEGMENT_HEADER];
            read_exact_at(&*self.file, &self.path, 0, &mut bytes)?;
            match SegmentHeader::decode(&bytes) {
                Ok(Some(header)) if header.id == self.id => return Ok(Some(header)),
                Ok(Some(header)) => {
                    let what = format!("it is segment {:x} by its header", header.id);
                    return Err(Error::corruption(&self.path, 0, what));
                }
                Ok(None) => {
                    let what = "a version of the log that this program does not know";
                    return Err(Error::corruption(&self.path, 0, what));
                }
                Err(_malformed) => {}
            }
        }
        // Chunks are written only after the header is durable.
        if self.durable_claim_after(0)?.is_some() {
            return Err(Error::corruption(&self.path, 0, "the segment's header is damaged"));
        }
        Ok(None)
    }

    /// Hands every batch to `apply`. `claimed`: the length that the next segment's header vouches
    /// for; without it the segment is the last one and may end in a torn chunk.
    pub(crate) fn replay(
        &self,
        claimed: Option<u64>,
        apply: &mut dyn FnMut(BatchRecord<'_>, u64) -> Result<(), Error>,
    ) -> Result<SegmentEnd, Error> {
        let mut at = SEGMENT_HEADER as u64;
        let mut closed = false;
        if self.header.is_none() {
            return Ok(SegmentEnd { valid: 0, torn: self.len, closed });
        }
        loop {
            if claimed == Some(at) || (claimed.is_none() && at == self.len) {
                let torn = if claimed.is_some() { 0 } else { self.len - at };
                return Ok(SegmentEnd { valid: at, torn, closed });
            }
            let Some((header, payload)) = self.chunk(at)? else {
                if let Some(claimed) = claimed {
                    let what =
                        format!("a chunk is damaged; the segment was durable up to {claimed}");
                    return Err(Error::corruption(&self.path, at, what));
                }
                if let Some(witness) = self.durable_claim_after(at)? {
                    let what =
                        format!("a chunk is damaged; the chunk at {witness} says it was durable");
                    return Err(Error::corruption(&self.path, at, what));
                }
                return Ok(SegmentEnd { valid: at, torn: self.len - at, closed });
            };
            closed = header.kind == ChunkKind::Close;
            if header.kind == ChunkKind::Batches {
                self.batches(at, &payload, apply)?;
            }
            at += (CHUNK_HEADER + payload.len()) as u64;
        }
    }

    fn batches(
        &self,
        at: u64,
        payload: &[u8],
        apply: &mut dyn FnMut(BatchRecord<'_>, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut decoder = Decoder::new(payload);
        while !decoder.is_empty() {
            let batch = decode_batch(&mut decoder).map_err(|_malformed| {
                Error::corruption(&self.path, at, "a batch does not fill its chunk")
            })?;
            apply(batch, at)?;
        }
        Ok(())
    }

    /// The chunk at `at`, or `None` if there is no whole one.
    fn chunk(&self, at: u64) -> Result<Option<(ChunkHeader, Vec<u8>)>, Error> {
        let Some(header) = self.chunk_header(at)? else { return Ok(None) };
        let start = at + CHUNK_HEADER as u64;
        if u64::from(header.len) > self.len - start {
            return Ok(None);
        }
        let mut payload = vec![0; header.len as usize];
        read_exact_at(&*self.file, &self.path, start, &mut payload)?;
        Ok((crc32c(&payload) == header.payload_crc).then_some((header, payload)))
    }

    fn chunk_header(&self, at: u64) -> Result<Option<ChunkHeader>, Error> {
        if self.len < at || self.len - at < CHUNK_HEADER as u64 {
            return Ok(None);
        }
        let mut bytes = [0; CHUNK_HEADER];
        read_exact_at(&*self.file, &self.path, at, &mut bytes)?;
        Ok(ChunkHeader::decode(&bytes).ok().filter(|header| self.is_ours(header, at)))
    }

    fn is_ours(&self, header: &ChunkHeader, at: u64) -> bool {
        u64::from(header.segment) == self.id & 0xffff_ffff
            && header.offset == at
            && header.durable <= at
    }

    /// Where behind `damaged` a chunk stands that was written when the byte at `damaged` was
    /// durable already.
    fn durable_claim_after(&self, damaged: u64) -> Result<Option<u64>, Error> {
        let mut window = vec![0; SEARCH_WINDOW + CHUNK_HEADER];
        let mut base = damaged;
        while base < self.len {
            let n = self.file.read_at(base, &mut window)?;
            if n < CHUNK_HEADER {
                return Ok(None);
            }
            for start in 0..=(n - CHUNK_HEADER).min(SEARCH_WINDOW - 1) {
                if window[start..start + 4] != CHUNK_MAGIC {
                    continue;
                }
                let at = base + start as u64;
                let header = ChunkHeader::decode(&window[start..start + CHUNK_HEADER]);
                let ours = header.ok().filter(|header| self.is_ours(header, at));
                if ours.is_some_and(|header| header.durable > damaged) {
                    return Ok(Some(at));
                }
            }
            base += SEARCH_WINDOW as u64;
        }
        Ok(None)
    }
}
