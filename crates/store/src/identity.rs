//! Whose data directory this is, and which life of the node it holds.
//!
//! Two records. The *identity* never changes: cluster, node, datacenter, ring; it is kept in the
//! metadata and in the storage engine, because either may be replaced alone. The *life* changes
//! with every start.
//!
//! # Which incarnation a start begins with (rule 3)
//!
//! Every start draws a random number, its *life*, and writes it into the storage engine and the
//! metadata. A start keeps the incarnation of the last one only if the last one was closed in
//! order, by the engine's account and by the metadata's, both name the same life, and no
//! dot was given out that had not come back (rule 14). So a new incarnation begins after a crash,
//! when either side was wiped, and when either was put back from a copy of another life. It is
//! durable before the start returns, so before its first dot.
//!
//! The engine learns of a life first, and of the one that the metadata name until they learn of it
//! too. So a start that is cut off between the two is not taken for one whose data were lost.
//!
//! A copy of a whole, tidily closed node that is put back cannot be told from the node itself;
//! whoever restores one calls [`crate::require_new_incarnation`].
//!
//! Rejected: keeping the incarnation after a crash where every write is synced. A read or a pull
//! may carry a dot to another replica before the sync of its write is done; after a power cut in
//! between, the same dot would be minted again for something else, and one of the two be lost.

use std::path::Path;

use meridian_types::varint::{Reader, put_bytes, put_u64};
use meridian_types::{Incarnation, Mutation, NodeId, broken};

use crate::error::{ForeignDirectory, StoreError};
use crate::metadata::Metadata;
use crate::options::StoreOptions;

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name or id.
    pub cluster: String,
    /// The node's number, which its dots carry.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// The datacenter that it is in.
    pub dc: String,
    /// The rack that it is in. It may be moved to another one.
    pub rack: String,
}

/// An identity with the ring that the data is placed by, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    identity: Identity,
    partitioner: String,
    vnode_bits: u32,
}

const IDENTITY_VERSION: u8 = 1;
const LIFE_VERSION: u8 = 1;
const LIFE_CLOSED: u8 = 0x01;
const LIFE_RESERVED: u8 = 0x02;
const LIFE_SYNCED: u8 = 0x04;

const IDENTITY_KEY: &[u8] = b"store/identity";
const LIFE_KEY: &[u8] = b"store/life";

impl Record {
    pub(crate) fn new(identity: Identity, options: &StoreOptions) -> Self {
        let partitioner = options.partitioner.name().to_owned();
        Self { identity, partitioner, vnode_bits: options.vnode_bits }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Self { identity, partitioner, vnode_bits } = self;
        let mut out = vec![IDENTITY_VERSION];
        put_bytes(&mut out, identity.cluster.as_bytes());
        put_u64(&mut out, u64::from(identity.node.0));
        put_bytes(&mut out, identity.node_name.as_bytes());
        put_bytes(&mut out, identity.dc.as_bytes());
        put_bytes(&mut out, identity.rack.as_bytes());
        put_bytes(&mut out, partitioner.as_bytes());
        put_u64(&mut out, u64::from(*vnode_bits));
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let mut reader = Reader::new(bytes);
            check_version(&mut reader, "identity", IDENTITY_VERSION)?;
            let record = Self {
                identity: Identity {
                    cluster: text(&mut reader, "cluster")?,
                    node: NodeId(reader.u32("node")?),
                    node_name: text(&mut reader, "name of the node")?,
                    dc: text(&mut reader, "datacenter")?,
                    rack: text(&mut reader, "rack")?,
                },
                partitioner: text(&mut reader, "partitioner")?,
                vnode_bits: reader.u32("number of vnodes")?,
            };
            reader.finish()?;
            Ok(record)
        };
        read().map_err(|cause| StoreError::record("identity", &cause))
    }

    /// Refuses a directory that was recorded with something else. The rack may differ.
    pub(crate) fn check(&self, recorded: &Self, dir: &Path) -> Result<(), StoreError> {
        let node =
            |record: &Self| format!("{} `{}`", record.identity.node, record.identity.node_name);
        let facts: [(&'static str, String, String); 5] = [
            (
                "cluster",
                format!("`{}`", recorded.identity.cluster),
                format!("`{}`", self.identity.cluster),
            ),
            ("node", node(recorded), node(self)),
            (
                "datacenter",
                format!("`{}`", recorded.identity.dc),
                format!("`{}`", self.identity.dc),
            ),
            ("partitioner", recorded.partitioner.clone(), self.partitioner.clone()),
            ("vnode_bits", recorded.vnode_bits.to_string(), self.vnode_bits.to_string()),
        ];
        match facts.into_iter().find(|(_, recorded, given)| recorded != given) {
            None => Ok(()),
            Some((what, recorded, given)) => {
                let dir = dir.to_owned();
                Err(StoreError::Foreign(Box::new(ForeignDirectory { dir, what, recorded, given })))
            }
        }
    }
}

