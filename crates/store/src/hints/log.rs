//! The one implementation of [`HintLog`], on the trees of the metadata's database.
//!
//! A tree per target, and one for intents; keys are ids, most significant byte first. Ids are given
//! in one order over all targets, so the oldest hint of all is the smallest first key.
//!
//! INVARIANT: counts and bytes in memory are those of the trees; they are counted anew at the start.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use meridian_crdt::DecodeError;
use meridian_types::{Millis, Mutation, NodeId, broken};
use parking_lot::Mutex;

use super::{
    Fulfilment, Hint, HintCounters, HintError, HintId, HintLimits, HintLog, Intent, Undelivered,
};
use crate::metadata::{MemMetadata, MetadataError, MetadataTree, MetadataTrees, SledMetadata};

/// Trees of targets are named by this and the node's number.
const TARGET_PREFIX: &str = "hints/";
const INTENTS: &str = "intents";

/// Bytes of a key, which count as stored with its value.
const KEY_BYTES: u64 = 8;

/// Bytes of hints that are read at a time to see whether their target has them.
const SUPERSEDE_BYTES: usize = 4 << 20;

/// Hints and intents, in `sled` or in memory.
#[derive(Debug)]
pub struct Hints {
    trees: Arc<dyn MetadataTrees>,
    limits: HintLimits,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    targets: BTreeMap<NodeId, Shelf>,
    intents: Shelf,
    next: u64,
    counters: HintCounters,
    undelivered: Undelivered,
}

/// One tree and what is in it.
#[derive(Debug)]
struct Shelf {
    tree: Arc<dyn MetadataTree>,
    count: u64,
    bytes: u64,
}

impl Shelf {
    fn open(trees: &dyn MetadataTrees, name: &str) -> Result<Self, MetadataError> {
        let tree = trees.tree(name)?;
        let (mut count, mut bytes) = (0, 0);
        tree.visit(Bound::Unbounded, &mut |_key, value| {
            count += 1;
            bytes += KEY_BYTES + value.len() as u64;
            true
        })?;
        Ok(Self { tree, count, bytes })
    }

    fn insert(&mut self, id: u64, value: &[u8]) -> Result<u64, MetadataError> {
        self.tree.insert(&id.to_be_bytes(), value)?;
        let bytes = KEY_BYTES + value.len() as u64;
        self.count += 1;
        self.bytes += bytes;
        Ok(bytes)
    }

    /// Puts other bytes in the place of an item. One that is not there is left alone.
    fn replace(&mut self, id: u64, value: &[u8]) -> Result<(), MetadataError> {
        let Some(old) = self.tree.get(&id.to_be_bytes())? else { return Ok(()) };
        self.tree.insert(&id.to_be_bytes(), value)?;
        self.bytes = self.bytes.saturating_sub(old.len() as u64) + value.len() as u64;
        Ok(())
    }

    /// The bytes that this freed; `None` where there was nothing.
    fn remove(&mut self, id: u64) -> Result<Option<u64>, MetadataError> {
        let Some(len) = self.tree.remove(&id.to_be_bytes())? else { return Ok(None) };
        let bytes = KEY_BYTES + len as u64;
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        Ok(Some(bytes))
    }

    fn first(&self) -> Result<Option<HintId>, MetadataError> {
        let mut first = None;
        self.tree.visit(Bound::Unbounded, &mut |key, _value| {
            first = id_of(key).map(HintId);
            false
        })?;
        Ok(first)
    }

    /// The undecoded items behind `after`.
    fn page(
        &self,
        after: Option<HintId>,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<Vec<(HintId, Bytes)>, MetadataError> {
        let start = after.map(|id| id.0.to_be_bytes());
        let from = start.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id[..]));
        let (mut items, mut bytes) = (Vec::new(), 0usize);
        self.tree.visit(from, &mut |key, value| {
            bytes = bytes.saturating_add(value.len());
            if items.len() == max_items || (bytes > max_bytes && !items.is_empty()) {
                return false;
            }
            if let Some(id) = id_of(key) {
                items.push((HintId(id), Bytes::copy_from_slice(value)));
            }
            true
        })?;
        Ok(items)
    }
}

fn id_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

impl Hints {
    /// Hints in the database of the node's metadata. Counts what is there.
    ///
    /// # Errors
    /// The database cannot be read. Nothing was changed.
    pub fn on_sled(metadata: &SledMetadata, limits: HintLimits) -> Result<Self, HintError> {
        Self::open(Arc::new(metadata.clone()), limits)
    }

    /// Hints in memory, beside the metadata there.
    ///
    /// # Errors
    /// A fault that a test injected.
    pub fn in_memory(metadata: &MemMetadata, limits: HintLimits) -> Result<Self, HintError> {
        Self::open(Arc::new(metadata.clone()), limits)
    }

