//! What survives a merge of versions.
//!
//! The snapshots cut the seqnos into stripes; two versions of a key in one stripe look the same to
//! everybody, so of each stripe only the newest value or tombstone is kept, with the operands
//! above it merged into it. What is dropped beyond that:
//! - a tombstone beneath which there is nothing, here or further down;
//! - a value that the compaction filter removes and no snapshot sees.
//!
//! An operand that the operator refuses, or that has no operator, is kept as it is: a merge that
//! fails must fail at the reader, not lose data here.

use bytes::Bytes;

use crate::error::Error;
use crate::key::{Seqno, ValueKind, is_apart, kind_of, pack, seqno_of};
use crate::options::{CompactionFilter, FilterDecision, FilterPass, TreeConfig};
use crate::read::get::merge;
use crate::read::merge_iter::MergeIter;
use crate::version::levels::Version;

/// A version to write.
pub(crate) type Kept = (u64, Bytes);

/// The versions of one key in one stripe that matter.
#[derive(Default)]
struct Stripe {
    /// Newest first.
    operands: Vec<Kept>,
    base: Option<Kept>,
}

/// Reads a key of the tree as of one moment.
pub(crate) type ReadKey<'a> = dyn Fn(&[u8]) -> Result<Option<Bytes>, Error> + 'a;

/// A compaction filter at work.
pub(crate) struct Filter<'a> {
    source: &'a dyn CompactionFilter,
    pass: Box<dyn FilterPass + 'a>,
    /// What readers saw of a key at a moment that every snapshot which is not in the stream's list
    /// has behind it.
    read: &'a ReadKey<'a>,
    /// The head that the pass was told of last.
    head: Option<Bytes>,
}

impl<'a> Filter<'a> {
    /// The tree's filter, if it has one.
    pub(crate) fn begin(
        config: &'a TreeConfig,
        now_ms: u64,
        read: &'a ReadKey<'a>,
    ) -> Option<Self> {
        let source = &**config.compaction_filter.as_ref()?;
        Some(Self { source, pass: source.begin(now_ms), read, head: None })
    }

    fn decide(&mut self, key: &[u8], value: &[u8], bottom: bool) -> Result<FilterDecision, Error> {
        if let Some(head) = self.source.head_of(key)
            && self.head.as_deref() != Some(head)
        {
            let value = (self.read)(head)?;
            self.pass.head(head, value.as_deref());
            self.head = Some(Bytes::copy_from_slice(head));
        }
        Ok(self.pass.decide(key, value, bottom))
    }
}

pub(crate) struct Stream<'a> {
    pub(crate) input: MergeIter,
    /// Where it ends, if not with the input.
    pub(crate) end: Option<&'a [u8]>,
    /// Ascending.
    pub(crate) snapshots: &'a [Seqno],
    pub(crate) config: &'a TreeConfig,
    /// What holds the inputs, and the blob files that they refer to.
    pub(crate) version: &'a Version,
    /// Whether nothing older than the input can hold the key.
    pub(crate) is_bottom: &'a dyn Fn(&[u8]) -> bool,
    pub(crate) filter: Option<Filter<'a>>,
    /// The value that the filter saw last, and its tag.
    pub(crate) seen: Option<(u64, Bytes)>,
}