/// The last start, as the metadata has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) incarnation: Incarnation,
    /// The start's own random number.
    pub(crate) life: u64,
    pub(crate) closed: bool,
    /// Whether dots were reserved when it was closed: the next start does not know which.
    pub(crate) reserved: bool,
    /// Whether every write was synced before it was acknowledged: then a crash takes nothing back.
    pub(crate) synced: bool,
}

impl Life {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let closed = if self.closed { LIFE_CLOSED } else { 0 };
        let reserved = if self.reserved { LIFE_RESERVED } else { 0 };
        let synced = if self.synced { LIFE_SYNCED } else { 0 };
        let mut out = vec![LIFE_VERSION, closed | reserved | synced];
        out.extend_from_slice(&self.incarnation.0.to_be_bytes());
        out.extend_from_slice(&self.life.to_be_bytes());
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let mut reader = Reader::new(bytes);
            check_version(&mut reader, "life", LIFE_VERSION)?;
            let flags = reader.u8("flags of a life")?;
            if flags & !(LIFE_CLOSED | LIFE_RESERVED | LIFE_SYNCED) != 0 {
                return Err(reader.invalid("flags of a life"));
            }
            let incarnation = Incarnation(reader.fixed_u64("incarnation")?);
            let life = reader.fixed_u64("life")?;
            reader.finish()?;
            let (closed, reserved) = (flags & LIFE_CLOSED != 0, flags & LIFE_RESERVED != 0);
            let synced = flags & LIFE_SYNCED != 0;
            Ok(Self { incarnation, life, closed, reserved, synced })
        };
        read().map_err(|cause| StoreError::record("life", &cause))
    }

    pub(crate) fn load(metadata: &dyn Metadata) -> Result<Option<Self>, StoreError> {
        metadata.get(LIFE_KEY)?.map(|bytes| Self::from_bytes(&bytes)).transpose()
    }

    /// Makes this the last start, durably.
    pub(crate) fn save(self, metadata: &dyn Metadata) -> Result<(), StoreError> {
        metadata.put(LIFE_KEY, &self.to_bytes())?;
        Ok(metadata.flush()?)
    }

    /// The life of a new start. `engine_life` is what the storage engine names, and `engine_closed`
    /// whether it was closed in order.
    pub(crate) fn next(
        last: Option<Self>,
        engine_life: Option<u64>,
        engine_closed: bool,
        fresh: Incarnation,
    ) -> Self {
        let unbroken = last.filter(|last| {
            let in_order = last.closed && !last.reserved && engine_closed;
            in_order && engine_life == Some(last.life) || broken(Mutation::ReuseIncarnation)
        });
        let incarnation = unbroken.map_or(fresh, |last| last.incarnation);
        Self { incarnation, life: fresh.0, closed: false, reserved: false, synced: false }
    }
}

/// Makes the next start of a node begin a new incarnation. To be called by whoever puts back a copy
/// of a node's data: a copy of a tidily closed node cannot be told from the node itself, and would
/// mint dots again that the node has minted since.
///
/// # Errors
/// The metadata cannot be written; the copy must not be started.
pub fn require_new_incarnation(metadata: &dyn Metadata) -> Result<(), StoreError> {
    metadata.remove(LIFE_KEY)?;
    Ok(metadata.flush()?)
}

