//! One atomic change of the manifest: a list of tagged changes. Tags are stored: do not renumber.

use bytes::Bytes;

use crate::blob::format::{BlobRecord, BlobShare, decode_shares, put_shares};
use crate::coding::{Decoder, Malformed, put_bytes, put_varint};
use crate::key::Seqno;
use crate::options::{Blobs, Compaction, Compression, LEVELS, Tiers, TreeConfig};

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
    pub(crate) bottom_compression: Option<Compression>,
    pub(crate) blobs: Option<Blobs>,
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
            bottom_compression: config.bottom_compression,
            blobs: config.blobs,
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
            bottom_compression: self.bottom_compression,
            blobs: self.blobs,
            ..TreeConfig::new(self.name.clone())
        }
    }
}

/// The times of a table's entries, in milliseconds since 1970; 0 where nobody told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableTimes {
    /// When the newest of its entries was flushed.
    pub(crate) written: u64,
    /// When the file was made.
    pub(crate) made: u64,
    /// Entries with an expiry.
    pub(crate) expiring: u64,
    pub(crate) earliest_expiry: u64,
    pub(crate) latest_expiry: u64,
}

impl TableTimes {
    /// Counts an entry that expires.
    pub(crate) fn expires(&mut self, at: u64) {
        self.earliest_expiry = if self.expiring == 0 { at } else { self.earliest_expiry.min(at) };
        self.latest_expiry = self.latest_expiry.max(at);
        self.expiring += 1;
    }

    pub(crate) fn decode(d: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            written: d.varint()?,
            made: d.varint()?,
            expiring: d.varint()?,
            earliest_expiry: d.varint()?,
            latest_expiry: d.varint()?,
        })
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
    pub(crate) times: TableTimes,
    /// The blob files that it refers to, sorted.
    pub(crate) blobs: Vec<BlobShare>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    CreateTree(TreeRecord),
    /// The settings of a tree from now on.
    ConfigureTree(TreeRecord),
    DropTree {
        tree: u32,
    },
    AddTable {
        tree: u32,
        table: TableRecord,
    },
    AddBlob {
        tree: u32,
        blob: BlobRecord,
    },
    RemoveBlob {
        tree: u32,
        blob: u64,
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

/// Versions 1 and 2: without compression of the bottom and blob files.
const CREATE_TREE_2: u8 = 1;
const DROP_TREE: u8 = 2;
/// Version 1: without times.
const ADD_TABLE_1: u8 = 3;
const REMOVE_TABLE: u8 = 4;
const MOVE_TABLE: u8 = 5;
const FLUSHED: u8 = 6;
const WAL_FLOOR: u8 = 7;
const NEXT_IDS: u8 = 8;
const CLOSED: u8 = 9;
/// Version 2: without blob files.
const ADD_TABLE_2: u8 = 10;
/// Version 2, as [`CREATE_TREE_2`].
const CONFIGURE_TREE_2: u8 = 11;
const CREATE_TREE: u8 = 12;
const CONFIGURE_TREE: u8 = 13;
const ADD_TABLE: u8 = 14;
const ADD_BLOB: u8 = 15;
const REMOVE_BLOB: u8 = 16;

const LEVELED: u8 = 1;
const SIZE_TIERED: u8 = 2;
const TIME_WINDOW: u8 = 3;
const HYBRID: u8 = 4;

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
        Change::ConfigureTree(tree) => {
            out.push(CONFIGURE_TREE);
            encode_tree(out, tree);
        }
        Change::DropTree { tree } => tagged(DROP_TREE, &[u64::from(*tree)]),
        Change::AddTable { tree, table } => {
            tagged(ADD_TABLE, &[u64::from(*tree)]);
            encode_table(out, table);
        }
        Change::AddBlob { tree, blob } => {
            tagged(ADD_BLOB, &[u64::from(*tree), blob.id, blob.bytes]);
            out.extend_from_slice(&blob.digest);
        }
        Change::RemoveBlob { tree, blob } => tagged(REMOVE_BLOB, &[u64::from(*tree), *blob]),
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
    encode_compression(out, tree.compression);
    encode_compaction(out, tree.compaction);
    out.push(u8::from(tree.bottom_compression.is_some()));
    if let Some(compression) = tree.bottom_compression {
        encode_compression(out, compression);
    }
    out.push(u8::from(tree.blobs.is_some()));
    if let Some(Blobs { threshold, garbage_percent, oldest_percent }) = tree.blobs {
        put_varint(out, threshold as u64);
        out.extend_from_slice(&[garbage_percent, oldest_percent]);
    }
}

fn encode_compression(out: &mut Vec<u8>, compression: Compression) {
    let (kind, level) = match compression {
        Compression::None => (0, 0),
        Compression::Lz4 => (1, 0),
        Compression::Snappy => (2, 0),
        Compression::Zstd(level) => (3, level),
        Compression::ZstdTrained(level) => (4, level),
    };
    out.push(kind);
    out.extend_from_slice(&level.to_le_bytes());
}

fn encode_compaction(out: &mut Vec<u8>, compaction: Compaction) {
    let (kind, tiers, numbers) = match compaction {
        Compaction::Leveled { l0_files, l1_bytes, factor } => {
            (LEVELED, None, vec![l0_files as u64, l1_bytes, factor])
        }
        Compaction::SizeTiered(tiers) => (SIZE_TIERED, Some(tiers), Vec::new()),
        Compaction::TimeWindow { window_ms, tiers } => (TIME_WINDOW, Some(tiers), vec![window_ms]),
        Compaction::Hybrid { tiers, run_bytes, factor } => {
            (HYBRID, Some(tiers), vec![run_bytes, factor])
        }
    };
    out.push(kind);
    if let Some(tiers) = tiers {
        let Tiers { min_runs, max_runs, low_percent, high_percent, small_bytes } = tiers;
        for number in [min_runs as u64, max_runs as u64, low_percent, high_percent, small_bytes] {
            put_varint(out, number);
        }
    }
    for number in numbers {
        put_varint(out, number);
    }
}

