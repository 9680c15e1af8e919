//! A sound database, and what becomes of its files when bytes of them change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use meridian_vfs::{Fs, MemFs, read_all};

use crate::coding::{Decoder, crc32c};
use crate::options::{Blobs, Compaction, DbOptions, TreeConfig};
use crate::table::format::{BLOCK_TRAILER, FOOTER, block_checksum};
use crate::version::edit::TableRecord;
use crate::version::manifest::{Manifest, RECORD_HEADER};
use crate::wal::format::{CHUNK_HEADER, ChunkHeader, SEGMENT_HEADER};
use crate::{Db, WriteBatch};

pub(super) const DIR: &str = "/db";
/// Bytes of a segment's room that are kept.
const ROOM: usize = 64;

/// The files of a database that was not closed: tables in two trees, a manifest with edits, a log
/// with chunks that vouch for each other.
pub(super) struct Sound {
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
    pub(super) tables: Vec<TableRecord>,
}

pub(super) fn configs() -> Vec<TreeConfig> {
    let config = |name: &str| TreeConfig {
        block_bytes: 1 << 10,
        // One with whole indexes, one with many partitions.
        partition_bytes: if name == "a" { 0 } else { 16 << 10 },
        blobs: (name == "b").then(|| Blobs { threshold: 60, ..Blobs::default() }),
        compaction: Compaction::Leveled { l0_files: 2, l1_bytes: 4 << 10, factor: 4 },
        ..TreeConfig::new(name)
    };
    vec![config("a"), config("b")]
}

pub(super) fn options() -> DbOptions {
    DbOptions {
        table_bytes: 4 << 10,
        wal_segment_bytes: 2 << 10,
        flush_on_close: false,
        ..DbOptions::default()
    }
}

fn make() -> Result<Sound, crate::Error> {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, _) = Db::open(disk.clone(), DIR.as_ref(), options(), configs())?;
    let trees = ["a", "b"].map(|name| db.tree(name).expect("it was made above"));
    for round in 0..5u8 {
        for number in 0..12u8 {
            let mut batch = WriteBatch::new();
            let key = [b"key-".as_slice(), &[number % 7, round]].concat();
            batch.put(&trees[usize::from(number % 2)], &key, [round; 90]);
            batch.delete(&trees[0], [number, round]);
            db.write(batch)?;
        }
        match round {
            0 | 2 => db.flush()?,
            1 => drop(db.poll_job()?),
            _ => db.sync()?,
        }
    }
    drop((trees, db));
    let dir = Path::new(DIR);
    let state = Manifest::load(&*disk, dir)?.expect("the database was opened").state;
    let tables = state.trees.values().flat_map(|tree| tree.tables.values().cloned()).collect();
    let mut files = Vec::new();
    for name in disk.list(dir)? {
        let path = dir.join(&name);
        let mut bytes = read_all(&*disk, &path)?;
        if path.extension().is_some_and(|extension| extension == "log") {
            // Most of a segment is room, in which every change is the same.
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(used + ROOM);
        }
        if !bytes.is_empty() {
            files.push((path, bytes));
        }
    }
    Ok(Sound { files, tables })
}

pub(super) fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| make().expect("memory does not fail"))
}

/// The input as changes: two bytes for the place, one for what is changed there. The changed file
/// has the length that the first two bytes take off its end.
pub(super) fn change(bytes: &[u8], file: &mut Vec<u8>) {
    let Some((cut, changes)) = bytes.split_first_chunk::<2>() else { return };
    for change in changes.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let at = at % file.len().max(1);
        if let Some(byte) = file.get_mut(at) {
            *byte ^= change[2];
        }
    }
    let cut = usize::from(u16::from_le_bytes(*cut));
    if cut < file.len() {
        file.truncate(file.len() - cut);
    }
}

/// Makes the checksum at `end - 4` that of the bytes from `start` to it.
fn put_crc(file: &mut [u8], start: usize, end: usize) {
    if let Some(covered) = file.get(start..end) {
        let crc = crc32c(&covered[..covered.len() - 4]);
        file[end - 4..end].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Puts the checksums of a segment right where its chunks were; `sound` is how it was before.
pub(super) fn seal_segment(file: &mut [u8], sound: &[u8]) {
    put_crc(file, 0, SEGMENT_HEADER);
    let mut at = SEGMENT_HEADER;
    while let Some(header) = sound.get(at..at + CHUNK_HEADER) {
        let Ok(header) = ChunkHeader::decode(header) else { break };
        let (start, end) = (at + CHUNK_HEADER, at + CHUNK_HEADER + header.len as usize);
        if let Some(payload) = file.get(start..end) {
            let crc = crc32c(payload).to_le_bytes();
            file[at + 12..at + 16].copy_from_slice(&crc);
        }
        put_crc(file, at, at + CHUNK_HEADER);
        at = end;
    }
}

/// The same for a manifest.
pub(super) fn seal_manifest(file: &mut [u8], sound: &[u8]) {
    let mut at = 8;
    while let Some(header) = sound.get(at..at + RECORD_HEADER) {
        let len = Decoder::new(&header[4..]).u32().map_or(0, |len| len as usize);
        let (start, end) = (at + RECORD_HEADER, at + RECORD_HEADER + len);
        if let Some(payload) = file.get(start..end) {
            let crc = crc32c(payload).to_le_bytes();
            file[at + 16..at + 20].copy_from_slice(&crc);
        }
        put_crc(file, at, at + RECORD_HEADER);
        at = end;
    }
}

/// The same for a table: wherever a block's checksum was right, it is made right again.
pub(super) fn seal_table(file: &mut [u8], blocks: &[(usize, usize)]) {
    for &(start, end) in blocks {
        if let Some(stored) = file.get(start..end) {
            let checksum = block_checksum(&stored[..stored.len() - 4], start as u64);
            file[end - 4..end].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    if let Some(start) = file.len().checked_sub(FOOTER) {
        put_crc(file, start, start + 48);
    }
}

/// Where the blocks of a sound table are: one begins where the one before ends, and its checksum
/// is right. For small tables only.
pub(super) fn blocks_of(sound: &[u8]) -> Vec<(usize, usize)> {
    let mut blocks = Vec::new();
    let mut start = 8;
    let is_block = |start: usize, end: usize| {
        let (stored, checksum) = sound[start..end].split_at(end - start - 4);
        block_checksum(stored, start as u64).to_le_bytes() == *checksum
    };
    let last = sound.len() - FOOTER;
    while let Some(end) = (start + BLOCK_TRAILER..=last).find(|end| is_block(start, *end)) {
        blocks.push((start, end));
        start = end;
    }
    assert_eq!(start, last, "blocks fill a table");
    blocks
}
