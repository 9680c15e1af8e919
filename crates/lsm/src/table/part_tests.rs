//! Tables whose index and filter are in partitions: the bytes of one, what damage to a partition does,
//! and what stays in memory.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_vfs::{FaultFs, Fs, MemFs, Op, read_all};

use super::cache::BlockCache;
use super::cursor::TableCursor;
use super::filter;
use super::format::{self, Handle};
use super::index::{Index, encode_entry};
use super::lookup::Lookup;
use super::metadata::Metadata;
use super::parts::{Parts, encode_part};
use super::reader::{Garbage, Table};
use super::tests::{Entries, hex, write_table, write_table_with};
use crate::error::Error;
use crate::key::{MAX_SEQNO, ValueKind, pack};
use crate::options::{Compression, TreeConfig};
use crate::read::merge_iter::Position;

fn key(number: u32) -> Vec<u8> {
    format!("row-{number:05}").into_bytes()
}

fn value(number: u32) -> Vec<u8> {
    format!("{number}-").repeat(8).into_bytes()
}

/// Every second number.
fn rows(count: u32) -> Entries {
    let tag = std::cmp::Reverse(pack(1, ValueKind::Put));
    let row = |number| ((key(2 * number), tag), value(number));
    (0..count).map(row).collect()
}

fn config() -> TreeConfig {
    TreeConfig { block_bytes: 1 << 10, partition_bytes: 100, ..TreeConfig::new("t") }
}

/// Index and filter of each partition.
fn handles(table: &Table) -> Vec<(Handle, Handle)> {
    let Lookup::Parts(parts) = &table.lookup else { return Vec::new() };
    parts.all().iter().map(|part| (part.index, part.filter)).collect()
}

fn get(table: &Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let mut found = None;
    let flow = table.visit(key, filter::hash(key), MAX_SEQNO, &mut |_, _, value| {
        found = Some(value.to_vec());
        ControlFlow::Break(())
    });
    flow.map(|_ended| found)
}

/// All keys in one direction.
fn scan(table: &Arc<Table>, from: Position<'_>, on: Position<'_>) -> Result<usize, Error> {
    let mut cursor = TableCursor::new(table.clone(), true);
    let mut found = 0;
    cursor.go(from)?;
    while cursor.valid() {
        found += 1;
        cursor.go(on)?;
    }
    Ok(found)
}

#[test]
fn golden_bytes() {
    let entries: Entries = [b"a", b"k"]
        .map(|key| ((key.to_vec(), std::cmp::Reverse(pack(1, ValueKind::Put))), b"v".to_vec()))
        .into();
    let config = TreeConfig {
        compression: Compression::None,
        block_bytes: 1,
        partition_bytes: 0,
        ..TreeConfig::new("t")
    };
    let fs = MemFs::new();
    let table = write_table(&fs, &config, &entries);
    assert_eq!((table.blocks(), table.partitions()), (2, 2));
    let bytes = read_all(&fs, &format::path(Path::new("/t"), 9)).unwrap();
    assert_eq!(
        hex(&bytes),
        "\
         4d52444e535354030001010761760000000001000000000e0000009e1460890600200000\
         0000000000000000000000000000000008000000100100000000000000000000000000c0\
         00000000000000000000000000000000000000000000000000410000004307ae9c016108\
         1700040000003d6dad62000101076b760000000001000000000e000000f99d3e74060200\
         000008000000800000000000000000000000000200000000200000000000000000000000\
         000100000000000000000000000000000000000000000000000000410000003ee609ee01\
         6b76170004000000648c92520161690d1f4a01016bd7010d8d014a010010000000dbc95c\
         bb020000010104020161016b030174090000000000000000000000000002001d0000008c\
         a5c155e40000000000000019000000000000000000000000000000fd0000000000000026\
         0000005b01000000000000f3f78ff84d52444e53535403"
    );
}

/// The table in a file in which these bytes are changed, with a cache of so many bytes.
fn damaged(whole: &[u8], table: &Table, at: u64, cache: u64) -> Result<Arc<Table>, Error> {
    let fs = MemFs::new();
    let dir = Path::new("/t");
    fs.create_dir_all(dir).unwrap();
    let mut bytes = whole.to_vec();
    bytes[usize::try_from(at).unwrap()] ^= 0x10;
    fs.create(&format::path(dir, 9)).unwrap().append(&bytes).unwrap();
    let (cache, garbage) = (Arc::new(BlockCache::new(cache)), Arc::new(Garbage::default()));
    Table::open(&fs, dir, table.record.clone(), cache, garbage).map(Arc::new)
}

