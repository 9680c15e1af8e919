//! Blocks, filters, indexes and whole tables: against sorted lists, against arbitrary bytes, and
//! against their golden form.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_vfs::{Fault, FaultFs, FaultRule, Fs, MemFs, Op, read_all};
use proptest::prelude::*;

use super::block::{Block, BlockBuilder, BlockCursor, Visited};
use super::cache::BlockCache;
use super::compress::LEAST_SAMPLES;
use super::cursor::TableCursor;
use super::filter::{self, Filter};
use super::format::{Footer, Handle};
use super::index::{Index, separator};
use super::metadata::Origin;
use super::parts::Leaf;
use super::readahead::READAHEAD_BYTES;
use super::reader::{Garbage, Table};
use super::writer::TableWriter;
use super::{compress, format};
use crate::error::Error;
use crate::key::{ValueKind, pack, seek_tag};
use crate::options::{Compression, TreeConfig};
use crate::read::merge_iter::Position;

pub(super) type Entries = BTreeMap<(Vec<u8>, std::cmp::Reverse<u64>), Vec<u8>>;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn entries() -> impl Strategy<Value = Entries> {
    let key = proptest::collection::vec(0..3u8, 0..6);
    let value = proptest::collection::vec(any::<u8>(), 0..30);
    proptest::collection::vec((key, 1..40u64, value), 1..120).prop_map(|list| {
        let tagged = |(key, seqno, value): (Vec<u8>, u64, Vec<u8>)| {
            ((key, std::cmp::Reverse(pack(seqno, ValueKind::Put))), value)
        };
        list.into_iter().map(tagged).collect()
    })
}

fn block_of(entries: &Entries) -> Block {
    let mut builder = BlockBuilder::default();
    for ((key, tag), value) in entries {
        builder.add(key, tag.0, value);
    }
    Block::parse(Bytes::copy_from_slice(builder.finish())).unwrap()
}

