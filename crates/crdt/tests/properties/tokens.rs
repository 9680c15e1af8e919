//! A token is accepted exactly as it was given, for its own row in its own cluster.

use meridian_crdt::{Context, ContextToken, DecodeError, TokenError, TokenKey, TokenScope};
use meridian_types::TableId;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::draw::{any_context, dot};

fn key() -> TokenKey {
    TokenKey::derive(b"the cluster's secret")
}

const SCOPE: TokenScope<'static> = TokenScope { table: TableId(7), key: b"a key" };

fn token(context: &Context) -> Vec<u8> {
    ContextToken::seal(&key(), SCOPE, context).into_bytes()
}

fn two_dots() -> Context {
    [dot(1, 1), dot(2, 300)].into_iter().collect()
}

proptest! {
    #[test]
    fn a_token_opens_to_what_was_sealed(
        context in any_context(),
        table in any::<u32>(),
        row in vec(any::<u8>(), 0..40),
        secret in vec(any::<u8>(), 0..40),
    ) {
        let (key, scope) = (TokenKey::derive(&secret), TokenScope { table: TableId(table), key: &row });
        let token = ContextToken::seal(&key, scope, &context);
        prop_assert_eq!(ContextToken::open(&key, scope, token.as_bytes()), Ok(context));
    }

    #[test]
    fn every_flipped_bit_every_cut_and_every_byte_more_is_refused(context in any_context()) {
        let token = token(&context);
        for bit in 0..token.len() * 8 {
            let mut flipped = token.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(ContextToken::open(&key(), SCOPE, &flipped).is_err(), "bit {}", bit);
        }
        let longer = [&token[..], &[0]].concat();
        let longer = ContextToken::open(&key(), SCOPE, &longer);
        let trailing = matches!(longer, Err(TokenError::Malformed(DecodeError::Trailing { .. })));
        prop_assert!(trailing);
        for len in 0..token.len() {
            let cut = ContextToken::open(&key(), SCOPE, &token[..len]);
            prop_assert!(matches!(cut, Err(TokenError::Malformed(_) | TokenError::Forged)));
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_token(mut bytes in vec(any::<u8>(), 0..80)) {
        prop_assert!(ContextToken::open(&key(), SCOPE, &bytes).is_err());
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        prop_assert!(ContextToken::open(&key(), SCOPE, &bytes).is_err());
    }
}

#[test]
fn a_token_of_something_else_says_of_what() {
    let token = token(&two_dots());
    let open = |key: &TokenKey, scope| ContextToken::open(key, scope, &token);
    let other_table = TokenScope { table: TableId(8), ..SCOPE };
    assert_eq!(
        open(&key(), other_table),
        Err(TokenError::OtherTable { given: TableId(7), asked: TableId(8) })
    );
    let other_key = TokenScope { key: b"another key", ..SCOPE };
    assert_eq!(open(&key(), other_key), Err(TokenError::OtherKey));
    assert_eq!(open(&TokenKey::derive(b"another cluster"), SCOPE), Err(TokenError::Forged));
}

/// Whoever changes the readable fields to those of another row still lacks the code.
#[test]
fn a_token_rewritten_for_another_row_is_forged() {
    let (own, other) = (token(&two_dots()), TokenScope { table: TableId(8), key: b"another key" });
    let foreign = ContextToken::seal(&key(), other, &Context::default()).into_bytes();
    // Version, table (one byte here) and hash of the key are the first ten bytes.
    let spliced = [&foreign[..10], &own[10..]].concat();
    assert_eq!(ContextToken::open(&key(), other, &spliced), Err(TokenError::Forged));
}

#[test]
fn a_token_of_a_later_version_says_so() {
    let mut token = token(&two_dots());
    token[0] = 2;
    assert_eq!(
        ContextToken::open(&key(), SCOPE, &token),
        Err(TokenError::Malformed(DecodeError::UnknownVersion { what: "context", version: 2 }))
    );
}

#[test]
fn a_key_is_not_shown() {
    assert_eq!(format!("{:?}", key()), "TokenKey(..)");
}
