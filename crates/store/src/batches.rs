//! Atomic batches that this node keeps until they are whole: its own, and those of coordinators of
//! other racks.
//!
//! Every write of a kept batch has its dot ([`crate::Store::reserve`]), so whoever keeps it may
//! repeat it, however often and beside whomever: rule 4 applies it once.
//!
//! INVARIANT: count and bytes in memory are those of the tree; they are counted anew at the start.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use meridian_crdt::{DecodeError, Delta};
use meridian_types::varint::{Reader, put_bytes, put_u64};
use meridian_types::{BatchId, Millis, NodeId, RowKey, WriteId};
use parking_lot::Mutex;

use crate::hints::codec::{put_row, read_row, read_write_id};
use crate::metadata::{MemMetadata, MetadataError, MetadataTree, MetadataTrees, SledMetadata};

/// Bytes of batches that a node keeps, its own and others'; beyond it they are refused. A batch is
/// kept for a fraction of a second, or until its replicas can be reached.
pub const MAX_BATCH_BYTES: u64 = 1 << 30;

const TREE: &str = "batches";
const VERSION: u8 = 1;
/// A write id follows the row.
const HAS_WRITE_ID: u8 = 0x01;
/// Bytes of a key, which count as stored with its value.
const KEY_BYTES: u64 = 16;

/// A batch that is kept until it is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptBatch {
    /// Its name.
    pub id: BatchId,
    /// Everybody who keeps it, in the order in which they bring it about.
    pub holders: Vec<NodeId>,
    /// When it was kept, by this node's wall clock.
    pub created: Millis,
    /// What it writes.
    pub writes: Vec<KeptWrite>,
}

/// A write of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptWrite {
    /// The row.
    pub row: RowKey,
    /// The change.
    pub delta: Delta,
    /// The write's name.
    pub write_id: Option<WriteId>,
}

impl KeptBatch {
    /// The batch's bytes without its name, which is its key.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_u64(&mut out, self.created.0);
        put_u64(&mut out, self.holders.len() as u64);
        for holder in &self.holders {
            put_u64(&mut out, u64::from(holder.0));
        }
        put_u64(&mut out, self.writes.len() as u64);
        for KeptWrite { row, delta, write_id } in &self.writes {
            out.push(if write_id.is_some() { HAS_WRITE_ID } else { 0 });
            put_row(&mut out, row);
            if let Some(id) = write_id {
                out.extend_from_slice(&id.to_bytes());
            }
            put_bytes(&mut out, &delta.to_bytes());
        }
        out
    }

    /// Reads a batch back; keys and values are views into `bytes`.
    ///
    /// # Errors
    /// Bytes that no batch encodes to.
    pub fn from_bytes(id: BatchId, bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("batch")? {
            VERSION => {}
            version => return Err(DecodeError::UnknownVersion { what: "batch", version }),
        }
        let created = Millis(reader.u64("creation of a batch")?);
        // No list is longer than its bytes, so nothing is made for a length that lies.
        let (mut holders, mut writes) = (Vec::new(), Vec::new());
        for _ in 0..reader.u64("holders of a batch")? {
            holders.push(NodeId(reader.u32("holder of a batch")?));
        }
        for _ in 0..reader.u64("writes of a batch")? {
            writes.push(read_write(bytes, &mut reader)?);
        }
        if reader.position() != bytes.len() {
            return Err(reader.invalid("end of a batch"));
        }
        Ok(Self { id, holders, created, writes })
    }
}

fn read_write(bytes: &Bytes, reader: &mut Reader<'_>) -> Result<KeptWrite, DecodeError> {
    let flags = reader.u8("flags of a batch's write")?;
    if flags & !HAS_WRITE_ID != 0 {
        return Err(reader.invalid("flags of a batch's write"));
    }
    let row = read_row(bytes, reader)?;
    let write_id = match flags & HAS_WRITE_ID {
        0 => None,
        _ => Some(read_write_id(reader)?),
    };
    let delta = Delta::from_bytes(&reader.shared_bytes(bytes, "delta of a batch")?)?;
    Ok(KeptWrite { row, delta, write_id })
}

/// A batch could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The disk failed; the batch may be there or not, and the node must stop.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// There is no room. Nothing was kept.
    #[error("{bytes} bytes of atomic batches are kept already, of {limit} allowed")]
    Full {
        /// Bytes kept.
        bytes: u64,
        /// The limit in force.
        limit: u64,
    },
    /// The bytes of a batch are damaged. They are still there, and other nodes keep it as well.
    #[error("batch {id} is damaged: {cause}")]
    Damaged {
        /// Which one.
        id: BatchId,
        /// What was found.
        cause: DecodeError,
    },
}

/// What became of batches since this node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounters {
    /// Batches kept now.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Batches kept since the start.
    pub kept: u64,
    /// Batches refused because there were too many.
    pub refused: u64,
}

