//! The causal context as a client holds it: opaque, versioned, bound to its row, authenticated.

use meridian_types::TableId;
use meridian_types::varint::{DecodeError, Reader, put_u64};
use xxhash_rust::xxh3::xxh3_64;

use crate::{Context, DotSet};

const VERSION: u8 = 1;
/// Bytes of the authentication code: BLAKE3's output cut to 128 bits.
pub(crate) const MAC_BYTES: usize = 16;

/// The cluster's secret that tokens are authenticated with. Every node has the same.
#[derive(Clone)]
pub struct TokenKey {
    context: [u8; 32],
    session: [u8; 32],
}

impl TokenKey {
    /// Derives the key from the cluster's secret.
    #[must_use]
    pub fn derive(secret: &[u8]) -> Self {
        Self {
            context: blake3::derive_key("meridian 2026 causal context token v1", secret),
            session: blake3::derive_key("meridian 2026 session token v1", secret),
        }
    }

    /// The key of sessions: a context is no session, and no session a context.
    pub(crate) fn session(&self) -> &[u8; 32] {
        &self.session
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// The row that a token belongs to.
///
/// A context is exact for its own row only: its base covers dots of every row of the vnode, also
/// of those that its reader never read. A put to another row under it would remove values that
/// nobody saw, so a token names its table and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenScope<'a> {
    /// The table.
    pub table: TableId,
    /// The row's key.
    pub key: &'a [u8],
}

/// A sealed context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextToken(Vec<u8>);

/// A token that is not accepted. Nothing was changed; read the key again for a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The bytes are no token, or were cut.
    #[error("the context is damaged: {0}")]
    Malformed(#[from] DecodeError),
    /// The token was given for another table.
    #[error("the context was given for another table (id {given}, this one is {asked})")]
    OtherTable {
        /// The table that the token names.
        given: TableId,
        /// The table that was asked for.
        asked: TableId,
    },
    /// The token was given for another key.
    #[error("the context was given for another key of this table")]
    OtherKey,
    /// The authentication code does not fit: changed on the way, or from another cluster.
    #[error("the context was not given by this cluster, or was changed on the way")]
    Forged,
}

impl ContextToken {
    /// Seals a reader's context.
    #[must_use]
    pub fn seal(key: &TokenKey, scope: TokenScope<'_>, context: &Context) -> Self {
        let mut out = Vec::with_capacity(64);
        out.push(VERSION);
        put_u64(&mut out, u64::from(scope.table.0));
        out.extend_from_slice(&xxh3_64(scope.key).to_be_bytes());
        context.seen.encode(&mut out);
        let mac = mac(key, scope, &out);
        out.extend_from_slice(&mac);
        Self(out)
    }

    /// Opens a token for the row that a client wants to write.
    ///
    /// # Errors
    /// See [`TokenError`]. A token that is not exactly what [`Self::seal`] gave for this row under
    /// this key is never accepted.
    pub fn open(
        key: &TokenKey,
        scope: TokenScope<'_>,
        token: &[u8],
    ) -> Result<Context, TokenError> {
        let mut reader = Reader::new(token);
        let version = reader.u8("version of a context")?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { what: "context", version }.into());
        }
        let given = TableId(reader.u32("table of a context")?);
        let key_hash = reader.fixed_u64("key of a context")?;
        let seen = DotSet::decode(&mut reader)?;
        let signed = &token[..reader.position()];
        let given_mac = reader.take(MAC_BYTES, "authentication code of a context")?;
        reader.finish()?;
        if given != scope.table {
            return Err(TokenError::OtherTable { given, asked: scope.table });
        }
        if key_hash != xxh3_64(scope.key) {
            return Err(TokenError::OtherKey);
        }
        if !same(&mac(key, scope, signed), given_mac) {
            return Err(TokenError::Forged);
        }
        Ok(Context { seen })
    }

    /// The token's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The token's bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The whole key goes into the code, not only its hash, so that a key with the same 64-bit hash
/// does not open another key's token.
fn mac(key: &TokenKey, scope: TokenScope<'_>, signed: &[u8]) -> [u8; MAC_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(&key.context);
    hasher.update(&(signed.len() as u64).to_be_bytes());
    hasher.update(signed);
    hasher.update(scope.key);
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&hasher.finalize().as_bytes()[..MAC_BYTES]);
    mac
}

/// Compares without an early exit, so that the time taken does not tell where they differ.
pub(crate) fn same(a: &[u8; MAC_BYTES], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}
