//! The fixed parts of a table file: header, block trailer, footer, names.
//!
//! Header, 8 bytes: magic (7), version (1). Block trailer, 9 bytes: compression (1), raw length (4),
//! checksum (4). Footer, 56 bytes: handles of index, filter and metadata (offset 8, length 4 each),
//! file length (8), CRC-32C of the 44 bytes before it (4), magic (7), version (1).

use std::path::{Path, PathBuf};

use crate::coding::{Decoder, Malformed, crc32c};

pub(crate) const MAGIC: &[u8; 7] = b"MRDNSST";
pub(crate) const VERSION: u8 = 3;
/// The oldest version that is read.
pub(crate) const OLDEST_VERSION: u8 = 1;
pub(crate) const HEADER: usize = 8;
pub(crate) const BLOCK_TRAILER: usize = 9;
pub(crate) const FOOTER: usize = 56;

pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016x}.sst"))
}

/// The id in a table's file name.
pub(crate) fn id_of(name: &Path) -> Option<u64> {
    let hex = name.to_str()?.strip_suffix(".sst")?;
    if hex.len() == 16 { u64::from_str_radix(hex, 16).ok() } else { None }
}

pub(crate) fn header() -> [u8; HEADER] {
    let mut out = [VERSION; HEADER];
    out[..7].copy_from_slice(MAGIC);
    out
}

/// The version that a header (or the end of a footer) names, if it is one that is read.
pub(crate) fn version_of(header: &[u8]) -> Option<u8> {
    let (version, magic) = header.split_last()?;
    let known = magic == MAGIC && (OLDEST_VERSION..=VERSION).contains(version);
    known.then_some(*version)
}

/// Where a block is: its offset and its length with trailer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// The checksum of a stored block: over payload, compression and raw length, tied to the offset so
/// that a block read from the wrong place is noticed.
pub(crate) fn block_checksum(stored: &[u8], offset: u64) -> u32 {
    let mut fold = [0; 4];
    for (at, byte) in offset.to_le_bytes().into_iter().enumerate() {
        fold[at % 4] ^= byte;
    }
    crc32c(stored) ^ u32::from_le_bytes(fold)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) index: Handle,
    /// Length 0: no filter, or partitions of one.
    pub(crate) filter: Handle,
    pub(crate) meta: Handle,
    pub(crate) file_len: u64,
}

impl Footer {
    pub(crate) fn encode(self) -> [u8; FOOTER] {
        let mut out = Vec::with_capacity(FOOTER);
        for handle in [self.index, self.filter, self.meta] {
            out.extend_from_slice(&handle.offset.to_le_bytes());
            out.extend_from_slice(&handle.len.to_le_bytes());
        }
        out.extend_from_slice(&self.file_len.to_le_bytes());
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&header());
        let mut bytes = [0; FOOTER];
        bytes.copy_from_slice(&out);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let head = decoder.take(44)?;
        if crc32c(head) != decoder.u32()? || version_of(decoder.take(HEADER)?).is_none() {
            return Err(Malformed);
        }
        let mut fields = Decoder::new(head);
        let mut handle = || Ok(Handle { offset: fields.u64()?, len: fields.u32()? });
        let (index, filter, meta) = (handle()?, handle()?, handle()?);
        let file_len = fields.u64()?;
        let inside = |handle: Handle| {
            let end = handle.offset.checked_add(u64::from(handle.len));
            handle.offset >= HEADER as u64 && end.is_some_and(|end| end <= file_len)
        };
        let sound = inside(index) && inside(meta) && (filter.len == 0 || inside(filter));
        if sound { Ok(Self { index, filter, meta, file_len }) } else { Err(Malformed) }
    }
}
