//! The log's bytes, and the line between a torn tail and damage.

use std::path::Path;
use std::sync::Arc;

use meridian_vfs::{Fs, MemFs};
use proptest::prelude::*;

use super::format::*;
use super::reader::{Damage, SegmentEnd, SegmentReader, Sink};
use super::segment;
use super::writer::WalWriter;
use crate::coding::Decoder;
use crate::error::Error;

const DIR: &str = "/wal";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_bytes() {
    let header = SegmentHeader { id: 3, previous_len: 0x1234 };
    assert_eq!(
        hex(&header.encode()),
        "4d52444e57414c01030000000000000034120000000000000000000033951145"
    );
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(Some(header)));
    let chunk = ChunkHeader {
        kind: ChunkKind::Batches,
        len: 21,
        payload_crc: 0xdead_beef,
        offset: 32,
        durable: 32,
        segment: 3,
    };
    assert_eq!(
        hex(&chunk.encode()),
        "\
         a777631e0101000015000000efbeadde2000000000000000200000000000000003000000\
         dbfafcc0"
    );
    assert_eq!(ChunkHeader::decode(&chunk.encode()), Ok(chunk));
    let mut batch = Vec::new();
    put_batch(&mut batch, 7, 1, &[3, 1, 1, b'k', 1, b'v']);
    assert_eq!(
        hex(&batch),
        "07000000000000000100000006000000030101\
                             6b0176"
    );
    let decoded = decode_batch(&mut Decoder::new(&batch)).unwrap();
    assert_eq!((decoded.first, decoded.count, decoded.ops.len()), (7, 1, 6));
}

#[test]
fn a_later_version_is_not_guessed_at() {
    let mut bytes = SegmentHeader { id: 3, previous_len: 0 }.encode();
    bytes[7] = 2;
    let crc = crate::coding::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&bytes), Ok(None));
}

/// Three chunks; a sync before each of the first `synced`.
fn segment_with(synced: u64) -> (MemFs, Vec<u64>) {
    let fs = MemFs::new();
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut wal = WalWriter::begin(disk, Path::new(DIR), 1, 0, 0).unwrap();
    let mut starts = Vec::new();
    for number in 1..=3 {
        if number <= synced {
            wal.sync().unwrap();
        }
        starts.push(wal.bytes());
        let mut chunk = vec![0; CHUNK_HEADER];
        put_batch(&mut chunk, number, 1, &[2, 1, 1, b'k']);
        wal.append(&mut chunk, number).unwrap();
    }
    (fs, starts)
}

/// The batches seen, and the ranges reported as damaged.
#[derive(Default)]
struct Seen {
    batches: Vec<u64>,
    damaged: Vec<(u64, u64)>,
    refuse: bool,
}

impl Sink for Seen {
    fn batch(&mut self, _path: &Path, batch: BatchRecord<'_>, _offset: u64) -> Result<(), Error> {
        self.batches.push(batch.first);
        Ok(())
    }

    fn damaged(&mut self, damage: Damage<'_>) -> Result<(), Error> {
        self.damaged.push((damage.from, damage.to));
        let Damage { path, from, what, .. } = damage;
        if self.refuse { Err(Error::corruption(path, from, what)) } else { Ok(()) }
    }
}

fn replay(fs: &MemFs, claimed: Option<u64>) -> Result<(Vec<u64>, SegmentEnd), Error> {
    let reader = SegmentReader::open(fs, Path::new(DIR), 1)?;
    let mut seen = Seen { refuse: true, ..Seen::default() };
    let end = reader.replay(claimed, &mut seen)?;
    Ok((seen.batches, end))
}

fn replay_what_can_be_read(fs: &MemFs, claimed: Option<u64>) -> (Seen, SegmentEnd) {
    let reader = SegmentReader::open(fs, Path::new(DIR), 1).unwrap();
    let mut seen = Seen::default();
    let end = reader.replay(claimed, &mut seen).unwrap();
    (seen, end)
}

fn damage(fs: &MemFs, offset: u64) {
    fs.flip_bit(&segment::path(Path::new(DIR), 1), offset * 8).unwrap();
}

#[test]
fn damage_behind_the_last_sync_is_a_torn_tail() {
    for at in [0, 1, 2] {
        let (fs, starts) = segment_with(0);
        damage(&fs, starts[at] + 20);
        let (seen, end) = replay(&fs, None).unwrap();
        assert_eq!(seen, (1..=at as u64).collect::<Vec<_>>());
        assert_eq!(end.valid, starts[at]);
        assert!(end.torn > 0 && !end.closed);
    }
}