proptest! {
    #[test]
    fn a_block_is_a_sorted_list(
        entries in entries(),
        probe in proptest::collection::vec(0..3u8, 0..6),
        at in 0..40u64,
    ) {
        let block = block_of(&entries);
        let list: Vec<_> = entries.iter().map(|((k, t), v)| (k.clone(), t.0, v.clone())).collect();
        let here = |cursor: &BlockCursor| {
            cursor.valid().then(|| (cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()))
        };
        let mut cursor = BlockCursor::new(block.clone(), Vec::new());
        cursor.first().unwrap();
        for entry in &list {
            prop_assert_eq!(here(&cursor), Some(entry.clone()));
            cursor.next().unwrap();
        }
        prop_assert!(!cursor.valid());
        cursor.last().unwrap();
        for entry in list.iter().rev() {
            prop_assert_eq!(here(&cursor), Some(entry.clone()));
            cursor.prev().unwrap();
        }
        prop_assert!(!cursor.valid());
        let target = (probe.clone(), std::cmp::Reverse(seek_tag(at)));
        let split = list.partition_point(|(k, t, _)| (k.clone(), std::cmp::Reverse(*t)) < target);
        cursor.seek(&probe, seek_tag(at)).unwrap();
        prop_assert_eq!(here(&cursor), list.get(split).cloned());
        cursor.seek_before(&probe, seek_tag(at)).unwrap();
        let before = split.checked_sub(1).map(|index| list[index].clone());
        prop_assert_eq!(here(&cursor), before);
        let mut seen = Vec::new();
        let ended = block.visit(&probe, seek_tag(at), &mut |tag, value| {
            seen.push((probe.clone(), tag, value.to_vec()));
            ControlFlow::Continue(())
        });
        let wanted: Vec<_> =
            list[split..].iter().take_while(|(k, ..)| *k == probe).cloned().collect();
        let is_last = split + wanted.len() == list.len();
        prop_assert_eq!(seen, wanted);
        prop_assert_eq!(ended, Ok(if is_last { Visited::EndOfBlock } else { Visited::Past }));
    }

    #[test]
    fn arbitrary_blocks_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        small in proptest::collection::vec(0..4u8, 0..60),
        restarts in 0..4u32,
        key in proptest::collection::vec(0..4u8, 0..6),
    ) {
        for mut data in [std::mem::take(&mut bytes), small] {
            data.extend_from_slice(&restarts.to_le_bytes());
            let Ok(block) = Block::parse(Bytes::from(data)) else { continue };
            let _any = block.visit(&key, u64::MAX, &mut |_, _| ControlFlow::Continue(()));
            let mut cursor = BlockCursor::new(block, Vec::new());
            let _any = cursor.seek_before(&key, 77);
            // Each step moves on or fails: it ends.
            let _any = cursor.last();
            while cursor.valid() && cursor.prev().is_ok() {}
            let _any = cursor.first();
            while cursor.valid() && cursor.next().is_ok() {}
        }
    }

    #[test]
    fn arbitrary_parts_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _any = Footer::decode(&bytes);
        if let Ok(index) = Index::parse(Bytes::from(bytes.clone())) {
            index.find(b"k");
        }
        if let Ok(filter) = Filter::parse(Bytes::from(bytes.clone())) {
            filter.may_contain(7);
        }
        for code in 0..5 {
            let _any = compress::decompress(code, &bytes, 1000);
        }
        prop_assert!(compress::decompress(1, &bytes, usize::MAX).is_err());
    }

    #[test]
    fn every_compression_gives_the_bytes_back(
        raw in proptest::collection::vec(0..4u8, 1..3000),
        head in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let kinds =
            [Compression::None, Compression::Lz4, Compression::Snappy, Compression::Zstd(3)];
        for kind in kinds {
            let mut out = head.clone();
            let code = compress::compress(kind, &raw, &mut out);
            let back = compress::decompress(code, &out[head.len()..], raw.len()).unwrap();
            prop_assert_eq!(back.as_deref().unwrap_or(&out[head.len()..]), &*raw);
            prop_assert!(out.len() <= head.len() + raw.len());
        }
    }

    #[test]
    fn separators_separate(
        a in proptest::collection::vec(any::<u8>(), 0..6),
        b in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        let (last, next) = if a <= b { (a, b) } else { (b, a) };
        let short = separator(&last, &next);
        prop_assert!(short >= last && short.len() <= last.len());
        prop_assert!(last == next || short < next);
    }
}

#[test]
fn filters_forget_nothing_and_rarely_imagine() {
    let hashes: Vec<u64> = (0..20_000u32).map(|n| filter::hash(&n.to_le_bytes())).collect();
    let filter = Filter::parse(Bytes::from(filter::build(&hashes, 10.0))).unwrap();
    assert!(hashes.iter().all(|hash| filter.may_contain(*hash)));
    let others = (20_000..120_000u32).map(|n| filter::hash(&n.to_le_bytes()));
    let imagined = others.filter(|hash| filter.may_contain(*hash)).count();
    assert!(imagined < 1500, "{imagined} of 100,000");
    assert!(filter.bytes() < 26_000);
}

pub(super) fn write_table(fs: &MemFs, config: &TreeConfig, entries: &Entries) -> Table {
    write_table_with(fs, config, entries, 1 << 20)
}

