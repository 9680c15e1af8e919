//! Edits and the manifest file.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_vfs::{CrashChoice, Fault, FaultFs, FaultRule, Fs, MemFs, Op, read_all};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::edit::{Change, TableRecord, TableTimes, TreeRecord, decode, encode};
use super::manifest::{Manifest, decode_file, path, record};
use super::state::State;
use crate::blob::format::{BlobRecord, BlobShare};
use crate::error::Error;
use crate::options::{Blobs, Compaction, Compression, Tiers, TreeConfig};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn table(id: u64) -> TableRecord {
    TableRecord {
        id,
        level: 1,
        bytes: 300,
        digest: [0xab; 32],
        smallest: Bytes::from_static(b"a"),
        largest: Bytes::from_static(b"m"),
        min_seqno: 3,
        max_seqno: 200,
        entries: 9,
        deletes: 1,
        times: TableTimes {
            written: 900,
            made: 901,
            expiring: 2,
            earliest_expiry: 1000,
            latest_expiry: 1001,
        },
        blobs: vec![BlobShare { file: 3, bytes: 77 }],
    }
}

fn blob(id: u64) -> BlobRecord {
    BlobRecord { id, bytes: 85, digest: [0xcd; 32] }
}

fn all_changes() -> Vec<Change> {
    let config = TreeConfig {
        compression: Compression::Zstd(-3),
        bottom_compression: Some(Compression::ZstdTrained(9)),
        blobs: Some(Blobs { threshold: 300, garbage_percent: 60, oldest_percent: 90 }),
        ..TreeConfig::new("t")
    };
    vec![
        Change::CreateTree(TreeRecord::new(1, &config)),
        Change::AddBlob { tree: 1, blob: blob(3) },
        Change::AddTable { tree: 1, table: table(4) },
        Change::MoveTable { tree: 1, table: 4, level: 2 },
        Change::RemoveTable { tree: 1, table: 4 },
        Change::RemoveBlob { tree: 1, blob: 3 },
        Change::Flushed { tree: 1, seqno: 200 },
        Change::WalFloor { segment: 2, last: 200 },
        Change::NextIds { table: 5, tree: 2 },
        Change::DropTree { tree: 1 },
        Change::Closed { segment: 2, bytes: 72 },
    ]
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    (0..text.len() / 2).map(digits).collect()
}

#[test]
fn golden_bytes() {
    let bytes = encode(&all_changes());
    assert_eq!(
        hex(&bytes),
        "\
         0c010174008080802080400a03fdffffff0104808080050a01040900000001ac023c5a0f\
         010355cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd0e\
         010401ac02ababababababababababababababababababababababababababababababab\
         ab0161016d03c80109018407850702e807e90701034d050104020401041001030601c801\
         0702c8010805020201090248"
    );
    assert_eq!(decode(&bytes), Ok(all_changes()));
    assert_eq!(hex(&record(8, b"x")), "a76d651e010000000800000000000000935f3ca992e36dfb78");
}

#[test]
fn golden_bytes_of_version_2() {
    let bytes = unhex(
        "01010174008080802080400a03fdffffff0104808080050a0a010401ac02abababababab\
         abababababababababababababababababababababababababab0161016d03c801090184\
         07850702e807e907050104020401040601c8010702c8010805020201090248",
    );
    let config = TreeConfig { compression: Compression::Zstd(-3), ..TreeConfig::new("t") };
    let changes: Vec<Change> = all_changes()
        .into_iter()
        .filter(|change| !matches!(change, Change::AddBlob { .. } | Change::RemoveBlob { .. }))
        .map(|change| match change {
            Change::CreateTree(_) => Change::CreateTree(TreeRecord::new(1, &config)),
            Change::AddTable { tree, table } => {
                Change::AddTable { tree, table: TableRecord { blobs: Vec::new(), ..table } }
            }
            other => other,
        })
        .collect();
    assert_eq!(decode(&bytes), Ok(changes));
    let tiers =
        Tiers { min_runs: 2, max_runs: 3, low_percent: 4, high_percent: 500, small_bytes: 6 };
    let config = TreeConfig { compaction: Compaction::SizeTiered(tiers), ..TreeConfig::new("t") };
    let configured = unhex("0b010174008080802080400a010000000002020304f40306");
    assert_eq!(decode(&configured), Ok(vec![Change::ConfigureTree(TreeRecord::new(1, &config))]));
}