#[test]
fn a_damaged_partition_is_an_error_that_says_where_and_nothing_is_missing() {
    const ROWS: u32 = 600;
    let fs = MemFs::new();
    let table = write_table(&fs, &config(), &rows(ROWS));
    let whole = read_all(&fs, &format::path(Path::new("/t"), 9)).unwrap();
    let partitions = handles(&table);
    assert!(partitions.len() > 4, "{partitions:?}");
    for (at, (index, filter)) in partitions.into_iter().enumerate() {
        for (handle, is_filter) in [(index, false), (filter, true)] {
            for byte in [0, u64::from(handle.len) / 2, u64::from(handle.len) - 1] {
                for cache in [0, 1 << 20] {
                    let table = damaged(&whole, &table, handle.offset + byte, cache).unwrap();
                    let told = |cause: Error| match cause {
                        Error::Corruption { file, offset, .. } => {
                            assert_eq!(file, format::path(Path::new("/t"), 9));
                            assert_eq!(offset, handle.offset, "partition {at}");
                        }
                        other => panic!("{other}"),
                    };
                    let mut failed = 0;
                    for number in 0..ROWS {
                        match get(&table, &key(2 * number)) {
                            Ok(found) => assert_eq!(found, Some(value(number)), "{number}"),
                            Err(cause) => {
                                told(cause);
                                failed += 1;
                            }
                        }
                    }
                    assert!(failed > 10 && failed < ROWS / 2, "{failed}");
                    // Scans ask no filter.
                    for (from, on) in
                        [(Position::First, Position::Next), (Position::Last, Position::Prev)]
                    {
                        match scan(&table, from, on) {
                            Ok(found) => assert!(is_filter && found == ROWS as usize),
                            Err(cause) => told(cause),
                        }
                    }
                    told(table.verify().unwrap_err());
                }
            }
        }
    }
}

#[test]
fn a_damaged_top_is_found_when_the_table_is_opened() {
    let fs = MemFs::new();
    let table = write_table(&fs, &config(), &rows(400));
    let whole = read_all(&fs, &format::path(Path::new("/t"), 9)).unwrap();
    let footer = &whole[whole.len() - format::FOOTER..];
    let top = format::Footer::decode(footer).unwrap().index;
    for byte in 0..u64::from(top.len) {
        let told = damaged(&whole, &table, top.offset + byte, 0).unwrap_err();
        assert!(matches!(told, Error::Corruption { offset, .. } if offset == top.offset), "{told}");
    }
}

/// A table on a disk that counts; nothing of it was read yet but what opening reads.
fn counted(rows: &Entries, cache: u64) -> (Arc<Table>, Arc<BlockCache>, FaultFs) {
    let fs = MemFs::new();
    let record = write_table_with(&fs, &config(), rows, 0).record.clone();
    let fs = FaultFs::new(Arc::new(fs));
    let (cache, garbage) = (Arc::new(BlockCache::new(cache)), Arc::new(Garbage::default()));
    let table = Table::open(&fs, Path::new("/t"), record, cache.clone(), garbage).unwrap();
    (Arc::new(table), cache, fs)
}

