//! One key: from the newest source to the oldest, until a value or tombstone ends the search.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::Error;
use crate::key::{Seqno, ValueKind};
use crate::options::TreeConfig;

/// What was found of a key so far.
pub(crate) struct Lookup<'a> {
    key: &'a [u8],
    /// Operands, newest first.
    operands: Vec<Bytes>,
    /// The newest version seen.
    newest: Seqno,
    base: Option<Bytes>,
}

impl<'a> Lookup<'a> {
    pub(crate) const fn new(key: &'a [u8]) -> Self {
        Self { key, operands: Vec::new(), newest: 0, base: None }
    }

    /// Takes the next older version.
    pub(crate) fn version(
        &mut self,
        seqno: Seqno,
        kind: ValueKind,
        value: impl FnOnce() -> Bytes,
    ) -> ControlFlow<()> {
        if self.newest == 0 {
            self.newest = seqno;
        }
        match kind {
            ValueKind::Put => self.base = Some(value()),
            ValueKind::Delete => {}
            ValueKind::Merge => {
                self.operands.push(value());
                return ControlFlow::Continue(());
            }
        }
        ControlFlow::Break(())
    }

    pub(crate) fn operands(&self) -> usize {
        self.operands.len()
    }

    pub(crate) const fn newest(&self) -> Seqno {
        self.newest
    }

    pub(crate) const fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The answer.
    pub(crate) fn value(self, config: &TreeConfig) -> Result<Option<Bytes>, Error> {
        if self.operands.is_empty() { Ok(self.base) } else { self.finish(config) }
    }

    /// The answer where there are no operands.
    pub(crate) fn into_base(self) -> Option<Bytes> {
        self.base
    }

    pub(crate) fn finish(self, config: &TreeConfig) -> Result<Option<Bytes>, Error> {
        let operands = self.operands.iter().rev().map(|operand| &**operand);
        merge(config, self.key, self.newest, self.base.as_deref(), operands)
    }
}

/// Runs the tree's merge operator over `operands`, oldest first.
pub(crate) fn merge<'o>(
    config: &TreeConfig,
    key: &[u8],
    newest: Seqno,
    base: Option<&[u8]>,
    operands: impl Iterator<Item = &'o [u8]>,
) -> Result<Option<Bytes>, Error> {
    let Some(operator) = &config.merge else {
        return Err(Error::MergeOperatorMissing { tree: config.name.clone() });
    };
    let mut operands = operands;
    match operator.full_merge(key, base, &mut operands) {
        Ok(merged) => Ok(merged.map(Bytes::from)),
        Err(refused) => Err(Error::Merge {
            tree: config.name.clone(),
            key: key.to_vec(),
            seqno: newest,
            reason: refused.reason,
        }),
    }
}
