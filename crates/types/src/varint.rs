//! Unsigned LEB128 numbers and length-prefixed bytes, as every stored and sent format uses them.
//!
//! Encodings are canonical: a number has one spelling, and a longer one is refused, so that equal
//! states are equal bytes.

use bytes::Bytes;

/// Bytes that are no such encoding. Says where in the buffer, so that a corrupt file can be named
/// with its offset by whoever knows the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The buffer ended within a field.
    #[error("cut short at byte {at}: {what}")]
    Truncated {
        /// Offset of the field.
        at: usize,
        /// The field.
        what: &'static str,
    },
    /// A field has a value that no encoder writes.
    #[error("bad {what} at byte {at}")]
    Invalid {
        /// Offset of the field.
        at: usize,
        /// The field.
        what: &'static str,
    },
    /// Bytes are left over behind the last field.
    #[error("{left} bytes too many at byte {at}")]
    Trailing {
        /// Offset of the first byte too many.
        at: usize,
        /// How many there are.
        left: usize,
    },
    /// A version that this build does not read.
    #[error("{what} has version {version}, which this version of Meridian does not read")]
    UnknownVersion {
        /// The format.
        what: &'static str,
        /// The version found.
        version: u8,
    },
}

/// Appends a number, 7 bits a byte, lowest first.
#[expect(clippy::cast_possible_truncation, reason = "the low 7 bits are what is meant")]
pub fn put_u64(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a byte string behind its length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_u64`] writes for `n`.
#[must_use]
pub fn len_u64(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads fields one after the other and never beyond the end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    buf: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `buf`.
    #[must_use]
    pub fn new(buf: &'a [u8]) -> Self {
        Self { buf, at: 0 }
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.at
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let byte = *self.buf.get(self.at).ok_or(DecodeError::Truncated { at: self.at, what })?;
        self.at += 1;
        Ok(byte)
    }

    /// A number as [`put_u64`] wrote it.
    ///
    /// # Errors
    /// The end of the buffer, a number beyond 64 bits, or one that is not in its shortest spelling.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let start = self.at;
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    break;
                }
                return Ok(n);
            }
        }
        Err(DecodeError::Invalid { at: start, what })
    }

    /// A number that fits 32 bits.
    ///
    /// # Errors
    /// As [`Self::u64`], and a number beyond 32 bits.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let at = self.at;
        u32::try_from(self.u64(what)?).ok().ok_or(DecodeError::Invalid { at, what })
    }

    fn size(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        let at = self.at;
        usize::try_from(self.u64(what)?).ok().ok_or(DecodeError::Invalid { at, what })
    }

    /// A fixed number of bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left.
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        if self.remaining() < n {
            return Err(DecodeError::Truncated { at: self.at, what });
        }
        let slice = &self.buf[self.at..self.at + n];
        self.at += n;
        Ok(slice)
    }

    /// Eight bytes, most significant first.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left.
    pub fn fixed_u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut n = [0; 8];
        n.copy_from_slice(self.take(8, what)?);
        Ok(u64::from_be_bytes(n))
    }

    /// A byte string behind its length.
    ///
    /// # Errors
    /// A length beyond the end of the buffer.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let n = self.size(what)?;
        self.take(n, what)
    }

    /// A byte string behind its length, as a view into `whole`, which must be the buffer that this
    /// reader reads.
    ///
    /// # Errors
    /// A length beyond the end of the buffer.
    pub fn shared_bytes(
        &mut self,
        whole: &Bytes,
        what: &'static str,
    ) -> Result<Bytes, DecodeError> {
        let slice = self.bytes(what)?;
        Ok(whole.slice(self.at - slice.len()..self.at))
    }

    /// A count of items that take at least `min_bytes` each, so that a damaged count cannot make
    /// the reader allocate more than the buffer could hold.
    ///
    /// # Errors
    /// As [`Self::u64`], and a count that the rest of the buffer cannot hold.
    pub fn count(&mut self, min_bytes: usize, what: &'static str) -> Result<usize, DecodeError> {
        let at = self.at;
        let n = self.size(what)?;
        if n.checked_mul(min_bytes.max(1)).is_none_or(|needed| needed > self.remaining()) {
            return Err(DecodeError::Invalid { at, what });
        }
        Ok(n)
    }

    /// An error that names the field at the current position as invalid.
    #[must_use]
    pub fn invalid(&self, what: &'static str) -> DecodeError {
        DecodeError::Invalid { at: self.at, what }
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] when something is.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { at: self.at, left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip_in_their_length(n in any::<u64>(), shift in 0u32..64) {
            let n = n >> shift;
            let mut out = Vec::new();
            put_u64(&mut out, n);
            prop_assert_eq!(out.len(), len_u64(n));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.u64("n"), Ok(n));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn whatever_reads_as_a_number_is_its_only_spelling(
            bytes in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut reader = Reader::new(&bytes);
            if let Ok(n) = reader.u64("n") {
                let mut out = Vec::new();
                put_u64(&mut out, n);
                prop_assert_eq!(&bytes[..reader.position()], &out[..]);
            }
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_errors() {
        let mut out = Vec::new();
        put_u64(&mut out, u64::MAX);
        assert!(matches!(Reader::new(&out).bytes("b"), Err(DecodeError::Truncated { .. })));
        assert!(matches!(Reader::new(&out).count(1, "n"), Err(DecodeError::Invalid { .. })));
        assert!(matches!(Reader::new(&[1, 2]).finish(), Err(DecodeError::Trailing { .. })));
    }
}
