//! Compressing and decompressing one block. The stored codes: do not renumber.

use crate::coding::Malformed;
use crate::options::{Compression, MAX_KEY_BYTES, MAX_VALUE_BYTES};

const NONE: u8 = 0;
const LZ4: u8 = 1;
const SNAPPY: u8 = 2;
const ZSTD: u8 = 3;

/// No block that a writer made is larger: an index of a terabyte, or one largest entry.
const MAX_RAW: usize = 4 * (MAX_VALUE_BYTES + MAX_KEY_BYTES);

/// Appends `raw`, compressed if that makes it smaller by an eighth; returns the code.
pub(crate) fn compress(compression: Compression, raw: &[u8], out: &mut Vec<u8>) -> u8 {
    let start = out.len();
    let code = match compression {
        Compression::None => None,
        Compression::Lz4 => {
            out.resize(start + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
            let done = lz4_flex::block::compress_into(raw, &mut out[start..]);
            done.ok().map(|len| (LZ4, len))
        }
        Compression::Snappy => {
            out.resize(start + snap::raw::max_compress_len(raw.len()), 0);
            let done = snap::raw::Encoder::new().compress(raw, &mut out[start..]);
            done.ok().map(|len| (SNAPPY, len))
        }
        Compression::Zstd(level) => {
            out.resize(start + zstd::zstd_safe::compress_bound(raw.len()), 0);
            let done = zstd::bulk::compress_to_buffer(raw, &mut out[start..], level);
            done.ok().map(|len| (ZSTD, len))
        }
    };
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
    if raw_len > MAX_RAW {
        return Err(Malformed);
    }
    if code == NONE {
        return if stored.len() == raw_len { Ok(None) } else { Err(Malformed) };
    }
    let mut raw = vec![0; raw_len];
    let len = match code {
        LZ4 => lz4_flex::block::decompress_into(stored, &mut raw).ok(),
        SNAPPY => snap::raw::Decoder::new().decompress(stored, &mut raw).ok(),
        ZSTD => zstd::bulk::decompress_to_buffer(stored, &mut raw).ok(),
        _ => None,
    };
    if len == Some(raw_len) { Ok(Some(raw)) } else { Err(Malformed) }
}