#[test]
fn partitions_stay_while_there_is_room() {
    const ROWS: u32 = 2000;
    let rows = rows(ROWS);
    let reads_of_all = |table: &Table, fs: &FaultFs, odd: u32| {
        let before = fs.calls(Op::Read);
        for number in 0..ROWS - 1 {
            let found = get(table, &key(2 * number + odd)).unwrap();
            assert_eq!(found, (odd == 0).then(|| value(number)));
        }
        fs.calls(Op::Read) - before
    };
    let wanted = u64::from(ROWS) - 1;
    // Nothing stays: filter, index and block for each.
    let (table, cache, fs) = counted(&rows, 0);
    let top = cache.stats().pinned;
    assert!(table.partitions() > 20 && table.pinned_bytes() == top, "{top}");
    assert!((3 * wanted..3 * wanted + 5).contains(&reads_of_all(&table, &fs, 0)));
    assert!((wanted..wanted + wanted / 10).contains(&reads_of_all(&table, &fs, 1)));
    assert_eq!(cache.stats().pinned, top);
    // Everything stays: each is read once.
    let (table, cache, fs) = counted(&rows, 1 << 20);
    let parts = table.partitions() as u64;
    let blocks = table.blocks() as u64;
    assert_eq!(cache.stats().pinned, top);
    let reads = reads_of_all(&table, &fs, 0);
    assert!((blocks + 2 * parts - 5..=blocks + 2 * parts).contains(&reads), "{reads}");
    assert_eq!(reads_of_all(&table, &fs, 1), 0);
    let all = cache.stats().pinned;
    assert!(all > 2 * top && table.pinned_bytes() == all, "{all} {top}");
    // Some of it stays, and the rest is in the cache like blocks.
    let bound = 4 * (top + all) / 2;
    let (table, cache, fs) = counted(&rows, bound);
    reads_of_all(&table, &fs, 0);
    let stays = cache.stats().pinned;
    assert!(stays > top && stays <= bound / 4, "{top} {stays} {all}");
    drop(table);
    assert_eq!(cache.stats().pinned, 0);
    // Nothing stays, but what was asked for last is in the cache.
    let (table, cache, fs) = counted(&rows, 4 * top);
    let reads_of_one = || {
        let before = fs.calls(Op::Read);
        assert_eq!(get(&table, &key(0)).unwrap(), Some(value(0)));
        fs.calls(Op::Read) - before
    };
    assert_eq!((reads_of_one(), reads_of_one(), cache.stats().pinned), (3, 0, top));
}

#[test]
fn partitions_that_are_not_what_the_top_says_are_refused() {
    let handle = Handle { offset: 8, len: 20 };
    let mut top = Vec::new();
    encode_part(&mut top, b"m", handle, Handle::default(), 2);
    encode_part(&mut top, b"z", handle, handle, 1);
    let parse = |bytes: &[u8], len| Parts::parse(Bytes::copy_from_slice(bytes), len);
    let parts = parse(&top, 28).unwrap();
    assert_eq!((parts.len(), parts.blocks(), parts.find(b"m"), parts.find(b"n")), (2, 3, 0, 1));
    let numbers: Vec<usize> = (0..4).map(|block| parts.of_block(1, block)).collect();
    assert_eq!(numbers, [0, 0, 1, 2]);
    let index_of = |separators: &[&[u8]]| {
        let mut bytes = Vec::new();
        separators.iter().for_each(|key| encode_entry(&mut bytes, key, handle));
        Index::parse(Bytes::from(bytes)).unwrap()
    };
    assert!(parts.is_of(0, &index_of(&[b"c", b"m"])) && parts.is_of(1, &index_of(&[b"z"])));
    let wrong: [&[&[u8]]; 4] = [&[b"c", b"l"], &[b"c", b"n"], &[b"m"], &[b"a", b"b", b"m"]];
    for wrong in wrong {
        assert!(!parts.is_of(0, &index_of(wrong)), "{wrong:?}");
    }
    assert!(!parts.is_of(2, &index_of(&[b"z"])));
    let largest = Bytes::from_static(b"z");
    let meta = Metadata { partitions: 2, blocks: 3, largest, ..Metadata::default() };
    assert!(parts.is_for(&meta));
    let others = [
        Metadata { partitions: 3, ..meta.clone() },
        Metadata { blocks: 4, ..meta.clone() },
        Metadata { largest: Bytes::from_static(b"za"), ..meta },
    ];
    assert!(others.iter().all(|other| !parts.is_for(other)));
    // Handles that lead out of the file, and partitions of nothing.
    assert!(parse(&top, 27).is_err() && parse(&[], 28).is_err());
    let mut empty = Vec::new();
    encode_part(&mut empty, b"z", handle, handle, 0);
    assert!(parse(&empty, 28).is_err());
}

#[test]
fn whoever_reads_everything_once_leaves_nothing_behind() {
    let rows = rows(2000);
    let (table, cache, fs) = counted(&rows, 1 << 20);
    let top = cache.stats().pinned;
    let before = fs.calls(Op::Read);
    let mut cursor = TableCursor::new(table.clone(), false);
    cursor.go(Position::First).unwrap();
    for (key, _) in rows.keys() {
        assert_eq!(cursor.key(), key);
        cursor.go(Position::Next).unwrap();
    }
    assert!(!cursor.valid());
    assert_eq!((cache.stats().pinned, cache.stats().bytes), (top, 0));
    // Each partition of the index once, and what is between two of them with one read.
    let reads = fs.calls(Op::Read) - before;
    assert!(reads <= 2 * table.partitions() as u64 + 2, "{reads}");
}
