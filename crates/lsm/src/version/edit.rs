//! One atomic change of the manifest: a list of tagged changes. Tags are stored: do not renumber.

use bytes::Bytes;

use crate::coding::{Decoder, Malformed, put_bytes, put_varint};
use crate::key::Seqno;
use crate::options::{Compaction, Compression, LEVELS, TreeConfig};

/// What the manifest remembers of a tree's settings, so that it can be opened by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeRecord {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// The merge operator's name; empty for none.
    pub(crate) merge: String,
    pub(crate) memtable_bytes: u64,
    pub(crate) block_bytes: u64,
    pub(crate) bloom_bits: u8,
    pub(crate) compression: Compression,
    pub(crate) compaction: Compaction,
}

impl TreeRecord {
    pub(crate) fn new(id: u32, config: &TreeConfig) -> Self {
        Self {
            id,
            name: config.name.clone(),
            merge: config.merge_name().to_owned(),
            memtable_bytes: config.memtable_bytes as u64,
            block_bytes: config.block_bytes as u64,
            bloom_bits: config.bloom_bits_per_key,
            compression: config.compression,
            compaction: config.compaction,
        }
    }

    /// The settings to open the tree with when the caller gave none.
    pub(crate) fn config(&self) -> TreeConfig {
        let bytes = |stored: u64| usize::try_from(stored).unwrap_or(usize::MAX);
        TreeConfig {
            memtable_bytes: bytes(self.memtable_bytes),
            block_bytes: bytes(self.block_bytes),
            bloom_bits_per_key: self.bloom_bits,
            compression: self.compression,
            compaction: self.compaction,
            ..TreeConfig::new(self.name.clone())
        }
    }
}

/// What the manifest knows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableRecord {
    pub(crate) id: u64,
    pub(crate) level: u8,
    pub(crate) bytes: u64,
    /// BLAKE3 of the whole file.
    pub(crate) digest: [u8; 32],
    pub(crate) smallest: Bytes,
    pub(crate) largest: Bytes,
    pub(crate) min_seqno: Seqno,
    pub(crate) max_seqno: Seqno,
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    CreateTree(TreeRecord),
    DropTree {
        tree: u32,
    },
    AddTable {
        tree: u32,
        table: TableRecord,
    },
    RemoveTable {
        tree: u32,
        table: u64,
    },
    MoveTable {
        tree: u32,
        table: u64,
        level: u8,
    },
    /// Everything of the tree up to `seqno` is in its tables.
    Flushed {
        tree: u32,
        seqno: Seqno,
    },
    /// Segments below are not needed; `last` is at least every seqno in them.
    WalFloor {
        segment: u64,
        last: Seqno,
    },
    /// Ids below were used.
    NextIds {
        table: u64,
        tree: u32,
    },
    /// The database was closed when the log's last segment had this many bytes: vouches for them
    /// and for the changes before it.
    Closed {
        segment: u64,
        bytes: u64,
    },
}

const CREATE_TREE: u8 = 1;
const DROP_TREE: u8 = 2;
const ADD_TABLE: u8 = 3;
const REMOVE_TABLE: u8 = 4;
const MOVE_TABLE: u8 = 5;
const FLUSHED: u8 = 6;
const WAL_FLOOR: u8 = 7;
const NEXT_IDS: u8 = 8;
const CLOSED: u8 = 9;

pub(crate) fn encode(changes: &[Change]) -> Vec<u8> {
    let mut out = Vec::new();
    for change in changes {
        encode_one(&mut out, change);
    }
    out
}

fn encode_one(out: &mut Vec<u8>, change: &Change) {
    let mut tagged = |tag: u8, numbers: &[u64]| {
        out.push(tag);
        for number in numbers {
            put_varint(out, *number);
        }
    };
    match change {
        Change::CreateTree(tree) => {
            out.push(CREATE_TREE);
            encode_tree(out, tree);
        }
        Change::DropTree { tree } => tagged(DROP_TREE, &[u64::from(*tree)]),
        Change::AddTable { tree, table } => {
            tagged(ADD_TABLE, &[u64::from(*tree)]);
            encode_table(out, table);
        }
        Change::RemoveTable { tree, table } => tagged(REMOVE_TABLE, &[u64::from(*tree), *table]),
        Change::MoveTable { tree, table, level } => {
            tagged(MOVE_TABLE, &[u64::from(*tree), *table, u64::from(*level)]);
        }
        Change::Flushed { tree, seqno } => tagged(FLUSHED, &[u64::from(*tree), *seqno]),
        Change::WalFloor { segment, last } => tagged(WAL_FLOOR, &[*segment, *last]),
        Change::NextIds { table, tree } => tagged(NEXT_IDS, &[*table, u64::from(*tree)]),
        Change::Closed { segment, bytes } => tagged(CLOSED, &[*segment, *bytes]),
    }
}