/// Batches in the database of the node's metadata.
#[derive(Debug)]
pub struct Batches {
    trees: Arc<dyn MetadataTrees>,
    tree: Arc<dyn MetadataTree>,
    limit: u64,
    counters: Mutex<BatchCounters>,
}

impl Batches {
    /// Batches in `sled`. Counts what is there.
    ///
    /// # Errors
    /// The database cannot be read. Nothing was changed.
    pub fn on_sled(metadata: &SledMetadata, limit: u64) -> Result<Self, BatchError> {
        Self::open(Arc::new(metadata.clone()), limit)
    }

    /// Batches in memory, beside the metadata there.
    ///
    /// # Errors
    /// A fault that a test injected.
    pub fn in_memory(metadata: &MemMetadata, limit: u64) -> Result<Self, BatchError> {
        Self::open(Arc::new(metadata.clone()), limit)
    }

    fn open(trees: Arc<dyn MetadataTrees>, limit: u64) -> Result<Self, BatchError> {
        let tree = trees.tree(TREE)?;
        let mut counters = BatchCounters::default();
        tree.visit(Bound::Unbounded, &mut |_key, value| {
            counters.batches += 1;
            counters.bytes += KEY_BYTES + value.len() as u64;
            true
        })?;
        Ok(Self { trees, tree, limit, counters: Mutex::new(counters) })
    }