/// With a cache of so many bytes.
pub(super) fn write_table_with(
    fs: &MemFs,
    config: &TreeConfig,
    entries: &Entries,
    cache: u64,
) -> Table {
    let dir = Path::new("/t");
    fs.create_dir_all(dir).unwrap();
    let origin = Origin { tree: 3, name: config.name.clone(), table: 9, ..Origin::default() };
    let mut writer = TableWriter::create(fs, dir, config, config.compression, origin).unwrap();
    for ((key, tag), value) in entries {
        writer.add(key, tag.0, value).unwrap();
    }
    let record = writer.finish().unwrap();
    let (cache, garbage) = (Arc::new(BlockCache::new(cache)), Arc::new(Garbage::default()));
    Table::open(fs, dir, record, cache, garbage).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn a_table_is_a_sorted_list(
        entries in entries(),
        wide: bool,
        partition_bytes in prop_oneof![Just(0), 10..200usize, Just(usize::MAX)],
        // Nothing stays; some of it; everything.
        cache in prop_oneof![Just(0), Just(3 << 10), Just(1 << 20)],
        probes in proptest::collection::vec(
            (proptest::collection::vec(0..3u8, 0..6), 0..41u64), 20),
    ) {
        // Wide values: several blocks, and versions of one key in more than one of them.
        let widen = |value: &[u8]| if wide { [value, &[7; 300]].concat() } else { value.to_vec() };
        let entries: Entries = entries.into_iter().map(|(k, v)| (k, widen(&v))).collect();
        let list: Vec<_> = entries.iter().map(|((k, t), v)| (k.clone(), t.0, v.clone())).collect();
        let config = TreeConfig { block_bytes: 1 << 10, partition_bytes, ..TreeConfig::new("t") };
        let table = Arc::new(write_table_with(&MemFs::new(), &config, &entries, cache));
        match partition_bytes {
            usize::MAX => prop_assert_eq!(table.partitions(), 0),
            0 if table.blocks() > 1 => prop_assert_eq!(table.partitions(), table.blocks()),
            _ => {}
        }
        let mut cursor = TableCursor::new(table.clone(), true);
        let here = |cursor: &TableCursor| {
            cursor.valid().then(|| (cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()))
        };
        cursor.go(Position::First).unwrap();
        for entry in &list {
            prop_assert_eq!(here(&cursor), Some(entry.clone()));
            cursor.go(Position::Next).unwrap();
        }
        cursor.go(Position::Last).unwrap();
        for entry in list.iter().rev() {
            prop_assert_eq!(here(&cursor), Some(entry.clone()));
            cursor.go(Position::Prev).unwrap();
        }
        for (probe, at) in probes {
            let target = (probe.clone(), std::cmp::Reverse(seek_tag(at)));
            let split =
                list.partition_point(|(k, t, _)| (k.clone(), std::cmp::Reverse(*t)) < target);
            cursor.go(Position::AtOrBehind(&probe, seek_tag(at))).unwrap();
            prop_assert_eq!(here(&cursor), list.get(split).cloned());
            cursor.go(Position::Before(&probe, seek_tag(at))).unwrap();
            prop_assert_eq!(here(&cursor), split.checked_sub(1).map(|index| list[index].clone()));
            let mut seen = Vec::new();
            let flow = table.visit(&probe, filter::hash(&probe), at, &mut |seqno, kind, value| {
                seen.push((probe.clone(), pack(seqno, kind), value.to_vec()));
                ControlFlow::Continue(())
            });
            prop_assert!(flow.unwrap().is_continue());
            let wanted: Vec<_> =
                list[split..].iter().take_while(|(k, ..)| *k == probe).cloned().collect();
            prop_assert_eq!(seen, wanted);
        }
        table.verify().unwrap();
    }
}

#[test]
fn golden_bytes() {
    let footer = Footer {
        index: Handle { offset: 100, len: 20 },
        filter: Handle { offset: 50, len: 50 },
        meta: Handle { offset: 120, len: 30 },
        file_len: 206,
    };
    assert_eq!(
        hex(&footer.encode()),
        "\
         64000000000000001400000032000000000000003200000078000000000000001e000000\
         ce000000000000005906608d4d52444e53535403"
    );
    assert_eq!(Footer::decode(&footer.encode()), Ok(footer));
    let mut builder = BlockBuilder::default();
    builder.add(b"apple", pack(5, ValueKind::Put), b"red");
    builder.add(b"apply", pack(4, ValueKind::Merge), b"now");
    builder.add(b"apply", pack(3, ValueKind::Delete), b"");
    assert_eq!(
        hex(builder.finish()),
        "000503176170706c6572656404010311796e6f770500000e0000000001000000"
    );
    let fs = MemFs::new();
    let entries: Entries =
        [((b"k".to_vec(), std::cmp::Reverse(pack(1, ValueKind::Put))), b"v".to_vec())].into();
    let config = TreeConfig { compression: Compression::None, ..TreeConfig::new("t") };
    let table = write_table(&fs, &config, &entries);
    let bytes = read_all(&fs, &format::path(Path::new("/t"), 9)).unwrap();
    assert_eq!(
        hex(&bytes),
        "\
         4d52444e53535403000101076b760000000001000000000e000000879d3e740602000000\
         080000008000000000000000000000000002000000002000000000000000000000000001\
         0000000000000000000000000000000000000000000000000041000000ace609ee016b08\
         170004000000a993eeb201000001010201016b016b030174090000000000000000000000\
         000000001d000000b17b47e669000000000000000d0000001f000000000000004a000000\
         760000000000000026000000d400000000000000c3f936da4d52444e53535403"
    );
    assert_eq!(
        hex(&table.record.digest),
        "abda525bbfbcd00e56f25f8e05e406779fb3cd0693d64038d18b3bfab852fc4a"
    );
}

