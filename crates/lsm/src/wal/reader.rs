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

/// Bytes looked at in one piece for the end of what was written.
const ROOM_WINDOW: usize = 64 << 10;

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

/// What the first bytes of a segment say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Sound(SegmentHeader),
    /// It never became durable, so nothing in the segment did.
    Absent,
    /// It was durable, and is not what was written.
    Damaged(&'static str),
}

/// Bytes of a segment that were durable and cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage<'a> {
    pub(crate) path: &'a Path,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) what: &'a str,
}

/// Where a replay goes.
pub(crate) trait Sink {
    /// The next batch, of the chunk at `offset`.
    fn batch(&mut self, path: &Path, batch: BatchRecord<'_>, offset: u64) -> Result<(), Error>;

    /// Bytes before the next batch are lost. An error ends the replay; otherwise it goes on behind
    /// them.
    fn damaged(&mut self, damage: Damage<'_>) -> Result<(), Error>;
}

/// An open segment.
pub(crate) struct SegmentReader {
    path: PathBuf,
    file: Arc<dyn File>,
    id: u64,
    len: u64,
    /// Behind it the file holds nothing but zeros: room that nothing was written into.
    used: u64,
    head: Head,
}

impl SegmentReader {
    pub(crate) fn open(fs: &dyn Fs, dir: &Path, id: u64) -> Result<Self, Error> {
        let path = segment::path(dir, id);
        let file = fs.open(&path)?;
        let len = file.len()?;
        let mut reader = Self { path, file, id, len, used: 0, head: Head::Absent };
        reader.used = reader.find_used()?;
        reader.head = reader.read_head()?;
        Ok(reader)
    }

    pub(crate) const fn head(&self) -> Head {
        self.head
    }

    /// Bytes of the file without the room at its end.
    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        Ok(self.file.sync_data()?)
    }

    fn read_head(&self) -> Result<Head, Error> {
        if self.len >= SEGMENT_HEADER as u64 {
            let mut bytes = [0; SEGMENT_HEADER];
            read_exact_at(&*self.file, &self.path, 0, &mut bytes)?;
            match SegmentHeader::decode(&bytes) {
                Ok(Some(header)) if header.id == self.id => return Ok(Head::Sound(header)),
                Ok(Some(_other)) => {
                    return Ok(Head::Damaged("it is another segment by its header"));
                }
                Ok(None) => {
                    let what = "a version of the log that this program does not know";
                    return Err(Error::corruption(&self.path, 0, what));
                }
                Err(_malformed) => {}
            }
        }
        // Chunks are written only after the header is durable.
        let written = self.durable_claim_after(0)?.is_some();
        Ok(if written { Head::Damaged("the segment's header is damaged") } else { Head::Absent })
    }

    /// Hands everything to `sink`. `claimed`: the length that the next segment's header vouches
    /// for; without it the segment is the last one (or the next one's header is lost) and may end
    /// in a torn chunk.
    pub(crate) fn replay(
        &self,
        claimed: Option<u64>,
        sink: &mut dyn Sink,
    ) -> Result<SegmentEnd, Error> {
        let mut at = SEGMENT_HEADER as u64;
        let mut closed = false;
        if let Head::Damaged(what) = self.head {
            sink.damaged(Damage { path: &self.path, from: 0, to: at.min(self.used), what })?;
        } else if self.head == Head::Absent {
            return Ok(SegmentEnd { valid: 0, torn: self.used, closed });
        }
        loop {
            if claimed == Some(at) || (claimed.is_none() && at >= self.used) {
                return Ok(SegmentEnd { valid: at, torn: 0, closed });
            }
            if let Some(end) = claimed.filter(|claimed| *claimed < at) {
                // A damaged header was told as a whole.
                if at > SEGMENT_HEADER as u64 || matches!(self.head, Head::Sound(_)) {
                    let what =
                        "the next segment says that this one ended here, which no chunk does";
                    sink.damaged(Damage { path: &self.path, from: end, to: at, what })?;
                }
                return Ok(SegmentEnd { valid: at, torn: 0, closed });
            }
            let Some((header, payload)) = self.chunk(at)? else {
                let Some(next) = self.behind_damage(at, claimed, sink)? else {
                    return Ok(SegmentEnd { valid: at, torn: self.used - at, closed });
                };
                at = next;
                continue;
            };
            closed = header.kind == ChunkKind::Close;
            if header.kind == ChunkKind::Batches {
                self.batches(at, &payload, sink)?;
            }
            at += (CHUNK_HEADER + payload.len()) as u64;
        }
    }

    /// There is no whole chunk at `at`. If it was durable: reports the damage, and returns where
    /// the replay goes on. Otherwise the tail is torn.
    fn behind_damage(
        &self,
        at: u64,
        claimed: Option<u64>,
        sink: &mut dyn Sink,
    ) -> Result<Option<u64>, Error> {
        let what = if let Some(claimed) = claimed {
            format!("a chunk is damaged; the segment was durable up to {claimed}")
        } else if let Some(witness) = self.durable_claim_after(at)? {
            format!("a chunk is damaged; the chunk at {witness} says it was durable")
        } else {
            return Ok(None);
        };
        let next = self.next_chunk(at)?;
        let limit = claimed.unwrap_or(self.used);
        let to = next.filter(|next| *next < limit).unwrap_or(limit);
        sink.damaged(Damage { path: &self.path, from: at, to, what: &what })?;
        Ok(Some(to))
    }

    fn batches(&self, at: u64, payload: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
        let mut decoder = Decoder::new(payload);
        while !decoder.is_empty() {
            let batch = decode_batch(&mut decoder).map_err(|_malformed| {
                Error::corruption(&self.path, at, "a batch does not fill its chunk")
            })?;
            sink.batch(&self.path, batch, at)?;
        }
        Ok(())
    }

    /// The chunk at `at`, or `None` if there is no whole one.
    pub(crate) fn chunk(&self, at: u64) -> Result<Option<(ChunkHeader, Vec<u8>)>, Error> {
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

    /// Where the first whole chunk at or behind `from` begins.
    pub(crate) fn next_chunk(&self, from: u64) -> Result<Option<u64>, Error> {
        self.search(from, |reader, place, _header| Ok(reader.chunk(place)?.is_some()))
    }

    /// Where behind `damaged` a chunk stands that was written when the byte at `damaged` was
    /// durable already.
    fn durable_claim_after(&self, damaged: u64) -> Result<Option<u64>, Error> {
        self.search(damaged, |_reader, _place, header| Ok(header.durable > damaged))
    }

    /// The first place from `from` on with a header of ours that is `wanted`.
    fn search(
        &self,
        from: u64,
        wanted: impl Fn(&Self, u64, &ChunkHeader) -> Result<bool, Error>,
    ) -> Result<Option<u64>, Error> {
        let there = usize::try_from(self.len.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut window = vec![0; there.min(SEARCH_WINDOW + CHUNK_HEADER)];
        let mut base = from;
        while base < self.len {
            let n = self.fill(base, &mut window)?;
            if n < CHUNK_HEADER {
                return Ok(None);
            }
            for start in 0..=(n - CHUNK_HEADER).min(SEARCH_WINDOW - 1) {
                if window[start..start + 4] != CHUNK_MAGIC {
                    continue;
                }
                let at = base + start as u64;
                let header = ChunkHeader::decode(&window[start..start + CHUNK_HEADER]);
                if let Some(header) = header.ok().filter(|header| self.is_ours(header, at))
                    && wanted(self, at, &header)?
                {
                    return Ok(Some(at));
                }
            }
            base += SEARCH_WINDOW as u64;
        }
        Ok(None)
    }

    fn find_used(&self) -> Result<u64, Error> {
        let mut window = vec![0; ROOM_WINDOW];
        let mut end = self.len;
        while end > 0 {
            let base = end.saturating_sub(ROOM_WINDOW as u64);
            let n = self.fill(base, &mut window)?.min(usize::try_from(end - base).unwrap_or(0));
            if let Some(last) = window[..n].iter().rposition(|byte| *byte != 0) {
                return Ok(base + last as u64 + 1);
            }
            end = base;
        }
        Ok(0)
    }

    /// Reads as much as there is; a short read is not the end of the file.
    fn fill(&self, base: u64, window: &mut [u8]) -> Result<usize, Error> {
        let there = usize::try_from(self.len - base).unwrap_or(usize::MAX);
        let n = window.len().min(there);
        read_exact_at(&*self.file, &self.path, base, &mut window[..n])?;
        Ok(n)
    }
}