    fn open(trees: Arc<dyn MetadataTrees>, limits: HintLimits) -> Result<Self, HintError> {
        let mut targets = BTreeMap::new();
        let mut last = 0;
        for name in trees.names()? {
            let node = name.strip_prefix(TARGET_PREFIX).and_then(|node| node.parse().ok());
            let Some(node) = node else { continue };
            let shelf = Shelf::open(&*trees, &name)?;
            last = last.max(last_id(&shelf)?);
            targets.insert(NodeId(node), shelf);
        }
        let intents = Shelf::open(&*trees, INTENTS)?;
        last = last.max(last_id(&intents)?);
        let counters = HintCounters {
            found: targets.values().map(|shelf| shelf.count).sum(),
            hint_bytes: targets.values().map(|shelf| shelf.bytes).sum(),
            intent_bytes: intents.bytes,
            intents: intents.count,
            ..HintCounters::default()
        };
        let undelivered = Undelivered::new();
        let book = Book { targets, intents, next: last + 1, counters, undelivered };
        Ok(Self { trees, limits, book: Mutex::new(book) })
    }

    /// Drops the oldest hints of all until they fit.
    fn make_room(&self, book: &mut Book) -> Result<(), MetadataError> {
        while book.counters.hint_bytes > self.limits.hint_bytes {
            let mut oldest = None;
            for (node, shelf) in book.targets.iter().filter(|(_, shelf)| shelf.count > 0) {
                oldest = oldest.into_iter().chain(shelf.first()?.map(|id| (id, *node))).min();
            }
            let Some((id, node)) = oldest else { break };
            let shelf = book.targets.get(&node);
            let oldest = shelf.map(|shelf| shelf.page(None, 1, usize::MAX)).transpose()?;
            let mut oldest = oldest.into_iter().flatten();
            let hint = oldest.next().and_then(|(_, bytes)| Hint::from_bytes(&bytes).ok());
            book.give_up(node, id, hint.as_ref())?;
            book.counters.dropped += 1;
        }
        Ok(())
    }
}

fn last_id(shelf: &Shelf) -> Result<u64, MetadataError> {
    Ok(shelf.tree.last_key()?.as_deref().and_then(id_of).unwrap_or(0))
}

impl Book {
    fn next_id(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }

    fn forget(&mut self, target: NodeId, id: u64) -> Result<bool, MetadataError> {
        let Some(shelf) = self.targets.get_mut(&target) else { return Ok(false) };
        let Some(bytes) = shelf.remove(id)? else { return Ok(false) };
        self.counters.hint_bytes = self.counters.hint_bytes.saturating_sub(bytes);
        Ok(true)
    }

    /// Forgets a hint that was not delivered, and notes where the target must compare.
    fn give_up(
        &mut self,
        target: NodeId,
        id: HintId,
        hint: Option<&Hint>,
    ) -> Result<bool, MetadataError> {
        let gone = self.forget(target, id.0)?;
        if gone {
            let keyspace = hint.map(|hint| hint.row.keyspace);
            self.undelivered.entry(target).or_default().insert(keyspace);
        }
        Ok(gone)
    }

    fn damaged(
        &mut self,
        target: NodeId,
        id: HintId,
        cause: &DecodeError,
    ) -> Result<(), HintError> {
        tracing::error!(target_node = target.0, hint = id.0, %cause, "a damaged hint is dropped");
        if self.give_up(target, id, None)? {
            self.counters.damaged += 1;
        }
        Ok(())
    }
}

impl HintLog for Hints {
    fn append(&self, target: NodeId, hint: &Hint) -> Result<HintId, HintError> {
        let bytes = hint.to_bytes();
        let mut book = self.book.lock();
        let book = &mut *book;
        let id = book.next_id();
        let shelf = match book.targets.entry(target) {
            Entry::Occupied(shelf) => shelf.into_mut(),
            Entry::Vacant(place) => {
                let name = format!("{TARGET_PREFIX}{}", target.0);
                place.insert(Shelf::open(&*self.trees, &name)?)
            }
        };
        book.counters.hint_bytes += shelf.insert(id, &bytes)?;
        book.counters.stored += 1;
        self.make_room(book)?;
        Ok(HintId(id))
    }

    fn page(
        &self,
        target: NodeId,
        after: Option<HintId>,
        max_hints: usize,
        max_bytes: usize,
    ) -> Result<Vec<(HintId, Hint)>, HintError> {
        let mut book = self.book.lock();
        let Some(shelf) = book.targets.get(&target) else { return Ok(Vec::new()) };
        let items = shelf.page(after, max_hints, max_bytes)?;
        let mut hints = Vec::with_capacity(items.len());
        for (id, bytes) in items {
            match Hint::from_bytes(&bytes) {
                Ok(hint) => hints.push((id, hint)),
                Err(cause) => book.damaged(target, id, &cause)?,
            }
        }
        Ok(hints)
    }

