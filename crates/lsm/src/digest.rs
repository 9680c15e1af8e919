//! BLAKE3 of whole files, read in pieces.

use meridian_vfs::File;

use crate::error::Error;

/// Bytes read at once: large enough for disk and hash to be efficient.
const PIECE_BYTES: usize = 1 << 20;

/// The digest of a file.
pub(crate) fn digest(file: &dyn File) -> Result<[u8; 32], Error> {
    let (digest, _bytes) = digest_each(file, &mut |_piece| Ok(()))?;
    Ok(*digest.as_bytes())
}

/// The digest of a file and its bytes, of which `each` gets every piece, in order.
pub(crate) fn digest_each(
    file: &dyn File,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(blake3::Hash, u64), Error> {
    let mut hasher = blake3::Hasher::new();
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    let mut buffer = vec![0; len.min(PIECE_BYTES)];
    let mut at = 0;
    loop {
        let n = file.read_at(at, &mut buffer)?;
        if n == 0 {
            return Ok((hasher.finalize(), at));
        }
        hasher.update(&buffer[..n]);
        each(&buffer[..n])?;
        at += n as u64;
    }
}
