//! Compressing and decompressing one block. The stored codes: do not renumber.

use std::cell::RefCell;

use zstd::zstd_safe::{DCtx, DDict};

use crate::coding::Malformed;
use crate::options::{Compression, MAX_KEY_BYTES, MAX_VALUE_BYTES};

const NONE: u8 = 0;
const LZ4: u8 = 1;
const SNAPPY: u8 = 2;
const ZSTD: u8 = 3;
/// With the table's dictionary.
const ZSTD_TRAINED: u8 = 4;

/// Bytes of blocks that a dictionary is trained from, at most: a 64th of a table.
pub(crate) const SAMPLE_BYTES: usize = 1 << 20;
/// How much smaller than its samples a dictionary is: less does not pay in a small table, more is
/// dear in memory. zstd's advice is a hundredth.
const SAMPLES_FOR_EACH: usize = 64;
/// Bytes of the smallest dictionary that zstd takes.
const LEAST_DICTIONARY: usize = 256;
/// Bytes of blocks from which on a dictionary is trained.
pub(crate) const LEAST_SAMPLES: usize = SAMPLES_FOR_EACH * LEAST_DICTIONARY;
/// Largest dictionary that is read.
const MOST_DICTIONARY: usize = SAMPLE_BYTES;

thread_local! {
    /// Making one costs more than decompressing a block with it.
    static DECODER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// A dictionary to compress with, and what is stored of it.
pub(crate) struct Trained {
    pub(crate) dictionary: Vec<u8>,
    encoder: zstd::bulk::Compressor<'static>,
}

impl Trained {
    /// Trains a dictionary from blocks that lie behind each other in `samples`. `None`: there is too
    /// little, or nothing in common.
    pub(crate) fn train(samples: &[u8], sizes: &[usize], level: i32) -> Option<Self> {
        if samples.len() < LEAST_SAMPLES {
            return None;
        }
        let most = samples.len() / SAMPLES_FOR_EACH;
        let dictionary = zstd::dict::from_continuous(samples, sizes, most).ok()?;
        let mut encoder = zstd::bulk::Compressor::with_dictionary(level, &dictionary).ok()?;
        // The table says which one it is.
        encoder.include_dictid(false).ok()?;
        Some(Self { dictionary, encoder })
    }

    /// As [`compress`].
    pub(crate) fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> u8 {
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(raw.len()), 0);
        let done = self.encoder.compress_to_buffer(raw, &mut out[start..]);
        settle(raw, out, start, done.ok().map(|len| (ZSTD_TRAINED, len)))
    }
}

/// A dictionary to decompress with.
pub(crate) struct Dictionary {
    decoder: DDict<'static>,
    bytes: usize,
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dictionary").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Dictionary {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if !(LEAST_DICTIONARY..=MOST_DICTIONARY).contains(&bytes.len()) {
            return Err(Malformed);
        }
        let decoder = DDict::try_create(bytes).ok_or(Malformed)?;
        Ok(Self { decoder, bytes: bytes.len() })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.decoder.sizeof()
    }
}

/// No block that a writer made is larger: an index of a terabyte, or one largest entry.
const MAX_RAW: usize = 4 * (MAX_VALUE_BYTES + MAX_KEY_BYTES);

/// Appends `raw`, compressed if that makes it smaller by an eighth; returns the code.
pub(crate) fn compress(compression: Compression, raw: &[u8], out: &mut Vec<u8>) -> u8 {
    let start = out.len();
    let code = match compression {
        Compression::None => None,
        Compression::Lz4 => {
            // A block that is too large for LZ4 has no bound, and stays as it is.
            let most = lz4::block::compress_bound(raw.len()).unwrap_or(0);
            out.resize(start + most, 0);
            let done = lz4::block::compress_to_buffer(raw, None, false, &mut out[start..]);
            done.ok().map(|len| (LZ4, len))
        }
        Compression::Snappy => {
            out.resize(start + snap::raw::max_compress_len(raw.len()), 0);
            let done = snap::raw::Encoder::new().compress(raw, &mut out[start..]);
            done.ok().map(|len| (SNAPPY, len))
        }
        Compression::Zstd(level) | Compression::ZstdTrained(level) => {
            out.resize(start + zstd::zstd_safe::compress_bound(raw.len()), 0);
            let done = zstd::bulk::compress_to_buffer(raw, &mut out[start..], level);
            done.ok().map(|len| (ZSTD, len))
        }
    };
    settle(raw, out, start, code)
}

/// Keeps what is behind `start` if it was worth it, and `raw` as it is if not.
fn settle(raw: &[u8], out: &mut Vec<u8>, start: usize, code: Option<(u8, usize)>) -> u8 {
    if let Some((code, len)) = code
        && len < raw.len() - raw.len() / 8
    {
        out.truncate(start + len);
        return code;
    }
    out.truncate(start);
    out.extend_from_slice(raw);
    NONE
}

/// The raw bytes of a stored block; `None` when it is stored as it is.
pub(crate) fn decompress(
    code: u8,
    stored: &[u8],
    raw_len: usize,
) -> Result<Option<Vec<u8>>, Malformed> {
    decompress_with(None, code, stored, raw_len)
}

/// As [`decompress`], in a table with this dictionary.
pub(crate) fn decompress_with(
    dictionary: Option<&Dictionary>,
    code: u8,
    stored: &[u8],
    raw_len: usize,
) -> Result<Option<Vec<u8>>, Malformed> {
    if raw_len > MAX_RAW {
        return Err(Malformed);
    }
    if code == NONE {
        return if stored.len() == raw_len { Ok(None) } else { Err(Malformed) };
    }
    let mut raw = vec![0; raw_len];
    let len = match code {
        LZ4 => i32::try_from(raw_len)
            .ok()
            .and_then(|len| lz4::block::decompress_to_buffer(stored, Some(len), &mut raw).ok()),
        SNAPPY => snap::raw::Decoder::new().decompress(stored, &mut raw).ok(),
        ZSTD => DECODER.with_borrow_mut(|decoder| decoder.decompress(&mut raw[..], stored).ok()),
        ZSTD_TRAINED => dictionary.and_then(|dictionary| {
            DECODER.with_borrow_mut(|decoder| {
                decoder.decompress_using_ddict(&mut raw[..], stored, &dictionary.decoder).ok()
            })
        }),
        _ => None,
    };
    if len == Some(raw_len) { Ok(Some(raw)) } else { Err(Malformed) }
}
