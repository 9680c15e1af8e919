//! Messages in fewer bytes, for links between datacenters.

use bytes::Bytes;
use prost::Message;

use super::WireFault;
use crate::v1;
use crate::v1::peer_message::Body;

/// Messages below this size are sent as they are: there is little to save.
const WORTH_BYTES: usize = 4 << 10;

/// The largest message that is squeezed, and the most that a squeezed one may claim: the memory
/// that a reader gives for it. Pages are far smaller, unless one row is as large.
const MOST_BYTES: usize = 16 << 20;

/// zstd's quickest: pages come while a link heals, when requests need the processor.
const LEVEL: i32 = 1;

/// A message's bytes in fewer, if that is worth it.
pub(super) fn squeeze(plain: Bytes) -> Bytes {
    if !(WORTH_BYTES..=MOST_BYTES).contains(&plain.len()) {
        return plain;
    }
    let Ok(zstd) = zstd::bulk::compress(&plain, LEVEL) else { return plain };
    let squeezed = v1::Squeezed { bytes: plain.len() as u64, zstd: zstd.into() };
    let message = v1::PeerMessage { body: Some(Body::Squeezed(squeezed)), ..Default::default() };
    let small = message.encode_to_vec();
    if small.len() < plain.len() { small.into() } else { plain }
}

/// The message that was squeezed.
pub(super) fn unsqueeze(squeezed: &v1::Squeezed) -> Result<Bytes, WireFault> {
    let fault = |why: String| WireFault::Invalid { field: "squeezed message", why };
    let bytes = usize::try_from(squeezed.bytes).unwrap_or(usize::MAX);
    if bytes > MOST_BYTES {
        return Err(fault(format!("it claims {bytes} bytes; at most {MOST_BYTES} are read")));
    }
    let plain = zstd::bulk::decompress(&squeezed.zstd, bytes);
    let plain = plain.map_err(|error| fault(error.to_string()))?;
    if plain.len() == bytes {
        Ok(plain.into())
    } else {
        Err(fault(format!("it has {} bytes and claims {bytes}", plain.len())))
    }
}