#[test]
fn a_table_that_is_not_the_manifests_is_refused() {
    let fs = MemFs::new();
    let entries: Entries =
        [((b"k".to_vec(), std::cmp::Reverse(pack(1, ValueKind::Put))), b"v".to_vec())].into();
    let table = write_table(&fs, &TreeConfig::new("t"), &entries);
    let open = |record| {
        let (cache, garbage) = (Arc::new(BlockCache::new(0)), Arc::new(Garbage::default()));
        Table::open(&fs, Path::new("/t"), record, cache, garbage)
    };
    let mut other = table.record.clone();
    other.entries += 1;
    assert!(matches!(open(other), Err(Error::Corruption { .. })));
    let mut other = table.record.clone();
    other.bytes += 1;
    assert!(matches!(open(other), Err(Error::Corruption { .. })));
    let mut other = table.record.clone();
    other.id += 1;
    let told = open(other).unwrap_err();
    assert!(told.to_string().contains("000a.sst is corrupt at offset 0: the table is missing"));
}

/// Rows as people store them: much of each is in all others.
fn rows(count: u32, seed: u32) -> Entries {
    let row = |n: u32| {
        let mixed = (n ^ seed).wrapping_mul(2_654_435_761);
        let country = ["IS", "NO", "PT", "TR"][(mixed >> 8) as usize % 4];
        let value = format!(
            "{{\"id\": {n}, \"name\": \"{mixed:x}\", \"country\": \"{country}\", \"population\": {}, \
             \"timezone\": \"Atlantic/{}\"}}",
            mixed % 100_000,
            mixed % 7
        );
        let tag = pack(u64::from(n) + 1, ValueKind::Put);
        ((format!("row-{n:07}").into_bytes(), std::cmp::Reverse(tag)), value.into_bytes())
    };
    (0..count).map(row).collect()
}

fn trained() -> TreeConfig {
    let compression = Compression::ZstdTrained(3);
    TreeConfig { block_bytes: 1 << 10, compression, ..TreeConfig::new("t") }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_table_with_a_dictionary_is_a_sorted_list(
        // From too little for one to several times what one is trained from.
        count in prop_oneof![1..400u32, 7_000..30_000u32],
        seed: u32,
        partition_bytes in prop_oneof![Just(500), Just(usize::MAX)],
        probes in proptest::collection::vec(any::<u32>(), 20),
    ) {
        let entries = rows(count, seed);
        let fs = MemFs::new();
        let config = TreeConfig { partition_bytes, ..trained() };
        let table = Arc::new(write_table(&fs, &config, &entries));
        let large = table.partitions() > 1;
        prop_assert!(large == (partition_bytes < usize::MAX) || count < 400 && !large);
        // A row is a few bytes more or less, by its seed.
        let mut leaf = Leaf::new(true);
        let raw = (0..table.blocks()).map(|at| table.block(&mut leaf, at).unwrap().bytes());
        let raw: usize = raw.sum();
        prop_assert_eq!(table.has_dictionary(), raw >= LEAST_SAMPLES, "{} in {}", count, raw);
        let mut cursor = TableCursor::new(table.clone(), false);
        cursor.go(Position::First).unwrap();
        for ((key, tag), value) in &entries {
            prop_assert_eq!((cursor.key(), cursor.tag(), &*cursor.value()), (&**key, tag.0, &**value));
            cursor.go(Position::Next).unwrap();
        }
        prop_assert!(!cursor.valid());
        for probe in probes {
            let key = format!("row-{:07}", probe % (2 * count)).into_bytes();
            let mut found = None;
            let flow = table.visit(&key, filter::hash(&key), u64::MAX >> 8, &mut |_, _, value| {
                found = Some(value.to_vec());
                ControlFlow::Break(())
            });
            let _found = flow.unwrap();
            let wanted = entries.iter().find(|((known, _), _)| *known == key);
            prop_assert_eq!(found.as_ref(), wanted.map(|(_, value)| value));
        }
        table.verify().unwrap();
    }
}

