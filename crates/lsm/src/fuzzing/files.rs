//! Whole files.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use meridian_vfs::{Fs, MemFs};

use super::changed::{DIR, blocks_of, change, seal_manifest, seal_segment, seal_table, sound};
use crate::blob::format as blobs;
use crate::blob::reader::{BlobFile, describe};
use crate::care::backup;
use crate::coding::Decoder;
use crate::error::Error;
use crate::read::merge_iter::Position;
use crate::table::cache::BlockCache;
use crate::table::cursor::TableCursor;
use crate::table::format;
use crate::table::reader::{Garbage, Table, read_metadata};
use crate::version::edit::TableRecord;
use crate::version::manifest::Manifest;
use crate::version::trees as lists;
use crate::wal::format::BatchRecord;
use crate::wal::reader::{Damage, SegmentReader, Sink};
use crate::wal::segment as segments;

/// A file system with this one file in the database's directory.
pub(super) fn disk_with(files: &[(&Path, &[u8])]) -> Arc<dyn Fs> {
    let disk: Arc<dyn Fs> = Arc::new(MemFs::new());
    let put = |path: &Path, bytes: &[u8]| -> Result<(), meridian_vfs::IoError> {
        if let Some(dir) = path.parent() {
            disk.create_dir_all(dir)?;
        }
        let file = disk.create(path)?;
        file.append(bytes)?;
        file.sync_data()
    };
    for (path, bytes) in files {
        put(path, bytes).expect("memory does not fail");
    }
    disk
}

/// What is told of a file whose bytes are wrong.
pub(super) fn damage(cause: &Error) {
    assert!(cause.is_corruption(), "{cause}");
}

#[derive(Default)]
struct Seen {
    batches: usize,
    refuse: bool,
    /// Where the last damage ended.
    behind: u64,
}

impl Sink for Seen {
    fn batch(&mut self, _path: &Path, _batch: BatchRecord<'_>, offset: u64) -> Result<(), Error> {
        assert!(offset >= self.behind);
        self.batches += 1;
        Ok(())
    }

    fn damaged(&mut self, damage: Damage<'_>) -> Result<(), Error> {
        assert!(damage.from >= self.behind && damage.to > damage.from, "{damage:?}");
        self.behind = damage.to;
        let Damage { path, from, what, .. } = damage;
        if self.refuse { Err(Error::corruption(path, from, what)) } else { Ok(()) }
    }
}

fn replay(bytes: &[u8], id: u64) {
    let path = segments::path(Path::new(DIR), id);
    let disk = disk_with(&[(&path, bytes)]);
    let reader = match SegmentReader::open(&*disk, Path::new(DIR), id) {
        Ok(reader) => reader,
        Err(cause) => return damage(&cause),
    };
    let len = bytes.len() as u64;
    for claimed in [None, Some(len), Some(len / 2), Some(len + 1)] {
        for refuse in [true, false] {
            let mut seen = Seen { refuse, ..Seen::default() };
            match reader.replay(claimed, &mut seen) {
                Ok(end) => assert!(end.valid <= len.max(claimed.unwrap_or(0))),
                Err(cause) => damage(&cause),
            }
        }
    }
}

/// A segment of the log: the bytes as they are, behind a sound header, and as changes.
pub fn segment(bytes: &[u8]) {
    replay(bytes, 1);
    let sound = sound()
        .files
        .iter()
        .filter_map(|(path, sound)| Some((segments::id_of(Path::new(path.file_name()?))?, sound)));
    for (id, sound) in sound {
        let header = &sound[..sound.len().min(crate::wal::format::SEGMENT_HEADER)];
        replay(&[header, bytes].concat(), id);
        let mut file = sound.clone();
        change(bytes, &mut file);
        replay(&file, id);
        seal_segment(&mut file, sound);
        replay(&file, id);
    }
}

fn load(bytes: &[u8]) {
    let path = crate::version::manifest::path(Path::new(DIR));
    let disk = disk_with(&[(&path, bytes)]);
    match Manifest::load(&*disk, Path::new(DIR)) {
        Ok(loaded) => assert!(loaded.is_some_and(|loaded| loaded.torn < bytes.len() as u64)),
        Err(cause) => damage(&cause),
    }
}

/// A manifest, likewise; the bytes as its one record, too.
pub fn manifest(bytes: &[u8]) {
    load(bytes);
    let path = crate::version::manifest::path(Path::new(DIR));
    let Some((_, sound)) = sound().files.iter().find(|(there, _)| *there == path) else { return };
    let record = crate::version::manifest::record(8, bytes);
    load(&[&sound[..8], &record].concat());
    let mut file = sound.clone();
    change(bytes, &mut file);
    load(&file);
    seal_manifest(&mut file, sound);
    load(&file);
}

