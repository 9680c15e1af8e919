//! How a row's place becomes a key of a table's tree.
//!
//! Eight bytes: the top 64 bits of the key's token, most significant first; then the key, each 0x00
//! in it followed by 0xff; then 0x00 0x01. What follows the terminator will be a subkey, so that
//! the rows of one key stand together, the head row first. The order of these bytes is that of
//! (token, key, subkey), so a vnode is one contiguous range. `docs/formats/store.md`.

use bytes::Bytes;
use meridian_crdt::DecodeError;
use meridian_types::{RingPosition, Token};
use smallvec::SmallVec;

/// A stored key; keys of up to about 50 bytes stay on the stack.
pub(crate) type StoredKey = SmallVec<[u8; 64]>;

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const TERMINATOR: [u8; 2] = [ESCAPE, 0x01];
const TOKEN_BYTES: usize = 8;

/// The stored form of a place on the ring.
pub(crate) fn encode(token: u64, key: &[u8]) -> StoredKey {
    let mut out = StoredKey::with_capacity(TOKEN_BYTES + key.len() + TERMINATOR.len());
    out.extend_from_slice(&token.to_be_bytes());
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|byte| *byte == ESCAPE) {
        out.extend_from_slice(&rest[..=zero]);
        out.push(ESCAPED_ZERO);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&TERMINATOR);
    out
}

/// The place that a stored key stands for. Without a 0x00 in it, the key is a view into `stored`.
pub(crate) fn decode(stored: &Bytes) -> Result<RingPosition, DecodeError> {
    let Some((token, escaped)) = stored.split_first_chunk::<TOKEN_BYTES>() else {
        return Err(DecodeError::Truncated { at: 0, what: "token of a stored key" });
    };
    let token = u64::from_be_bytes(*token);
    let invalid = |at| DecodeError::Invalid { at: TOKEN_BYTES + at, what: "stored key" };
    let Some(body) = escaped.strip_suffix(&TERMINATOR) else {
        return Err(invalid(escaped.len()));
    };
    if !body.contains(&ESCAPE) {
        let key = stored.slice(TOKEN_BYTES..TOKEN_BYTES + body.len());
        return Ok(RingPosition { token, key });
    }
    let mut key = Vec::with_capacity(body.len());
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        key.push(byte);
        at += 1;
        if byte == ESCAPE {
            if body.get(at) != Some(&ESCAPED_ZERO) {
                return Err(invalid(at));
            }
            at += 1;
        }
    }
    Ok(RingPosition { token, key: key.into() })
}

/// The lowest token that a stored key can have.
pub(crate) fn token_of(stored: &[u8]) -> Option<Token> {
    let (token, _) = stored.split_first_chunk::<TOKEN_BYTES>()?;
    Some(token_from_high(u64::from_be_bytes(*token)))
}

/// The lowest token with these top 64 bits.
pub(crate) fn token_from_high(high: u64) -> Token {
    Token(u128::from(high) << 64)
}

/// The first stored key that a token can have.
pub(crate) fn first_of(token: u64) -> Bytes {
    Bytes::copy_from_slice(&token.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        assert_eq!(
            encode(0x0102_0304_0506_0708, b"a\0b").as_slice(),
            [1, 2, 3, 4, 5, 6, 7, 8, b'a', 0x00, 0xff, b'b', 0x00, 0x01]
        );
    }

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..8)
    }

    proptest! {
        #[test]
        fn round_trips(token: u64, key in keys()) {
            let stored = Bytes::from(encode(token, &key).to_vec());
            prop_assert_eq!(token_of(&stored).map(Token::high), Some(token));
            prop_assert_eq!(decode(&stored), Ok(RingPosition { token, key: key.into() }));
        }

        #[test]
        fn keeps_the_order_with_subkeys_behind_their_key(
            a in (0u64..3, keys(), keys()), b in (0u64..3, keys(), keys()),
        ) {
            let with_subkey = |(token, key, subkey): &(u64, Vec<u8>, Vec<u8>)| {
                let mut stored = encode(*token, key);
                stored.extend_from_slice(subkey);
                stored
            };
            prop_assert_eq!(with_subkey(&a).cmp(&with_subkey(&b)), a.cmp(&b));
        }

        #[test]
        fn what_decodes_is_the_only_spelling(bytes in keys(), token: u64) {
            let mut stored = token.to_be_bytes().to_vec();
            stored.extend_from_slice(&bytes);
            let stored = Bytes::from(stored);
            if let Ok(place) = decode(&stored) {
                let again = encode(place.token, &place.key);
                prop_assert_eq!(again.as_slice(), &stored[..]);
            }
        }
    }
}