    /// Keeps a batch, durable after [`Self::flush`]. One that is there already stays as it is.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn keep(&self, batch: &KeptBatch) -> Result<(), BatchError> {
        let key = batch.id.to_bytes();
        let mut counters = self.counters.lock();
        if self.tree.get(&key)?.is_some() {
            return Ok(());
        }
        let bytes = batch.to_bytes();
        let cost = KEY_BYTES + bytes.len() as u64;
        if counters.bytes + cost > self.limit {
            counters.refused += 1;
            return Err(BatchError::Full { bytes: counters.bytes, limit: self.limit });
        }
        self.tree.insert(&key, &bytes)?;
        counters.batches += 1;
        counters.bytes += cost;
        counters.kept += 1;
        Ok(())
    }

    /// A batch, if it is kept here.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn batch(&self, id: BatchId) -> Result<Option<KeptBatch>, BatchError> {
        let Some(bytes) = self.tree.get(&id.to_bytes())? else { return Ok(None) };
        let batch = KeptBatch::from_bytes(id, &bytes);
        batch.map(Some).map_err(|cause| BatchError::Damaged { id, cause })
    }

    /// Batches behind `after` in the order of their names: at most `max_batches`, and no more than
    /// `max_bytes` of them, but at least one where there is one. A damaged one is in its place.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn page(
        &self,
        after: Option<BatchId>,
        max_batches: usize,
        max_bytes: usize,
    ) -> Result<Vec<Result<KeptBatch, BatchError>>, BatchError> {
        let start = after.map(BatchId::to_bytes);
        let from = start.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id[..]));
        let (mut page, mut bytes) = (Vec::new(), 0usize);
        self.tree.visit(from, &mut |key, value| {
            bytes = bytes.saturating_add(value.len());
            if page.len() == max_batches || (bytes > max_bytes && !page.is_empty()) {
                return false;
            }
            if let Ok(key) = key.try_into() {
                let (id, value) = (BatchId::from_bytes(key), Bytes::copy_from_slice(value));
                let batch = KeptBatch::from_bytes(id, &value);
                page.push(batch.map_err(|cause| BatchError::Damaged { id, cause }));
            }
            true
        })?;
        Ok(page)
    }

    /// Forgets batches: they are whole.
    ///
    /// # Errors
    /// See [`BatchError`]; those that are still there are brought about again, which changes
    /// nothing.
    pub fn forget(&self, ids: &[BatchId]) -> Result<(), BatchError> {
        let mut counters = self.counters.lock();
        for id in ids {
            if let Some(len) = self.tree.remove(&id.to_bytes())? {
                counters.batches = counters.batches.saturating_sub(1);
                counters.bytes = counters.bytes.saturating_sub(KEY_BYTES + len as u64);
            }
        }
        Ok(())
    }

    /// What became of all of them.
    #[must_use]
    pub fn counters(&self) -> BatchCounters {
        *self.counters.lock()
    }

    /// Makes everything so far durable.
    ///
    /// # Errors
    /// Nothing is known about what was kept since the last success; the node must stop.
    pub fn flush(&self) -> Result<(), BatchError> {
        Ok(self.trees.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use meridian_crdt::{Actor, Context, Dot, Entry};
    use meridian_types::{Hlc, Incarnation, KeyspaceId, TableId, VnodeId};
    use proptest::prelude::*;

    use super::*;

    fn batch(name: u8, writes: u64) -> KeptBatch {
        let actor = Actor { node: NodeId(2), incarnation: Incarnation(3) };
        let one = |counter| KeptWrite {
            row: RowKey {
                keyspace: KeyspaceId(1),
                table: TableId(300),
                vnode: VnodeId(7),
                key: Bytes::from_static(b"key"),
            },
            delta: Delta {
                entry: Entry {
                    dot: Dot::new(actor, counter),
                    stamp: Hlc(5),
                    expires: None,
                    value: Some(Bytes::from_static(b"v")),
                },
                context: Context::default(),
            },
            write_id: (counter == 1).then_some(WriteId::from_bytes([0xab; 16])),
        };
        KeptBatch {
            id: BatchId::from_bytes([name; 16]),
            holders: vec![NodeId(4), NodeId(300)],
            created: Millis(300),
            writes: (1..=writes).map(one).collect(),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(
            hex(&batch(1, 2).to_bytes()),
            "01ac020204ac02020101ac0207036b6579abababababababababababababababab1411020000000000000003010000000000000005760001ac0207036b6579141102000000000000000302000000000000000576"
        );
    }

    #[test]
    fn bytes_read_back() {
        for writes in [0, 1, 5] {
            let batch = batch(9, writes);
            assert_eq!(KeptBatch::from_bytes(batch.id, &batch.to_bytes().into()), Ok(batch));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_and_damaged_bytes_are_errors_or_the_only_spelling(
            bytes: Vec<u8>, cut in 0usize..60, flip in 0usize..800,
        ) {
            let mut damaged = batch(1, 2).to_bytes();
            damaged.truncate(damaged.len().saturating_sub(cut));
            if let Some(byte) = damaged.get_mut(flip / 8) {
                *byte ^= 1 << (flip % 8);
            }
            for bytes in [bytes, damaged].map(Bytes::from) {
                if let Ok(read) = KeptBatch::from_bytes(batch(1, 0).id, &bytes) {
                    prop_assert_eq!(read.to_bytes(), bytes);
                }
            }
        }
    }

    fn both(limit: u64, check: impl Fn(&Batches)) {
        check(&Batches::in_memory(&MemMetadata::new(), limit).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let metadata = SledMetadata::open(dir.path()).unwrap();
        check(&Batches::on_sled(&metadata, limit).unwrap());
    }

    #[test]
    fn batches_are_kept_once_and_paged_in_their_order() {
        both(MAX_BATCH_BYTES, |log| {
            for name in [3, 1, 2, 1] {
                log.keep(&batch(name, 2)).unwrap();
            }
            let names = |page: Vec<Result<KeptBatch, BatchError>>| -> Vec<u8> {
                page.into_iter().map(|batch| batch.unwrap().id.to_bytes()[0]).collect()
            };
            assert_eq!(names(log.page(None, 2, usize::MAX).unwrap()), [1, 2]);
            let last = Some(batch(2, 0).id);
            assert_eq!(names(log.page(last, 9, 1).unwrap()), [3]);
            assert_eq!(log.batch(batch(1, 0).id).unwrap(), Some(batch(1, 2)));
            log.forget(&[batch(1, 0).id, batch(7, 0).id]).unwrap();
            assert_eq!(log.batch(batch(1, 0).id).unwrap(), None);
            let counters = log.counters();
            assert_eq!((counters.batches, counters.kept), (2, 3));
        });
    }

    #[test]
    fn beyond_the_limit_batches_are_refused_until_others_are_whole() {
        let limit = 2 * (KEY_BYTES + batch(1, 2).to_bytes().len() as u64);
        both(limit, |log| {
            log.keep(&batch(1, 2)).unwrap();
            log.keep(&batch(2, 2)).unwrap();
            log.keep(&batch(2, 2)).unwrap();
            assert!(matches!(log.keep(&batch(3, 2)), Err(BatchError::Full { .. })));
            log.forget(&[batch(1, 2).id]).unwrap();
            log.keep(&batch(3, 2)).unwrap();
            assert_eq!((log.counters().refused, log.counters().bytes), (1, limit));
        });
    }

    #[test]
    fn what_was_flushed_is_there_after_a_power_cut_and_counted() {
        let metadata = MemMetadata::new();
        let log = Batches::in_memory(&metadata, MAX_BATCH_BYTES).unwrap();
        log.keep(&batch(1, 2)).unwrap();
        log.flush().unwrap();
        log.keep(&batch(2, 2)).unwrap();
        let after = Batches::in_memory(&metadata.crash_clone(), MAX_BATCH_BYTES).unwrap();
        assert_eq!(after.batch(batch(1, 2).id).unwrap(), Some(batch(1, 2)));
        assert_eq!(after.batch(batch(2, 2).id).unwrap(), None);
        assert_eq!(after.counters().batches, 1);
        assert!(after.counters().bytes > KEY_BYTES);
    }
}