pub(crate) fn load_record(metadata: &dyn Metadata) -> Result<Option<Record>, StoreError> {
    metadata.get(IDENTITY_KEY)?.map(|bytes| Record::from_bytes(&bytes)).transpose()
}

/// Not durable before the metadata's next flush.
pub(crate) fn save_record(metadata: &dyn Metadata, record: &Record) -> Result<(), StoreError> {
    Ok(metadata.put(IDENTITY_KEY, &record.to_bytes())?)
}

fn check_version(
    reader: &mut Reader<'_>,
    what: &'static str,
    expected: u8,
) -> Result<(), meridian_crdt::DecodeError> {
    match reader.u8(what)? {
        version if version == expected => Ok(()),
        version => Err(meridian_crdt::DecodeError::UnknownVersion { what, version }),
    }
}

fn text(reader: &mut Reader<'_>, what: &'static str) -> Result<String, meridian_crdt::DecodeError> {
    let bytes = reader.bytes(what)?;
    String::from_utf8(bytes.to_vec()).ok().ok_or_else(|| reader.invalid(what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        let identity = Identity {
            cluster: "c".to_owned(),
            node: NodeId(300),
            node_name: "us-1".to_owned(),
            dc: "us".to_owned(),
            rack: "a".to_owned(),
        };
        Record::new(identity, &StoreOptions::default())
    }

    #[test]
    fn golden_bytes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(&record().to_bytes()),
            "010163ac020475732d31027573016\
             10c736c6f742d6d75726d75723308"
        );
        let incarnation = Incarnation(0x0102);
        let life = Life { incarnation, life: 0x0304, closed: true, reserved: false, synced: false };
        assert_eq!(hex(&life.to_bytes()), "010100000000000001020000000000000304");
        let reserved = Life { reserved: true, ..life };
        assert_eq!(hex(&reserved.to_bytes()), "010300000000000001020000000000000304");
        assert_eq!(Life::from_bytes(&reserved.to_bytes()).unwrap(), reserved);
        let synced = Life { synced: true, ..life };
        assert_eq!(hex(&synced.to_bytes()), "010500000000000001020000000000000304");
        assert_eq!(Life::from_bytes(&synced.to_bytes()).unwrap(), synced);
        assert_eq!(Life::from_bytes(&life.to_bytes()).unwrap(), life);
        assert_eq!(Record::from_bytes(&record().to_bytes()).unwrap(), record());
    }

    proptest! {
        #[test]
        fn damaged_records_are_errors_or_their_only_spelling(cut in 0usize..40, bit in 0usize..320) {
            let mut bytes = record().to_bytes();
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            if let Ok(read) = Record::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes.clone());
            }
            if let Ok(read) = Life::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn the_incarnation_is_kept_only_over_an_unbroken_tidy_stop() {
        let fresh = Incarnation(9);
        let last = Life {
            incarnation: Incarnation(1),
            life: 5,
            closed: true,
            reserved: false,
            synced: false,
        };
        let next = |last, engine, closed| Life::next(last, engine, closed, fresh).incarnation.0;
        assert_eq!(next(Some(last), Some(5), true), 1);
        assert_eq!(next(Some(Life { closed: false, ..last }), Some(5), true), 9, "a crash");
        let reserved = Life { reserved: true, ..last };
        assert_eq!(next(Some(reserved), Some(5), true), 9, "dots were given out");
        assert_eq!(next(Some(last), Some(5), false), 9, "a crash of the engine");
        assert_eq!(next(Some(last), Some(4), true), 9, "an older copy of the engine");
        assert_eq!(next(Some(last), None, true), 9, "the engine was wiped");
        assert_eq!(next(None, Some(5), true), 9, "the metadata was wiped");
        assert_eq!(next(None, None, true), 9, "a first start");
    }
}