fn encode_tree(out: &mut Vec<u8>, tree: &TreeRecord) {
    put_varint(out, u64::from(tree.id));
    put_bytes(out, tree.name.as_bytes());
    put_bytes(out, tree.merge.as_bytes());
    put_varint(out, tree.memtable_bytes);
    put_varint(out, tree.block_bytes);
    out.push(tree.bloom_bits);
    let (kind, level) = match tree.compression {
        Compression::None => (0, 0),
        Compression::Lz4 => (1, 0),
        Compression::Snappy => (2, 0),
        Compression::Zstd(level) => (3, level),
    };
    out.push(kind);
    out.extend_from_slice(&level.to_le_bytes());
    let Compaction::Leveled { l0_files, l1_bytes, factor } = tree.compaction;
    out.push(1);
    put_varint(out, l0_files as u64);
    put_varint(out, l1_bytes);
    put_varint(out, factor);
}

fn encode_table(out: &mut Vec<u8>, table: &TableRecord) {
    put_varint(out, table.id);
    out.push(table.level);
    put_varint(out, table.bytes);
    out.extend_from_slice(&table.digest);
    put_bytes(out, &table.smallest);
    put_bytes(out, &table.largest);
    for number in [table.min_seqno, table.max_seqno, table.entries, table.deletes] {
        put_varint(out, number);
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Change>, Malformed> {
    let mut decoder = Decoder::new(bytes);
    let mut changes = Vec::new();
    while !decoder.is_empty() {
        changes.push(decode_one(&mut decoder)?);
    }
    Ok(changes)
}

fn decode_one(d: &mut Decoder<'_>) -> Result<Change, Malformed> {
    Ok(match d.u8()? {
        CREATE_TREE => Change::CreateTree(decode_tree(d)?),
        DROP_TREE => Change::DropTree { tree: d.varint_u32()? },
        ADD_TABLE => Change::AddTable { tree: d.varint_u32()?, table: decode_table(d)? },
        REMOVE_TABLE => Change::RemoveTable { tree: d.varint_u32()?, table: d.varint()? },
        MOVE_TABLE => {
            let (tree, table) = (d.varint_u32()?, d.varint()?);
            Change::MoveTable { tree, table, level: level_of(d.varint()?)? }
        }
        FLUSHED => Change::Flushed { tree: d.varint_u32()?, seqno: d.varint()? },
        WAL_FLOOR => Change::WalFloor { segment: d.varint()?, last: d.varint()? },
        NEXT_IDS => Change::NextIds { table: d.varint()?, tree: d.varint_u32()? },
        CLOSED => Change::Closed { segment: d.varint()?, bytes: d.varint()? },
        _ => return Err(Malformed),
    })
}

fn level_of(number: u64) -> Result<u8, Malformed> {
    u8::try_from(number).ok().filter(|level| usize::from(*level) < LEVELS).ok_or(Malformed)
}

fn string(d: &mut Decoder<'_>) -> Result<String, Malformed> {
    String::from_utf8(d.bytes()?.to_vec()).map_err(|_cause| Malformed)
}

fn decode_tree(d: &mut Decoder<'_>) -> Result<TreeRecord, Malformed> {
    let id = d.varint_u32()?;
    let (name, merge) = (string(d)?, string(d)?);
    let (memtable_bytes, block_bytes, bloom_bits) = (d.varint()?, d.varint()?, d.u8()?);
    let kind = d.u8()?;
    let level = i32::from_le_bytes(d.u32()?.to_le_bytes());
    let compression = match kind {
        0 => Compression::None,
        1 => Compression::Lz4,
        2 => Compression::Snappy,
        3 => Compression::Zstd(level),
        _ => return Err(Malformed),
    };
    let compaction = match d.u8()? {
        1 => Compaction::Leveled {
            l0_files: d.varint_len()?,
            l1_bytes: d.varint()?,
            factor: d.varint()?,
        },
        _ => return Err(Malformed),
    };
    Ok(TreeRecord {
        id,
        name,
        merge,
        memtable_bytes,
        block_bytes,
        bloom_bits,
        compression,
        compaction,
    })
}

fn decode_table(d: &mut Decoder<'_>) -> Result<TableRecord, Malformed> {
    Ok(TableRecord {
        id: d.varint()?,
        level: level_of(u64::from(d.u8()?))?,
        bytes: d.varint()?,
        digest: d.digest()?,
        smallest: Bytes::copy_from_slice(d.bytes()?),
        largest: Bytes::copy_from_slice(d.bytes()?),
        min_seqno: d.varint()?,
        max_seqno: d.varint()?,
        entries: d.varint()?,
        deletes: d.varint()?,
    })
}
