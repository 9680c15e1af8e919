//! The end of the log: writes chunks, syncs, begins new segments.
//!
//! INVARIANT: a segment is durable as a whole before the next one exists, and a segment's header
//! and name are durable before the first chunk is written to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_vfs::{File, Fs, IoError};

use super::format::{CHUNK_HEADER, ChunkHeader, ChunkKind, SEGMENT_HEADER, SegmentHeader};
use super::segment;
use crate::coding::crc32c;
use crate::key::Seqno;

/// Least and most room that a segment is given at a time, in bytes; in between, as much as it has.
/// But for one sync in thousands, a sync then writes data only, and a segment that is hardly used
/// costs little of the disk.
const ROOM: [u64; 2] = [64 << 10, 4 << 20];

/// Why something was not written.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The disk is full. The log ends where it ended before; it may be tried again.
    Full(IoError),
    /// Nothing is known about what the disk kept.
    Broken(IoError),
}

/// The log's last segment, open for appending. Exclusive: behind the WAL lock.
pub(crate) struct WalWriter {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    path: PathBuf,
    file: Arc<dyn File>,
    id: u64,
    offset: u64,
    durable: u64,
    /// The last seqno in the file, and the last durable one.
    written: Seqno,
    synced: Seqno,
    /// Up to here the file has room.
    room: u64,
    /// Behind `offset` are bytes of a chunk that found no room: the log goes on in a new segment,
    /// whose header says where this one ends.
    spoilt: bool,
}

impl WalWriter {
    /// Begins segment `id`; everything up to `last` is durable already, and `previous_len` bytes
    /// of the segment before it are part of the log.
    pub(crate) fn begin(
        fs: Arc<dyn Fs>,
        dir: &Path,
        id: u64,
        previous_len: u64,
        last: Seqno,
    ) -> Result<Self, IoError> {
        let (path, file) = create(&*fs, dir, id, previous_len)?;
        let offset = SEGMENT_HEADER as u64;
        let dir = dir.to_path_buf();
        let (written, synced, durable) = (last, last, offset);
        let (room, spoilt) = (offset, false);
        Ok(Self { fs, dir, path, file, id, offset, durable, written, synced, room, spoilt })
    }

    pub(crate) const fn segment(&self) -> u64 {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.offset
    }

    pub(crate) const fn unsynced_bytes(&self) -> u64 {
        self.offset - self.durable
    }

    /// The last seqno in the file.
    pub(crate) const fn written(&self) -> Seqno {
        self.written
    }

    /// The last durable seqno.
    pub(crate) const fn synced(&self) -> Seqno {
        self.synced
    }

    /// Whether nothing more can be appended before [`WalWriter::rotate`].
    pub(crate) const fn is_spoilt(&self) -> bool {
        self.spoilt
    }

    /// Whether anything was written to this segment.
    pub(crate) const fn has_chunks(&self) -> bool {
        self.offset > SEGMENT_HEADER as u64
    }

    /// Writes one chunk. `chunk` begins with room for the header; the payload follows.
    pub(crate) fn append(&mut self, chunk: &mut [u8], last: Seqno) -> Result<(), Refused> {
        self.append_kind(ChunkKind::Batches, chunk)?;
        self.written = last;
        Ok(())
    }

    /// Writes that the database was closed, and makes it durable.
    pub(crate) fn close(&mut self) -> Result<(), Refused> {
        if self.spoilt {
            self.rotate()?;
        }
        self.sync().map_err(Refused::Broken)?;
        self.append_kind(ChunkKind::Close, &mut [0; CHUNK_HEADER])?;
        self.file.reserve(0).map_err(Refused::Broken)?;
        self.sync().map_err(Refused::Broken)
    }

    fn append_kind(&mut self, kind: ChunkKind, chunk: &mut [u8]) -> Result<(), Refused> {
        let (head, payload) = chunk.split_at_mut(CHUNK_HEADER);
        let len = u32::try_from(payload.len()).expect("bounded by the commit buffer");
        let header = ChunkHeader {
            kind,
            len,
            payload_crc: crc32c(payload),
            offset: self.offset,
            durable: self.durable,
            segment: low_half(self.id),
        };
        head.copy_from_slice(&header.encode());
        self.make_room(chunk.len() as u64)?;
        self.file.append(chunk).map_err(|cause| {
            self.spoilt = true;
            if cause.is_disk_full() { Refused::Full(cause) } else { Refused::Broken(cause) }
        })?;
        self.offset += chunk.len() as u64;
        Ok(())
    }

    /// Sees to it that the next `bytes` bytes have room, and more behind them. On a full disk they
    /// go without: whether they fit is theirs to find out.
    fn make_room(&mut self, bytes: u64) -> Result<(), Refused> {
        let end = self.offset + bytes;
        if end <= self.room {
            return Ok(());
        }
        let more = end.clamp(ROOM[0], ROOM[1]);
        self.room = match self.file.reserve(bytes + more) {
            Ok(()) => end + more,
            Err(cause) if cause.is_disk_full() => end,
            Err(cause) => {
                self.spoilt = true;
                return Err(Refused::Broken(cause));
            }
        };
        Ok(())
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self) -> Result<(), IoError> {
        if self.durable < self.offset {
            self.file.sync_data()?;
            self.durable = self.offset;
        }
        self.synced = self.written;
        Ok(())
    }

    /// Ends this segment and begins the next one.
    pub(crate) fn rotate(&mut self) -> Result<(), Refused> {
        if !self.spoilt {
            self.file.reserve(0).map_err(Refused::Broken)?;
        }
        self.sync().map_err(Refused::Broken)?;
        // Until it is whole nothing relies on the new segment: making it may be tried again.
        let made = create(&*self.fs, &self.dir, self.id + 1, self.offset);
        let (path, file) = made.map_err(|cause| {
            if cause.is_disk_full() { Refused::Full(cause) } else { Refused::Broken(cause) }
        })?;
        self.spoilt = false;
        self.path = path;
        self.file = file;
        self.id += 1;
        self.offset = SEGMENT_HEADER as u64;
        self.durable = self.offset;
        self.room = self.offset;
        Ok(())
    }
}

fn low_half(id: u64) -> u32 {
    u32::try_from(id & 0xffff_ffff).expect("masked to 32 bits")
}

fn create(
    fs: &dyn Fs,
    dir: &Path,
    id: u64,
    previous_len: u64,
) -> Result<(PathBuf, Arc<dyn File>), IoError> {
    let path = segment::path(dir, id);
    let file = fs.create(&path)?;
    file.append(&SegmentHeader { id, previous_len }.encode())?;
    file.sync_data()?;
    fs.sync_dir(dir)?;
    Ok((path, file))
}