    fn remove(&self, target: NodeId, ids: &[HintId], why: Fulfilment) -> Result<(), HintError> {
        let mut book = self.book.lock();
        for id in ids {
            if book.forget(target, id.0)? {
                match why {
                    Fulfilment::Delivered => book.counters.delivered += 1,
                    Fulfilment::Superseded => book.counters.superseded += 1,
                }
            }
        }
        Ok(())
    }

    fn supersede(
        &self,
        target: NodeId,
        after: Option<HintId>,
        limit: usize,
        has: &dyn Fn(&Hint) -> bool,
    ) -> Result<Option<HintId>, HintError> {
        let page = self.page(target, after, limit, SUPERSEDE_BYTES)?;
        let had = page.iter().filter(|(_, hint)| has(hint)).map(|(id, _)| *id);
        self.remove(target, &had.collect::<Vec<_>>(), Fulfilment::Superseded)?;
        Ok(page.last().map(|(id, _)| *id))
    }

    fn expire(&self, now: Millis) -> Result<BTreeMap<NodeId, u64>, HintError> {
        /// Hints looked at under one lock.
        const PAGE: usize = 256;
        let targets: Vec<NodeId> = self.book.lock().targets.keys().copied().collect();
        let mut expired = BTreeMap::new();
        for target in targets {
            // Hints of a target are in the order of their creation, but for steps of the wall clock:
            // those are found in a later round.
            loop {
                let page = self.page(target, None, PAGE, usize::MAX)?;
                let full = page.len() == PAGE;
                let mut old = 0;
                let mut book = self.book.lock();
                for (id, hint) in &page {
                    if !hint.expired(now, self.limits.window_ms) {
                        break;
                    }
                    old += 1;
                    if book.give_up(target, *id, Some(hint))? {
                        book.counters.expired += u64::from(!broken(Mutation::ExpireSilently));
                        *expired.entry(target).or_default() += 1;
                    }
                }
                if !full || old < PAGE {
                    break;
                }
            }
        }
        Ok(expired)
    }

    fn take_undelivered(&self) -> Undelivered {
        std::mem::take(&mut self.book.lock().undelivered)
    }

    fn counts(&self) -> BTreeMap<NodeId, u64> {
        let book = self.book.lock();
        let waiting = book.targets.iter().filter(|(_, shelf)| shelf.count > 0);
        waiting.map(|(node, shelf)| (*node, shelf.count)).collect()
    }

    fn append_intent(&self, intent: &Intent) -> Result<HintId, HintError> {
        let bytes = intent.to_bytes();
        let mut book = self.book.lock();
        let kept = book.intents.bytes;
        if kept + KEY_BYTES + bytes.len() as u64 > self.limits.intent_bytes {
            book.counters.intents_refused += 1;
            return Err(HintError::IntentsFull { bytes: kept, limit: self.limits.intent_bytes });
        }
        let id = book.next_id();
        book.intents.insert(id, &bytes)?;
        book.counters.intents_stored += 1;
        Ok(HintId(id))
    }

    fn intents(
        &self,
        after: Option<HintId>,
        max_intents: usize,
        max_bytes: usize,
    ) -> Result<Vec<(HintId, Intent)>, HintError> {
        let items = self.book.lock().intents.page(after, max_intents, max_bytes)?;
        let decode = |(id, bytes): (HintId, Bytes)| match Intent::from_bytes(&bytes) {
            Ok(intent) => Ok((id, intent)),
            Err(cause) => Err(HintError::DamagedIntent { id, cause }),
        };
        items.into_iter().map(decode).collect()
    }

    fn intent(&self, id: HintId) -> Result<Option<Intent>, HintError> {
        let bytes = self.book.lock().intents.tree.get(&id.0.to_be_bytes())?;
        let decode = |bytes: Bytes| Intent::from_bytes(&bytes);
        bytes.map(decode).transpose().map_err(|cause| HintError::DamagedIntent { id, cause })
    }

    fn name_intent(&self, id: HintId, named: &Intent) -> Result<(), HintError> {
        Ok(self.book.lock().intents.replace(id.0, &named.to_bytes())?)
    }

    fn remove_intents(&self, ids: &[HintId]) -> Result<(), HintError> {
        let mut book = self.book.lock();
        for id in ids {
            book.intents.remove(id.0)?;
        }
        Ok(())
    }

    fn counters(&self) -> HintCounters {
        let book = self.book.lock();
        let Shelf { count, bytes, .. } = book.intents;
        HintCounters { intents: count, intent_bytes: bytes, ..book.counters }
    }

    fn flush(&self) -> Result<(), HintError> {
        Ok(self.trees.flush()?)
    }
}