/// Opens a table and reads everything of it, both ways and by searches.
fn read_table(bytes: &[u8], record: &TableRecord) -> Result<usize, Error> {
    let path = format::path(Path::new(DIR), record.id);
    let disk = disk_with(&[(&path, bytes)]);
    let cache = Arc::new(BlockCache::new(1 << 20));
    let record = TableRecord { bytes: bytes.len() as u64, ..record.clone() };
    let table = Table::open(&*disk, Path::new(DIR), record, cache, Arc::new(Garbage::default()))?;
    let table = Arc::new(table);
    for key in [b"key-\x01\x01".as_slice(), b"", b"key-\x06", &[0xff; 9]] {
        let hash = crate::table::filter::hash(key);
        let _ended = table
            .visit(key, hash, u64::MAX >> 8, &mut |_, _, _| std::ops::ControlFlow::Continue(()))?;
    }
    let mut cursor = TableCursor::new(table, true);
    let mut found = 0;
    cursor.go(Position::First)?;
    while cursor.valid() {
        found += 1;
        assert!(found <= bytes.len(), "a walk without an end");
        cursor.go(Position::Next)?;
    }
    let mut back = 0;
    cursor.go(Position::Last)?;
    while cursor.valid() {
        back += 1;
        assert!(back <= bytes.len(), "a walk without an end");
        cursor.go(Position::Prev)?;
    }
    Ok(found)
}

struct SoundTable {
    record: TableRecord,
    bytes: Vec<u8>,
    blocks: Vec<(usize, usize)>,
}

/// The largest one with a whole index, and the largest one with partitions.
fn sound_tables() -> &'static [SoundTable; 2] {
    static TABLES: OnceLock<[SoundTable; 2]> = OnceLock::new();
    TABLES.get_or_init(|| [false, true].map(sound_table))
}

fn sound_table(has_partitions: bool) -> SoundTable {
    let is_meant = |table: &&TableRecord| {
        let path = format::path(Path::new(DIR), table.id);
        let bytes = &sound().files.iter().find(|(there, _)| *there == path).expect("as named").1;
        let (meta, _) = read_metadata(&*disk_with(&[(&path, bytes)]), &path).expect("it is sound");
        (meta.partitions > 0) == has_partitions
    };
    let record = sound().tables.iter().filter(is_meant).max_by_key(|table| table.entries);
    let record = record.expect("both kinds were flushed").clone();
    let path = format::path(Path::new(DIR), record.id);
    let file = sound().files.iter().find(|(there, _)| *there == path);
    let bytes = file.expect("the manifest names what is there").1.clone();
    SoundTable { blocks: blocks_of(&bytes), bytes, record }
}

/// A table: the bytes as they are, and as changes. A change that no checksum hides is found, or
/// everything reads as before.
pub fn table(bytes: &[u8]) {
    sound_tables().iter().for_each(|sound| changed_table(sound, bytes));
}

fn changed_table(sound: &SoundTable, bytes: &[u8]) {
    if let Err(cause) = read_table(bytes, &sound.record) {
        damage(&cause);
    }
    let mut file = sound.bytes.clone();
    change(bytes, &mut file);
    match read_table(&file, &sound.record) {
        Ok(found) => assert_eq!(found as u64, sound.record.entries),
        Err(cause) => damage(&cause),
    }
    seal_table(&mut file, &sound.blocks);
    if let Err(cause) = read_table(&file, &sound.record) {
        damage(&cause);
    }
}

/// A blob file behind its header, and references into it.
pub fn blob(bytes: &[u8]) {
    let path = blobs::path(Path::new(DIR), 9);
    let disk = disk_with(&[(&path, &[&blobs::header(), bytes].concat())]);
    let opened = describe(&*disk, &path)
        .and_then(|record| BlobFile::open(&*disk, Path::new(DIR), record, Arc::default()));
    match opened {
        Ok(file) => {
            let told = file.each(&mut |_offset, header, _key| assert!(header.len() > 0));
            told.unwrap_or_else(|cause| damage(&cause));
            if let Ok(at) = blobs::Reference::decode(bytes) {
                let at = blobs::Reference { file: 9, ..at };
                file.read(at, b"key").map_or_else(|cause| damage(&cause), drop);
            }
        }
        Err(cause) => damage(&cause),
    }
    let _malformed = blobs::RecordHeader::decode(bytes);
    let _malformed = blobs::decode_shares(&mut Decoder::new(bytes));
}

/// The list of trees: the bytes as they are, as its one record, and as changes.
pub fn trees(bytes: &[u8]) {
    let path = lists::path(Path::new(DIR));
    let _damaged = lists::decode(bytes);
    let Some((_, sound)) = sound().files.iter().find(|(there, _)| *there == path) else { return };
    let record = crate::version::manifest::record(8, bytes);
    let _damaged = lists::decode(&[&sound[..8], &record].concat());
    let mut file = sound.clone();
    change(bytes, &mut file);
    assert!(file == *sound || lists::decode(&file).is_none(), "damage is not noticed");
    seal_manifest(&mut file, sound);
    let _damaged = lists::decode(&file);
}

/// The list of a backup, as it is and with its digest put right.
pub fn backup_list(bytes: &[u8]) {
    let repository = Path::new("/repository");
    let list = repository.join("backups").join("one");
    let end = format!("end {}\n", blake3::hash(bytes).to_hex());
    let first = [b"meridian backup 1\n", bytes].concat();
    let first_end = format!("end {}\n", blake3::hash(&first).to_hex());
    for text in [bytes, &[bytes, end.as_bytes()].concat(), &[&first, first_end.as_bytes()].concat()]
    {
        let disk = disk_with(&[(&list, text)]);
        if let Err(cause) = backup::restore(&*disk, repository, "one", Path::new(DIR)) {
            damage(&cause);
        }
    }
}