#[test]
fn damage_before_what_a_later_chunk_vouches_for_is_an_error() {
    let (fs, starts) = segment_with(3);
    damage(&fs, starts[0] + 45);
    let told = replay(&fs, None).unwrap_err();
    assert!(matches!(told, Error::Corruption { offset, .. } if offset == starts[0]), "{told}");
    // The second chunk was written after a sync of the first only.
    let (fs, starts) = segment_with(2);
    damage(&fs, starts[1] + 45);
    assert_eq!(replay(&fs, None).unwrap().0, [1]);
}

#[test]
fn what_can_be_read_around_damage_is_read() {
    let (fs, starts) = segment_with(3);
    damage(&fs, starts[0] + 45);
    let (seen, end) = replay_what_can_be_read(&fs, None);
    assert_eq!((seen.batches, seen.damaged), (vec![2, 3], vec![(starts[0], starts[1])]));
    assert_eq!(end.torn, 0);
    // A header that cannot be read hides nothing behind it.
    damage(&fs, 9);
    damage(&fs, starts[2] + 45);
    let (seen, end) = replay_what_can_be_read(&fs, None);
    assert_eq!((seen.batches, seen.damaged), (vec![2], vec![(0, 32), (starts[0], starts[1])]));
    assert_eq!((end.valid, end.torn > 0), (starts[2], true));
    let len = starts[2] + (starts[2] - starts[1]);
    let (seen, end) = replay_what_can_be_read(&fs, Some(len));
    assert_eq!(seen.damaged, [(0, 32), (starts[0], starts[1]), (starts[2], len)]);
    assert_eq!((end.valid, end.torn), (len, 0));
}

#[test]
fn room_behind_the_end_is_no_torn_tail() {
    let (fs, starts) = segment_with(3);
    let end = starts[2] + (starts[2] - starts[1]);
    let file = segment::path(Path::new(DIR), 1);
    assert!(meridian_vfs::read_all(&fs, &file).unwrap().len() as u64 > end);
    let whole = SegmentEnd { valid: end, torn: 0, closed: false };
    assert_eq!(replay(&fs, None).unwrap(), (vec![1, 2, 3], whole));
    // What a cut left of a chunk, among zeros.
    damage(&fs, end + 99);
    assert_eq!(replay(&fs, None).unwrap().1, SegmentEnd { torn: 100, ..whole });
}

#[test]
fn the_next_segment_vouches_for_the_whole() {
    let (fs, starts) = segment_with(0);
    let len = starts[2] + (starts[2] - starts[1]);
    assert_eq!(replay(&fs, Some(len)).unwrap().0, [1, 2, 3]);
    assert_eq!(replay(&fs, Some(starts[2])).unwrap().0, [1, 2]);
    assert!(replay(&fs, Some(len + 1)).unwrap_err().is_corruption());
    damage(&fs, starts[2] + 3);
    assert!(replay(&fs, Some(len)).unwrap_err().is_corruption());
    // Chunks were written, so the header was durable.
    damage(&fs, 4);
    assert!(replay(&fs, None).unwrap_err().is_corruption());
    // Without chunks the segment may never have begun.
    fs.truncate(&segment::path(Path::new(DIR), 1), 32).unwrap();
    assert_eq!(replay(&fs, None).unwrap().1, SegmentEnd { valid: 0, torn: 32, closed: false });
}

proptest! {
    #[test]
    fn arbitrary_segments_never_panic(
        header: bool,
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        magics in proptest::collection::vec(0..400usize, 0..4),
    ) {
        for at in magics {
            if at + 4 <= bytes.len() {
                bytes[at..at + 4].copy_from_slice(&CHUNK_MAGIC);
            }
        }
        let fs = MemFs::new();
        fs.create_dir_all(Path::new(DIR)).unwrap();
        let file = fs.create(&segment::path(Path::new(DIR), 1)).unwrap();
        if header {
            file.append(&SegmentHeader { id: 1, previous_len: 0 }.encode()).unwrap();
        }
        file.append(&bytes).unwrap();
        prop_assert_eq!(replay(&fs, None).unwrap().0, Vec::<u64>::new());
        let _any = ChunkHeader::decode(&bytes);
        let _any = SegmentHeader::decode(&bytes);
        let mut decoder = Decoder::new(&bytes);
        while !decoder.is_empty() && decode_batch(&mut decoder).is_ok() {}
    }
}