#[test]
fn golden_bytes_of_version_1() {
    let text = ["03010401ac02", &"ab".repeat(32), "0161016d03c8010901"].concat();
    let table = TableRecord { times: TableTimes::default(), blobs: Vec::new(), ..table(4) };
    assert_eq!(decode(&unhex(&text)), Ok(vec![Change::AddTable { tree: 1, table }]));
    let mut file = b"MRDNMAN\x01".to_vec();
    file.extend_from_slice(&record(8, &encode(&[])));
    assert_eq!(decode_file(Path::new("m"), &file).unwrap().state, State::default());
    file[7] = 4;
    assert!(decode_file(Path::new("m"), &file).unwrap_err().to_string().contains("version 4"));
}

#[test]
fn a_record_keeps_every_strategy() {
    let tiers =
        Tiers { min_runs: 2, max_runs: 3, low_percent: 4, high_percent: 500, small_bytes: 6 };
    for compaction in [
        Compaction::SizeTiered(tiers),
        Compaction::TimeWindow { window_ms: 1 << 40, tiers },
        Compaction::Hybrid { tiers, run_bytes: 7, factor: 8 },
    ] {
        let config = TreeConfig { compaction, ..TreeConfig::new("t") };
        let changes = vec![Change::ConfigureTree(TreeRecord::new(1, &config))];
        assert_eq!(decode(&encode(&changes)), Ok(changes));
    }
}

#[test]
fn a_record_keeps_a_trees_settings() {
    let config = TreeConfig {
        memtable_bytes: 1 << 20,
        block_bytes: 4096,
        bloom_bits_per_key: 7,
        compression: Compression::Snappy,
        bottom_compression: Some(Compression::Zstd(7)),
        blobs: Some(Blobs { threshold: 9, garbage_percent: 8, oldest_percent: 7 }),
        compaction: Compaction::Leveled { l0_files: 2, l1_bytes: 5, factor: 3 },
        ..TreeConfig::new("t")
    };
    let record = TreeRecord::new(1, &config);
    assert_eq!(TreeRecord::new(1, &record.config()), record);
}

fn open_manifest() -> (MemFs, Manifest) {
    let fs = MemFs::new();
    fs.create_dir_all(Path::new("/m")).unwrap();
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let manifest = Manifest::write(disk, Path::new("/m"), State::default()).unwrap();
    (fs, manifest)
}

/// Makes each of the changes an edit; returns the file, where each edit begins and ends, and the
/// states before and after each.
fn edits() -> (Vec<u8>, Vec<(usize, usize)>, Vec<State>) {
    let (fs, mut manifest) = open_manifest();
    let read = || read_all(&fs, &path(Path::new("/m"))).unwrap();
    let (mut places, mut states) = (Vec::new(), vec![manifest.state().clone()]);
    for change in all_changes() {
        let start = read().len();
        let edit = record(start as u64, &encode(std::slice::from_ref(&change)));
        manifest.commit(&[change]).unwrap();
        places.push((start, start + edit.len()));
        states.push(manifest.state().clone());
    }
    (read(), places, states)
}

#[test]
fn only_the_last_record_can_be_torn() {
    let (bytes, places, states) = edits();
    let first = places[0].0;
    for cut in first..=bytes.len() {
        let loaded = decode_file(Path::new("m"), &bytes[..cut]).unwrap();
        let whole = places.iter().filter(|(_, end)| *end <= cut).count();
        assert_eq!(loaded.state, states[whole]);
        let ends = places.iter().flat_map(|(start, end)| [*start, *end]).chain([bytes.len()]);
        assert_eq!(loaded.torn, (cut - ends.filter(|end| *end <= cut).max().unwrap()) as u64);
    }
    for cut in 0..first {
        assert!(decode_file(Path::new("m"), &bytes[..cut]).unwrap_err().is_corruption());
    }
}

#[test]
fn rot_is_told_from_a_torn_end_even_in_the_last_edit() {
    let (bytes, places, states) = edits();
    let first = places[0].0;
    let is_in_edit = |at: usize| places.iter().any(|(start, end)| (*start..*end).contains(&at));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        match decode_file(Path::new("m"), &damaged) {
            Err(cause) => assert!(cause.is_corruption() && (at < first || is_in_edit(at)), "{at}"),
            // Nothing hangs on a witness.
            Ok(loaded) => {
                assert!(at >= first && !is_in_edit(at), "{at}");
                assert_eq!(&loaded.state, states.last().unwrap());
            }
        }
    }
}

