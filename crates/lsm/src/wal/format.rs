//! The bytes of the log; `docs/formats/lsm-wal.md` describes them. All integers little endian.
//!
//! Segment header, 32 bytes: magic (7), version (1), segment id (8), length of the segment before
//! (8), zeros (4), CRC-32C of the 28 bytes before it (4).
//!
//! Chunk header, 40 bytes: magic (4), version (1), kind (1), zeros (2), payload length (4), payload
//! CRC-32C (4), own offset (8), durable offset (8), low half of the segment id (4), CRC-32C of the
//! 36 bytes before it (4).
//!
//! Payload of a chunk of batches: for each, first seqno (8), operations (4), bytes (4), bytes.

use crate::coding::{Decoder, Malformed, crc32c};
use crate::key::Seqno;

const SEGMENT_MAGIC: &[u8; 7] = b"MRDNWAL";
pub(crate) const CHUNK_MAGIC: [u8; 4] = *b"\xa7wc\x1e";
const VERSION: u8 = 1;
pub(crate) const SEGMENT_HEADER: usize = 32;
pub(crate) const CHUNK_HEADER: usize = 40;
/// Bytes before the operations of each batch.
pub(crate) const BATCH_HEADER: usize = 16;

/// What a chunk holds. Stored: do not renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkKind {
    Batches = 1,
    /// The database was closed: everything before it is durable.
    Close = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) id: u64,
    /// Valid bytes of segment `id - 1`, all durable when this one was created; 0 if nothing of it
    /// is needed.
    pub(crate) previous_len: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        out[..7].copy_from_slice(SEGMENT_MAGIC);
        out[7] = VERSION;
        out[8..16].copy_from_slice(&self.id.to_le_bytes());
        out[16..24].copy_from_slice(&self.previous_len.to_le_bytes());
        let crc = crc32c(&out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `Ok(None)`: another version of the format wrote it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let head = decoder.take(28)?;
        if crc32c(head) != decoder.u32()? || head[..7] != *SEGMENT_MAGIC {
            return Err(Malformed);
        }
        if head[7] != VERSION {
            return Ok(None);
        }
        let mut fields = Decoder::new(&head[8..]);
        Ok(Some(Self { id: fields.u64()?, previous_len: fields.u64()? }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    pub(crate) kind: ChunkKind,
    pub(crate) len: u32,
    pub(crate) payload_crc: u32,
    /// Where in the segment this chunk begins.
    pub(crate) offset: u64,
    /// Everything of the segment before this offset was durable when the chunk was written.
    pub(crate) durable: u64,
    /// Low half of the segment's id: a chunk of a recycled or copied file is not taken for ours.
    pub(crate) segment: u32,
}

impl ChunkHeader {
    pub(crate) fn encode(self) -> [u8; CHUNK_HEADER] {
        let mut out = [0; CHUNK_HEADER];
        out[..4].copy_from_slice(&CHUNK_MAGIC);
        out[4] = VERSION;
        out[5] = self.kind as u8;
        out[8..12].copy_from_slice(&self.len.to_le_bytes());
        out[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[16..24].copy_from_slice(&self.offset.to_le_bytes());
        out[24..32].copy_from_slice(&self.durable.to_le_bytes());
        out[32..36].copy_from_slice(&self.segment.to_le_bytes());
        let crc = crc32c(&out[..36]);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let head = decoder.take(36)?;
        if crc32c(head) != decoder.u32()? || head[..4] != CHUNK_MAGIC || head[4] != VERSION {
            return Err(Malformed);
        }
        let kind = match head[5] {
            1 => ChunkKind::Batches,
            2 => ChunkKind::Close,
            _ => return Err(Malformed),
        };
        let mut fields = Decoder::new(&head[8..]);
        Ok(Self {
            kind,
            len: fields.u32()?,
            payload_crc: fields.u32()?,
            offset: fields.u64()?,
            durable: fields.u64()?,
            segment: fields.u32()?,
        })
    }
}

/// One batch of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchRecord<'a> {
    pub(crate) first: Seqno,
    pub(crate) count: u32,
    pub(crate) ops: &'a [u8],
}

pub(crate) fn put_batch(out: &mut Vec<u8>, first: Seqno, count: u32, ops: &[u8]) {
    let len = u32::try_from(ops.len()).expect("bounded by MAX_BATCH_BYTES");
    let mut head = [0; BATCH_HEADER];
    head[..8].copy_from_slice(&first.to_le_bytes());
    head[8..12].copy_from_slice(&count.to_le_bytes());
    head[12..].copy_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(ops);
}

pub(crate) fn decode_batch<'a>(decoder: &mut Decoder<'a>) -> Result<BatchRecord<'a>, Malformed> {
    let first = decoder.u64()?;
    let count = decoder.u32()?;
    let len = usize::try_from(decoder.u32()?).map_err(|_cause| Malformed)?;
    Ok(BatchRecord { first, count, ops: decoder.take(len)? })
}