impl Stream<'_> {
    fn stripe_of(&self, seqno: Seqno) -> usize {
        self.snapshots.partition_point(|snapshot| *snapshot < seqno)
    }

    /// The next key, with what is kept of it (newest first, maybe nothing).
    pub(crate) fn next_key(&mut self) -> Result<Option<(Bytes, Vec<Kept>)>, Error> {
        if !self.input.valid() || self.end.is_some_and(|end| self.input.key() >= end) {
            return Ok(None);
        }
        let key = Bytes::copy_from_slice(self.input.key());
        self.seen = None;
        let stripes = self.stripes(&key)?;
        let bottom = (self.is_bottom)(&key);
        let mut kept = Vec::new();
        let oldest = stripes.len() - 1;
        for (at, stripe) in stripes.into_iter().enumerate() {
            self.resolve(&key, stripe, bottom && at == oldest, &mut kept);
        }
        let is_tombstone = |kept: &Kept| kind_of(kept.0) == ValueKind::Delete;
        while bottom && kept.last().is_some_and(is_tombstone) {
            kept.pop();
        }
        self.filter(&key, bottom, &mut kept)?;
        Ok(Some((key, kept)))
    }

    /// The value of a version of `key`, for the tree's filter to look at.
    pub(crate) fn value(&self, key: &[u8], tag: u64, stored: &Bytes) -> Result<Bytes, Error> {
        if !is_apart(tag) {
            return Ok(stored.clone());
        }
        let filter = self.config.compaction_filter.as_ref();
        if filter.is_some_and(|filter| !filter.wants_value(key)) {
            return Ok(Bytes::new());
        }
        match &self.seen {
            Some((seen, value)) if *seen == tag => Ok(value.clone()),
            _ => self.version.apart_once(key, stored),
        }
    }

    /// Reads all versions of `key`, newest stripe first.
    fn stripes(&mut self, key: &[u8]) -> Result<Vec<Stripe>, Error> {
        let mut stripes: Vec<Stripe> = Vec::new();
        let mut current = None;
        while self.input.valid() && self.input.key() == key {
            let tag = self.input.tag();
            let number = self.stripe_of(seqno_of(tag));
            if current != Some(number) {
                current = Some(number);
                stripes.push(Stripe::default());
            }
            if let Some(stripe) = stripes.last_mut()
                && stripe.base.is_none()
            {
                match kind_of(tag) {
                    ValueKind::Merge => stripe.operands.push((tag, self.input.value())),
                    // It is merged with what is above: the value, not a reference to it.
                    ValueKind::Put if is_apart(tag) && !stripe.operands.is_empty() => {
                        let tag = pack(seqno_of(tag), ValueKind::Put);
                        let stored = self.input.value();
                        let value = self.version.apart_once(key, &stored);
                        stripe.base = Some((tag, value?));
                    }
                    ValueKind::Put | ValueKind::Delete => {
                        stripe.base = Some((tag, self.input.value()));
                    }
                }
            }
            self.input.advance()?;
        }
        Ok(stripes)
    }

    /// Adds what is kept of a stripe. `first`: nothing is older than it.
    fn resolve(&self, key: &[u8], stripe: Stripe, first: bool, kept: &mut Vec<Kept>) {
        let Stripe { operands, base } = stripe;
        let Some(newest) = operands.first().map(|(tag, _)| seqno_of(*tag)) else {
            kept.extend(base);
            return;
        };
        if self.config.merge.is_none() {
            kept.extend(operands);
            kept.extend(base);
            return;
        }
        if base.is_some() || first {
            let value = base
                .as_ref()
                .filter(|(tag, _)| kind_of(*tag) == ValueKind::Put)
                .map(|(_, value)| &**value);
            let oldest_first = operands.iter().rev().map(|(_, operand)| &**operand);
            match merge(self.config, key, newest, value, oldest_first) {
                Ok(Some(merged)) => kept.push((pack(newest, ValueKind::Put), merged)),
                Ok(None) => kept.push((pack(newest, ValueKind::Delete), Bytes::new())),
                Err(_kept_for_the_reader) => {
                    kept.extend(operands);
                    kept.extend(base);
                }
            }
            return;
        }
        kept.extend(self.combine(key, operands));
    }

    /// Joins neighbouring operands where the operator can.
    fn combine(&self, key: &[u8], operands: Vec<Kept>) -> Vec<Kept> {
        let Some(operator) = &self.config.merge else { return operands };
        let mut combined: Vec<Kept> = Vec::with_capacity(operands.len());
        // From the oldest on; the newer one's seqno stands for both.
        for (tag, operand) in operands.into_iter().rev() {
            match combined.last_mut() {
                Some((last_tag, last)) => match operator.partial_merge(key, last, &operand) {
                    Some(both) => (*last_tag, *last) = (tag, Bytes::from(both)),
                    None => combined.push((tag, operand)),
                },
                None => combined.push((tag, operand)),
            }
        }
        combined.reverse();
        combined
    }

    fn filter(&mut self, key: &[u8], bottom: bool, kept: &mut Vec<Kept>) -> Result<(), Error> {
        let Some((tag, value)) = kept.first().cloned() else { return Ok(()) };
        let seqno = seqno_of(tag);
        if kind_of(tag) != ValueKind::Put || self.stripe_of(seqno) < self.snapshots.len() {
            return Ok(());
        }
        if self.filter.is_none() {
            return Ok(());
        }
        let value = self.value(key, tag, &value)?;
        self.seen = is_apart(tag).then(|| (tag, value.clone()));
        let Some(filter) = &mut self.filter else { return Ok(()) };
        match filter.decide(key, &value, bottom && kept.len() == 1)? {
            FilterDecision::Keep => {}
            FilterDecision::Replace(value) => {
                kept[0] = (pack(seqno, ValueKind::Put), Bytes::from(value));
            }
            FilterDecision::Remove if bottom && kept.len() == 1 => kept.clear(),
            FilterDecision::Remove => {
                kept[0] = (pack(seqno, ValueKind::Delete), Bytes::new());
            }
        }
        Ok(())
    }
}
