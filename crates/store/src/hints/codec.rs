//! The stored bytes of hints and intents. `docs/formats/store.md` describes them.

use bytes::Bytes;
use meridian_crdt::{Actor, Context, DecodeError, Delta, Dot};
use meridian_types::varint::{Reader, put_bytes, put_u64};
use meridian_types::{
    Hlc, Incarnation, KeyspaceId, Millis, NodeId, RowKey, TableId, VnodeId, WriteId,
};

use super::{Hint, Intent};

const HINT_VERSION: u8 = 1;
const INTENT_VERSION: u8 = 2;
/// Had neither a context nor a dot.
const INTENT_WITHOUT_CONTEXT: u8 = 1;

/// A write id follows the row.
const HINT_WRITE_ID: u8 = 0x01;

/// The intent has no value.
const INTENT_DELETES: u8 = 0x01;
/// An expiry follows the stamp.
const INTENT_EXPIRES: u8 = 0x02;
/// The intent replaces what is at the replica that reserves its dot.
const INTENT_OVER_ALL: u8 = 0x04;
/// The dot follows the context.
const INTENT_NAMED: u8 = 0x08;

impl Hint {
    /// The hint's bytes: version, flags, row, creation, write id, and the delta to the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let delta = self.delta.to_bytes();
        let mut out = Vec::with_capacity(64 + self.row.key.len() + delta.len());
        out.push(HINT_VERSION);
        out.push(if self.write_id.is_some() { HINT_WRITE_ID } else { 0 });
        put_row(&mut out, &self.row);
        put_u64(&mut out, self.created.0);
        if let Some(id) = self.write_id {
            out.extend_from_slice(&id.to_bytes());
        }
        out.extend_from_slice(&delta);
        out
    }

    /// Reads a hint back; key and value are views into `bytes`.
    ///
    /// # Errors
    /// Bytes that no hint encodes to.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader, "hint", HINT_VERSION)?;
        let flags = read_flags(&mut reader, HINT_WRITE_ID, "flags of a hint")?;
        let row = read_row(bytes, &mut reader)?;
        let created = Millis(reader.u64("creation of a hint")?);
        let write_id = match flags & HINT_WRITE_ID {
            0 => None,
            _ => Some(read_write_id(&mut reader)?),
        };
        let delta = Delta::from_bytes(&bytes.slice(reader.position()..))?;
        Ok(Self { row, delta, write_id, created })
    }
}

impl Intent {
    /// The intent's bytes: version, flags, row, creation, write id, stamp, expiry, context, dot, and
    /// the value to the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let value = self.value.as_deref().unwrap_or_default();
        let context = self.context.to_bytes();
        let mut out = Vec::with_capacity(96 + self.row.key.len() + context.len() + value.len());
        out.push(INTENT_VERSION);
        let flags = [
            (self.value.is_none(), INTENT_DELETES),
            (self.expires.is_some(), INTENT_EXPIRES),
            (self.over_what_is_here, INTENT_OVER_ALL),
            (self.dot.is_some(), INTENT_NAMED),
        ];
        out.push(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
        put_row(&mut out, &self.row);
        put_u64(&mut out, self.created.0);
        out.extend_from_slice(&self.write_id.to_bytes());
        out.extend_from_slice(&self.stamp.0.to_be_bytes());
        if let Some(at) = self.expires {
            put_u64(&mut out, at.0);
        }
        put_bytes(&mut out, &context);
        if let Some(dot) = self.dot {
            put_u64(&mut out, u64::from(dot.actor.node.0));
            out.extend_from_slice(&dot.actor.incarnation.0.to_be_bytes());
            put_u64(&mut out, dot.counter);
        }
        out.extend_from_slice(value);
        out
    }

    /// Reads an intent back, of this version or the one before; key and value are views into
    /// `bytes`.
    ///
    /// # Errors
    /// Bytes that no intent encodes to.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (version, known) = match reader.u8("intent")? {
            INTENT_WITHOUT_CONTEXT => (INTENT_WITHOUT_CONTEXT, INTENT_DELETES | INTENT_EXPIRES),
            INTENT_VERSION => {
                (INTENT_VERSION, INTENT_DELETES | INTENT_EXPIRES | INTENT_OVER_ALL | INTENT_NAMED)
            }
            version => return Err(DecodeError::UnknownVersion { what: "intent", version }),
        };
        let flags = read_flags(&mut reader, known, "flags of an intent")?;
        let row = read_row(bytes, &mut reader)?;
        let created = Millis(reader.u64("creation of an intent")?);
        let write_id = read_write_id(&mut reader)?;
        let stamp = Hlc(reader.fixed_u64("stamp of an intent")?);
        let expires = match flags & INTENT_EXPIRES {
            0 => None,
            _ => Some(Millis(reader.u64("expiry of an intent")?)),
        };
        let context = match version {
            INTENT_WITHOUT_CONTEXT => Context::default(),
            _ => Context::from_bytes(&reader.shared_bytes(bytes, "context of an intent")?)?,
        };
        let dot = match flags & INTENT_NAMED {
            0 => None,
            _ => Some(read_dot(&mut reader)?),
        };
        let value = bytes.slice(reader.position()..);
        let value = match flags & INTENT_DELETES {
            0 => Some(value),
            _ if value.is_empty() => None,
            _ => return Err(reader.invalid("value of an intent that deletes")),
        };
        let over_what_is_here = flags & INTENT_OVER_ALL != 0;
        Ok(Self { row, value, expires, stamp, context, over_what_is_here, dot, write_id, created })
    }
}

fn read_dot(reader: &mut Reader<'_>) -> Result<Dot, DecodeError> {
    let node = NodeId(reader.u32("node of a dot")?);
    let incarnation = Incarnation(reader.fixed_u64("incarnation of a dot")?);
    match reader.u64("counter of a dot")? {
        0 => Err(reader.invalid("counter of a dot")),
        counter => Ok(Dot::new(Actor { node, incarnation }, counter)),
    }
}

fn check_version(
    reader: &mut Reader<'_>,
    what: &'static str,
    expected: u8,
) -> Result<(), DecodeError> {
    match reader.u8(what)? {
        version if version == expected => Ok(()),
        version => Err(DecodeError::UnknownVersion { what, version }),
    }
}

fn read_flags(reader: &mut Reader<'_>, known: u8, what: &'static str) -> Result<u8, DecodeError> {
    match reader.u8(what)? {
        flags if flags & !known == 0 => Ok(flags),
        _ => Err(reader.invalid(what)),
    }
}

pub(crate) fn put_row(out: &mut Vec<u8>, row: &RowKey) {
    put_u64(out, u64::from(row.keyspace.0));
    put_u64(out, u64::from(row.table.0));
    put_u64(out, u64::from(row.vnode.0));
    put_bytes(out, &row.key);
}

pub(crate) fn read_row(bytes: &Bytes, reader: &mut Reader<'_>) -> Result<RowKey, DecodeError> {
    Ok(RowKey {
        keyspace: KeyspaceId(reader.u32("keyspace of a row")?),
        table: TableId(reader.u32("table of a row")?),
        vnode: VnodeId(reader.u32("vnode of a row")?),
        key: reader.shared_bytes(bytes, "key of a row")?,
    })
}

pub(crate) fn read_write_id(reader: &mut Reader<'_>) -> Result<WriteId, DecodeError> {
    let mut id = [0; 16];
    id.copy_from_slice(reader.take(16, "write id")?);
    Ok(WriteId::from_bytes(id))
}
