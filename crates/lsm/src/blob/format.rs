//! The fixed parts of a blob file: header, record header, names; and references.
//!
//! Header, 8 bytes: magic (7), version (1). Record: checksum (4), compression (1), key length (4),
//! raw length (4), stored length (4), key, stored value.

use std::path::{Path, PathBuf};

use crate::coding::{Decoder, Malformed, put_varint};
use crate::options::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::table::format::block_checksum;

pub(crate) const MAGIC: &[u8; 7] = b"MRDNBLB";
pub(crate) const VERSION: u8 = 1;
pub(crate) const HEADER: usize = 8;
pub(crate) const RECORD_HEADER: usize = 17;

pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016x}.blob"))
}

/// The id in a blob file's name.
pub(crate) fn id_of(name: &Path) -> Option<u64> {
    let hex = name.to_str()?.strip_suffix(".blob")?;
    if hex.len() == 16 { u64::from_str_radix(hex, 16).ok() } else { None }
}

pub(crate) fn header() -> [u8; HEADER] {
    let mut out = [VERSION; HEADER];
    out[..7].copy_from_slice(MAGIC);
    out
}

/// What the manifest knows of a blob file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobRecord {
    pub(crate) id: u64,
    pub(crate) bytes: u64,
    /// BLAKE3 of the whole file.
    pub(crate) digest: [u8; 32],
}

impl BlobRecord {
    /// Bytes of its records.
    pub(crate) const fn payload(&self) -> u64 {
        self.bytes.saturating_sub(HEADER as u64)
    }
}

/// How much of a blob file a table refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobShare {
    pub(crate) file: u64,
    /// Of the records, with their headers.
    pub(crate) bytes: u64,
}

/// Counts a record in the shares, which are sorted by file.
pub(crate) fn count(shares: &mut Vec<BlobShare>, file: u64, bytes: u64) {
    match shares.binary_search_by_key(&file, |share| share.file) {
        Ok(at) => shares[at].bytes += bytes,
        Err(at) => shares.insert(at, BlobShare { file, bytes }),
    }
}

pub(crate) fn put_shares(out: &mut Vec<u8>, shares: &[BlobShare]) {
    put_varint(out, shares.len() as u64);
    for share in shares {
        put_varint(out, share.file);
        put_varint(out, share.bytes);
    }
}

/// Sorted, each file once.
pub(crate) fn decode_shares(d: &mut Decoder<'_>) -> Result<Vec<BlobShare>, Malformed> {
    let count = d.varint_len()?;
    let mut shares: Vec<BlobShare> = Vec::new();
    for _ in 0..count {
        let share = BlobShare { file: d.varint()?, bytes: d.varint()? };
        if shares.last().is_some_and(|last| last.file >= share.file) {
            return Err(Malformed);
        }
        shares.push(share);
    }
    Ok(shares)
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) file: u64,
    pub(crate) offset: u64,
    /// Bytes of the record.
    pub(crate) len: u32,
    /// Bytes of the value.
    pub(crate) value_len: u32,
}

impl Reference {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        for number in [self.file, self.offset, u64::from(self.len), u64::from(self.value_len)] {
            put_varint(&mut out, number);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let d = &mut Decoder::new(bytes);
        let reference = Self {
            file: d.varint()?,
            offset: d.varint()?,
            len: d.varint_u32()?,
            value_len: d.varint_u32()?,
        };
        if d.is_empty() { Ok(reference) } else { Err(Malformed) }
    }
}

/// The numbers before a record's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) checksum: u32,
    pub(crate) compression: u8,
    pub(crate) key_len: u32,
    pub(crate) value_len: u32,
    pub(crate) stored_len: u32,
}

impl RecordHeader {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let d = &mut Decoder::new(bytes);
        let header = Self {
            checksum: d.u32()?,
            compression: d.u8()?,
            key_len: d.u32()?,
            value_len: d.u32()?,
            stored_len: d.u32()?,
        };
        let sound = header.key_len as usize <= MAX_KEY_BYTES
            && header.value_len as usize <= MAX_VALUE_BYTES
            && header.stored_len <= header.value_len;
        if sound { Ok(header) } else { Err(Malformed) }
    }

    /// Bytes of the whole record.
    pub(crate) const fn len(&self) -> u64 {
        RECORD_HEADER as u64 + self.key_len as u64 + self.stored_len as u64
    }
}

/// Writes the header of a record at `offset` of the file: the room for it, the key and the stored
/// value are in `out`.
pub(crate) fn seal(out: &mut [u8], offset: u64, compression: u8, key_len: u32, value_len: u32) {
    let stored = out.len() - RECORD_HEADER - key_len as usize;
    let stored = u32::try_from(stored).expect("a value is far below 4 GiB");
    out[4] = compression;
    out[5..9].copy_from_slice(&key_len.to_le_bytes());
    out[9..13].copy_from_slice(&value_len.to_le_bytes());
    out[13..17].copy_from_slice(&stored.to_le_bytes());
    let checksum = block_checksum(&out[4..], offset);
    out[..4].copy_from_slice(&checksum.to_le_bytes());
}
