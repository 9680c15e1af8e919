//! A batch: what becomes visible, and what survives, as one.
//!
//! One contiguous buffer in the form that the WAL stores: each operation is a kind byte, the
//! tree's id (varint), the key (varint length and bytes) and, but for a delete, the value
//! likewise. Writing a batch copies this buffer once.

use smallvec::SmallVec;

use crate::coding::{Decoder, Malformed, put_bytes, put_varint};
use crate::error::Error;
use crate::key::ValueKind;
use crate::options::{MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::tree::Tree;

/// The ids of trees begin at 1.
const NO_TREE: u32 = 0;

/// Operations on any trees of one database that are written atomically.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    ops: Vec<u8>,
    count: u32,
    trees: SmallVec<[Tree; 2]>,
    oversized: Option<&'static str>,
}

/// One operation of a batch, borrowed from its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op<'a> {
    pub(crate) kind: ValueKind,
    pub(crate) tree: u32,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for this many bytes of keys and values.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { ops: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// One operation on a tree that never was: it takes a seqno in the log and does nothing.
    pub(crate) fn nothing() -> Self {
        let mut batch = Self { count: 1, ..Self::default() };
        batch.ops.push(ValueKind::Delete as u8);
        put_varint(&mut batch.ops, u64::from(NO_TREE));
        put_bytes(&mut batch.ops, &[]);
        batch
    }

    /// Sets a key.
    pub fn put(&mut self, tree: &Tree, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(ValueKind::Put, tree, key.as_ref(), value.as_ref());
    }

    /// Adds an operand for the tree's merge operator.
    pub fn merge(&mut self, tree: &Tree, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) {
        self.push(ValueKind::Merge, tree, key.as_ref(), operand.as_ref());
    }

    /// Deletes a key.
    pub fn delete(&mut self, tree: &Tree, key: impl AsRef<[u8]>) {
        self.push(ValueKind::Delete, tree, key.as_ref(), &[]);
    }

    fn push(&mut self, kind: ValueKind, tree: &Tree, key: &[u8], value: &[u8]) {
        if key.len() > MAX_KEY_BYTES {
            self.oversized = Some("a key is longer than MAX_KEY_BYTES");
            return;
        }
        if value.len() > MAX_VALUE_BYTES {
            self.oversized = Some("a value is longer than MAX_VALUE_BYTES");
            return;
        }
        if !self.trees.iter().any(|known| known.is_same(tree)) {
            self.trees.push(tree.clone());
        }
        self.ops.reserve(key.len() + value.len() + 16);
        self.ops.push(kind as u8);
        put_varint(&mut self.ops, u64::from(tree.id()));
        put_bytes(&mut self.ops, key);
        if kind != ValueKind::Delete {
            put_bytes(&mut self.ops, value);
        }
        self.count += 1;
        if self.ops.len() > MAX_BATCH_BYTES {
            self.oversized = Some("the batch is larger than MAX_BATCH_BYTES");
        }
    }

    /// How many operations it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its size in the WAL, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ops.len()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.trees.clear();
        self.count = 0;
        self.oversized = None;
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.oversized.map_or(Ok(()), |what| Err(Error::invalid(what)))
    }

    pub(crate) fn encoded(&self) -> &[u8] {
        &self.ops
    }

    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn trees(&self) -> &[Tree] {
        &self.trees
    }
}

/// Takes the next operation off an encoded batch.
pub(crate) fn decode_op<'a>(decoder: &mut Decoder<'a>) -> Result<Op<'a>, Malformed> {
    let kind = ValueKind::from_u8(decoder.u8()?).ok_or(Malformed)?;
    let tree = decoder.varint_u32()?;
    let key = decoder.bytes()?;
    let value = if kind == ValueKind::Delete { &[] } else { decoder.bytes()? };
    Ok(Op { kind, tree, key, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut decoder = Decoder::new(&bytes);
            while !decoder.is_empty() && decode_op(&mut decoder).is_ok() {}
        }
    }
}