fn encode_table(out: &mut Vec<u8>, table: &TableRecord) {
    put_varint(out, table.id);
    out.push(table.level);
    put_varint(out, table.bytes);
    out.extend_from_slice(&table.digest);
    put_bytes(out, &table.smallest);
    put_bytes(out, &table.largest);
    let times = &table.times;
    for number in [
        table.min_seqno,
        table.max_seqno,
        table.entries,
        table.deletes,
        times.written,
        times.made,
        times.expiring,
        times.earliest_expiry,
        times.latest_expiry,
    ] {
        put_varint(out, number);
    }
    put_shares(out, &table.blobs);
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
        CREATE_TREE_2 => Change::CreateTree(decode_tree_2(d)?),
        CREATE_TREE => Change::CreateTree(decode_tree(d)?),
        DROP_TREE => Change::DropTree { tree: d.varint_u32()? },
        CONFIGURE_TREE_2 => Change::ConfigureTree(decode_tree_2(d)?),
        CONFIGURE_TREE => Change::ConfigureTree(decode_tree(d)?),
        ADD_BLOB => {
            let (tree, id) = (d.varint_u32()?, d.varint()?);
            let blob = BlobRecord { id, bytes: d.varint()?, digest: d.digest()? };
            Change::AddBlob { tree, blob }
        }
        REMOVE_BLOB => Change::RemoveBlob { tree: d.varint_u32()?, blob: d.varint()? },
        ADD_TABLE_1 => Change::AddTable { tree: d.varint_u32()?, table: decode_table(d)? },
        kind @ (ADD_TABLE_2 | ADD_TABLE) => {
            let (tree, mut table) = (d.varint_u32()?, decode_table(d)?);
            table.times = TableTimes::decode(d)?;
            if kind == ADD_TABLE {
                table.blobs = decode_shares(d)?;
            }
            Change::AddTable { tree, table }
        }
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

pub(crate) fn level_of(number: u64) -> Result<u8, Malformed> {
    u8::try_from(number).ok().filter(|level| usize::from(*level) < LEVELS).ok_or(Malformed)
}

fn string(d: &mut Decoder<'_>) -> Result<String, Malformed> {
    String::from_utf8(d.bytes()?.to_vec()).map_err(|_cause| Malformed)
}

fn decode_tree_2(d: &mut Decoder<'_>) -> Result<TreeRecord, Malformed> {
    Ok(TreeRecord {
        id: d.varint_u32()?,
        name: string(d)?,
        merge: string(d)?,
        memtable_bytes: d.varint()?,
        block_bytes: d.varint()?,
        bloom_bits: d.u8()?,
        compression: decode_compression(d)?,
        compaction: decode_compaction(d)?,
        bottom_compression: None,
        blobs: None,
    })
}

fn decode_tree(d: &mut Decoder<'_>) -> Result<TreeRecord, Malformed> {
    let mut tree = decode_tree_2(d)?;
    if decode_flag(d)? {
        tree.bottom_compression = Some(decode_compression(d)?);
    }
    if decode_flag(d)? {
        let threshold = d.varint_len()?;
        let (garbage_percent, oldest_percent) = (d.u8()?, d.u8()?);
        tree.blobs = Some(Blobs { threshold, garbage_percent, oldest_percent });
    }
    Ok(tree)
}

fn decode_flag(d: &mut Decoder<'_>) -> Result<bool, Malformed> {
    match d.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn decode_compression(d: &mut Decoder<'_>) -> Result<Compression, Malformed> {
    let kind = d.u8()?;
    let level = i32::from_le_bytes(d.u32()?.to_le_bytes());
    Ok(match kind {
        0 => Compression::None,
        1 => Compression::Lz4,
        2 => Compression::Snappy,
        3 => Compression::Zstd(level),
        4 => Compression::ZstdTrained(level),
        _ => return Err(Malformed),
    })
}

fn decode_compaction(d: &mut Decoder<'_>) -> Result<Compaction, Malformed> {
    Ok(match d.u8()? {
        LEVELED => Compaction::Leveled {
            l0_files: d.varint_len()?,
            l1_bytes: d.varint()?,
            factor: d.varint()?,
        },
        SIZE_TIERED => Compaction::SizeTiered(decode_tiers(d)?),
        TIME_WINDOW => {
            let tiers = decode_tiers(d)?;
            Compaction::TimeWindow { window_ms: d.varint()?, tiers }
        }
        HYBRID => {
            let tiers = decode_tiers(d)?;
            Compaction::Hybrid { tiers, run_bytes: d.varint()?, factor: d.varint()? }
        }
        _ => return Err(Malformed),
    })
}

fn decode_tiers(d: &mut Decoder<'_>) -> Result<Tiers, Malformed> {
    Ok(Tiers {
        min_runs: d.varint_len()?,
        max_runs: d.varint_len()?,
        low_percent: d.varint()?,
        high_percent: d.varint()?,
        small_bytes: d.varint()?,
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
        times: TableTimes::default(),
        blobs: Vec::new(),
    })
}