#[test]
fn a_dictionary_saves_space_and_its_damage_is_noticed() {
    let (fs, entries) = (MemFs::new(), rows(20_000, 7));
    let plain = TreeConfig { compression: Compression::Zstd(3), ..trained() };
    let without = write_table(&fs, &plain, &entries).record.bytes;
    let table = write_table(&fs, &trained(), &entries);
    assert!(table.record.bytes < without * 9 / 10, "{} {without}", table.record.bytes);
    let file = format::path(Path::new("/t"), 9);
    let whole = read_all(&fs, &file).unwrap();
    let meta = super::reader::read_metadata(&fs, &file).unwrap().0;
    for at in [0, 100, u64::from(meta.dictionary.len) - 1] {
        let mut bytes = whole.clone();
        bytes[usize::try_from(meta.dictionary.offset + at).unwrap()] ^= 1;
        fs.create(&file).unwrap().append(&bytes).unwrap();
        let (cache, garbage) = (Arc::new(BlockCache::new(0)), Arc::new(Garbage::default()));
        let opened = Table::open(&fs, Path::new("/t"), table.record.clone(), cache, garbage);
        assert!(opened.unwrap_err().is_corruption());
    }
    let blocks = compress::decompress(4, &whole[8..100], 1000);
    assert!(blocks.is_err(), "a block with a dictionary and none");
}

#[test]
fn what_no_dictionary_can_be_trained_from_is_compressed_without_one() {
    let small = |compression| {
        let config = TreeConfig { compression, ..trained() };
        let table = write_table(&MemFs::new(), &config, &rows(60, 7));
        assert!(!table.has_dictionary());
        table.record.bytes
    };
    assert_eq!(small(Compression::ZstdTrained(3)), small(Compression::Zstd(3)));
    assert!(small(Compression::ZstdTrained(3)) < small(Compression::None) * 7 / 10);
}

#[test]
fn every_table_has_a_dictionary_of_its_own() {
    let open = |seed| {
        let entries = rows(8_000, seed);
        // Of another shape, so that the dictionaries have nothing in common.
        let turned = |(key, value): (_, Vec<u8>)| match seed {
            0 => (key, value),
            _ => (key, value.iter().rev().map(|byte| byte ^ 0x80).collect()),
        };
        let entries: Entries = entries.into_iter().map(turned).collect();
        (Arc::new(write_table(&MemFs::new(), &trained(), &entries)), entries)
    };
    let both = [open(0), open(1)];
    assert!(both.iter().all(|(table, _)| table.has_dictionary()));
    let mut cursors = both.each_ref().map(|(table, _)| TableCursor::new(table.clone(), false));
    cursors.iter_mut().for_each(|cursor| cursor.go(Position::First).unwrap());
    let [first, second] = both.each_ref().map(|(_, entries)| entries.values());
    for (one, other) in first.zip(second) {
        assert_eq!(cursors.each_ref().map(|cursor| cursor.value().to_vec()), [&**one, &**other]);
        cursors.iter_mut().for_each(|cursor| cursor.go(Position::Next).unwrap());
    }
    assert!(cursors.iter().all(|cursor| !cursor.valid()));
}