/// Whatever is lost of what no sync covered is a torn end, and no damage.
#[test]
fn no_witness_is_there_before_its_edit() {
    let (fs, mut manifest) = open_manifest();
    let told = Arc::new(Mutex::new(Vec::new()));
    let taken = told.clone();
    fs.set_sync_hook(move |fs, _point| {
        let file = path(Path::new("/m"));
        let read = |choice| read_all(&fs.crash_clone(choice), &file).unwrap();
        let (synced, all) = (read(CrashChoice::LoseUnsynced), read(CrashChoice::KeepEverything));
        for start in (synced.len()..all.len()).step_by(5) {
            for lost in [1, 10, 24, 100] {
                let mut left = all.clone();
                left[start..all.len().min(start + lost)].fill(0);
                taken.lock().push(decode_file(&file, &left).map(|loaded| loaded.state));
            }
        }
    });
    let mut states = vec![manifest.state().clone()];
    for change in all_changes() {
        manifest.commit(&[change]).unwrap();
        states.push(manifest.state().clone());
    }
    fs.clear_sync_hook();
    let told = std::mem::take(&mut *told.lock());
    assert!(told.len() > 100);
    for state in told {
        assert!(states.contains(&state.unwrap()));
    }
}

#[test]
fn an_edit_stands_where_its_witness_finds_no_room() {
    let fs = MemFs::new();
    fs.create_dir_all(Path::new("/m")).unwrap();
    let faulty = FaultFs::new(Arc::new(fs.clone()));
    let disk: Arc<dyn Fs> = Arc::new(faulty.clone());
    let mut manifest = Manifest::write(disk, Path::new("/m"), State::default()).unwrap();
    let load = || Manifest::load(&fs, Path::new("/m")).unwrap().unwrap();
    let (op, path) = (Op::Append, "MANIFEST".to_owned());
    for (at, change) in all_changes().into_iter().enumerate() {
        let fault = Fault::PartialAppend(at % 25);
        // The first append is the edit's, or that of the new file that it needs.
        let nth = if at == 0 { 2 } else { 3 };
        faulty.inject(FaultRule { op, path: path.clone(), nth, sticky: false, fault });
        manifest.commit(&[change]).unwrap();
        assert_eq!((&load().state, load().torn), (manifest.state(), at as u64 % 25));
        faulty.heal();
    }
}

#[test]
fn a_long_manifest_is_written_anew() {
    let (fs, mut manifest) = open_manifest();
    manifest.commit(&all_changes()[..2]).unwrap();
    let (mut longest, mut rewrites, mut before) = (0, 0, 0);
    for id in 10..8000 {
        manifest.commit(&[Change::AddTable { tree: 1, table: table(id) }]).unwrap();
        manifest.commit(&[Change::RemoveTable { tree: 1, table: id }]).unwrap();
        let len = fs.open(&path(Path::new("/m"))).unwrap().len().unwrap();
        rewrites += usize::from(len < before);
        before = len;
        longest = longest.max(len);
    }
    assert!(longest < 300 << 10 && rewrites > 1, "{longest} {rewrites}");
    let loaded = Manifest::load(&fs, Path::new("/m")).unwrap().unwrap();
    assert_eq!(&loaded.state, manifest.state());
    assert_eq!(loaded.state.next_table, 8000);
}

#[test]
fn contradictions_are_corruption() {
    let (fs, manifest) = open_manifest();
    drop(manifest);
    let mut bytes = read_all(&fs, &path(Path::new("/m"))).unwrap();
    let twice = record(bytes.len() as u64, &encode(&[Change::DropTree { tree: 9 }]));
    bytes.extend_from_slice(&twice);
    let told = decode_file(Path::new("m"), &bytes).unwrap_err();
    assert!(matches!(told, Error::Corruption { .. }) && told.to_string().contains("tree 9"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        small in proptest::collection::vec(0..12u8, 0..200),
    ) {
        for payload in [bytes, small] {
            let _any = decode(&payload);
            let _any = decode_file(Path::new("m"), &payload);
            let mut file = b"MRDNMAN\x01".to_vec();
            file.extend_from_slice(&record(8, &payload));
            let _any = decode_file(Path::new("m"), &file);
        }
    }
}