/// A table of many blocks, and how often its file is read.
fn many_blocks(compression: Compression, cache: u64) -> (Arc<Table>, Arc<FaultFs>) {
    let fs = MemFs::new();
    let value = |number: u32| format!("{number}-").repeat(20).into_bytes();
    let entries: Entries = (0..20_000u32)
        .map(|n| ((n.to_be_bytes().to_vec(), std::cmp::Reverse(pack(1, ValueKind::Put))), value(n)))
        .collect();
    let partition_bytes = usize::MAX;
    let config =
        TreeConfig { block_bytes: 4 << 10, partition_bytes, compression, ..TreeConfig::new("t") };
    let record = write_table(&fs, &config, &entries).record.clone();
    let fs = Arc::new(FaultFs::new(Arc::new(fs)));
    let (cache, garbage) = (Arc::new(BlockCache::new(cache)), Arc::new(Garbage::default()));
    let table = Table::open(&*fs, Path::new("/t"), record, cache, garbage).unwrap();
    (Arc::new(table), fs)
}

/// Steps through all entries and counts the reads that it takes.
fn reads_of_a_scan(table: &Arc<Table>, fs: &FaultFs, keep: bool) -> u64 {
    let before = fs.calls(Op::Read);
    let mut cursor = TableCursor::new(table.clone(), keep);
    cursor.go(Position::First).unwrap();
    for number in 0..20_000u32 {
        assert_eq!(cursor.key(), number.to_be_bytes());
        assert!(cursor.value_ref().starts_with(format!("{number}-{number}-").as_bytes()));
        cursor.go(Position::Next).unwrap();
    }
    assert!(!cursor.valid());
    fs.calls(Op::Read) - before
}

#[test]
fn long_scans_read_many_blocks_at_once_and_empty_no_cache() {
    for compression in [Compression::None, Compression::Lz4] {
        let (table, fs) = many_blocks(compression, 256 << 10);
        let blocks = table.blocks() as u64;
        assert!(blocks > 400, "{blocks}");
        // What others like to read.
        let hot = || {
            let before = fs.calls(Op::Read);
            (0..20).for_each(|block| drop(table.block(&mut Leaf::new(true), block).unwrap()));
            fs.calls(Op::Read) - before
        };
        hot();
        assert_eq!(hot(), 0);
        let bytes = table.record.bytes;
        let most = bytes / READAHEAD_BYTES as u64 + 12;
        for keep in [true, false, true] {
            let reads = reads_of_a_scan(&table, &fs, keep);
            assert!(reads <= most, "{reads} reads of {bytes} bytes");
            assert_eq!(hot(), 0, "a scan pushed out what is hot");
        }
    }
}

#[test]
fn short_scans_read_little_ahead() {
    let (table, fs) = many_blocks(Compression::None, 0);
    let mut cursor = TableCursor::new(table.clone(), true);
    let before = fs.calls(Op::Read);
    cursor.go(Position::AtOrBehind(&10_000u32.to_be_bytes(), u64::MAX)).unwrap();
    assert_eq!(fs.calls(Op::Read) - before, 1);
    assert_eq!(cursor.ahead_bytes(), 0);
    let find = |key: &[u8]| table.find(&mut Leaf::new(true), key).unwrap();
    let first = find(&10_000u32.to_be_bytes());
    while find(cursor.key()) == first {
        cursor.go(Position::Next).unwrap();
    }
    assert_eq!(fs.calls(Op::Read) - before, 2);
    assert!((6 << 10..10 << 10).contains(&cursor.ahead_bytes()), "{}", cursor.ahead_bytes());
}

#[test]
fn what_cannot_be_read_ahead_is_an_error_only_when_it_is_its_turn() {
    let (table, fs) = many_blocks(Compression::Lz4, 0);
    let mut cursor = TableCursor::new(table.clone(), true);
    cursor.go(Position::First).unwrap();
    // The read ahead fails, and then the block by itself does not.
    let fault = |nth| FaultRule {
        op: Op::Read,
        path: ".sst".into(),
        nth,
        sticky: false,
        fault: Fault::Error(std::io::ErrorKind::Other),
    };
    fs.inject(fault(1));
    while table.find(&mut Leaf::new(true), cursor.key()).unwrap() == 0 {
        cursor.go(Position::Next).unwrap();
    }
    assert!(cursor.valid());
    fs.inject(FaultRule { sticky: true, ..fault(1) });
    let mut failed = false;
    while cursor.valid() && !failed {
        failed = cursor.go(Position::Next).is_err();
    }
    assert!(failed);
}
