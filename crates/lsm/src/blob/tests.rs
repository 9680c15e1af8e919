//! Blob files against lists of values, against flipped bits, and against their golden form.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_vfs::{Fs, MemFs, read_all};
use proptest::prelude::*;

use super::format::{
    BlobShare, HEADER, RecordHeader, Reference, count, decode_shares, path, put_shares,
};
use super::reader::{BlobFile, Keep, describe};
use super::writer::BlobWriter;
use crate::coding::Decoder;
use crate::options::Compression;
use crate::table::cache::BlockCache;

const DIR: &str = "/b";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Values = Vec<(Vec<u8>, Vec<u8>)>;

fn write(compression: Compression, values: &Values) -> (MemFs, BlobFile, Vec<Reference>) {
    let (fs, dir) = (MemFs::new(), Path::new(DIR));
    fs.create_dir_all(dir).unwrap();
    let mut writer = BlobWriter::create(&fs, dir, 9, compression).unwrap();
    let references = values.iter().map(|(key, value)| writer.add(key, value).unwrap()).collect();
    writer.sync().unwrap();
    let record = writer.finish().unwrap();
    let file = BlobFile::open(&fs, dir, record, Arc::default()).unwrap();
    (fs, file, references)
}

fn values() -> impl Strategy<Value = Values> {
    let key = proptest::collection::vec(any::<u8>(), 0..9);
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..100),
        proptest::collection::vec(0..3u8, 100..900),
    ];
    proptest::collection::vec((key, value), 1..20)
}

proptest! {
    #[test]
    fn every_value_comes_back(values in values(), which in 0..4usize) {
        let kinds = [Compression::None, Compression::Lz4, Compression::Snappy, Compression::Zstd(1)];
        let (fs, file, references) = write(kinds[which], &values);
        for ((key, value), at) in values.iter().zip(&references) {
            prop_assert_eq!(Reference::decode(&at.encode()), Ok(*at));
            prop_assert_eq!(file.read(*at, key).unwrap(), Bytes::copy_from_slice(value));
            prop_assert!(file.read(*at, b"another key").unwrap_err().is_corruption());
        }
        file.verify().unwrap();
        let mut listed = Vec::new();
        file.each(&mut |offset, _header, key| listed.push((offset, key.to_vec()))).unwrap();
        let wanted: Vec<_> =
            values.iter().zip(&references).map(|((key, _), at)| (at.offset, key.clone())).collect();
        prop_assert_eq!(listed, wanted);
        prop_assert_eq!(describe(&fs, &path(Path::new(DIR), 9)).unwrap(), file.record);
        let live: u64 = references.iter().map(|at| u64::from(at.len)).sum();
        prop_assert_eq!(live, file.record.payload());
    }

    #[test]
    fn what_is_cached_is_as_what_is_read(
        values in values(),
        which in 0..4usize,
        capacity in prop_oneof![Just(0), Just(4 << 10), Just(1 << 20)],
    ) {
        let kinds = [Compression::None, Compression::Lz4, Compression::Snappy, Compression::Zstd(1)];
        let (_fs, file, references) = write(kinds[which], &values);
        let file = file.with_cache(Arc::new(BlockCache::new(capacity)));
        for keep in [Keep::No, Keep::IfRoom, Keep::Yes, Keep::Yes] {
            for ((key, value), at) in values.iter().zip(&references) {
                prop_assert_eq!(file.value(*at, key, keep).unwrap(), Bytes::copy_from_slice(value));
                prop_assert!(file.value(*at, b"another key", keep).unwrap_err().is_corruption());
                let longer = Reference { value_len: at.value_len + 1, ..*at };
                prop_assert!(file.value(longer, key, keep).unwrap_err().is_corruption());
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_never_a_value(values in values(), at: usize, bit in 0..8u8) {
        let (fs, file, references) = write(Compression::Lz4, &values);
        let mut bytes = read_all(&fs, &path(Path::new(DIR), 9)).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let damaged = fs.create(&path(Path::new("/"), 9)).unwrap();
        damaged.append(&bytes).unwrap();
        let opened = BlobFile::open(&fs, Path::new("/"), file.record, Arc::default());
        prop_assert_eq!(opened.is_err(), at < HEADER);
        let Ok(opened) = opened else { return Ok(()) };
        for ((key, value), reference) in values.iter().zip(&references) {
            let end = reference.offset + u64::from(reference.len);
            match opened.read(*reference, key) {
                Ok(read) => prop_assert_eq!(&*read, &**value),
                Err(cause) => {
                    prop_assert!(cause.is_corruption());
                    prop_assert!((reference.offset..end).contains(&(at as u64)));
                }
            }
            if (reference.offset..end).contains(&(at as u64)) {
                prop_assert!(opened.read(*reference, key).is_err());
            }
        }
        prop_assert!(opened.verify().unwrap_err().is_corruption());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        references: [(u64, u32, u32); 4],
    ) {
        let _any = Reference::decode(&bytes);
        let _any = RecordHeader::decode(&bytes);
        let _any = decode_shares(&mut Decoder::new(&bytes));
        let (fs, file, _) = write(Compression::None, &vec![(b"k".to_vec(), b"v".to_vec())]);
        for (offset, len, value_len) in references {
            for at in [offset, offset % 40] {
                for len in [len, len % 40] {
                    let at = Reference { file: 9, offset: at, len, value_len };
                    let right = (at.offset, at.len, at.value_len) == (8, 19, 1);
                    prop_assert_eq!(file.read(at, b"k").is_ok(), right);
                }
            }
        }
        let strange = fs.create(&path(Path::new(DIR), 10)).unwrap();
        strange.append(b"MRDNBLB\x01").unwrap();
        strange.append(&bytes).unwrap();
        let record = describe(&fs, &path(Path::new(DIR), 10)).unwrap();
        let strange = BlobFile::open(&fs, Path::new(DIR), record, Arc::default()).unwrap();
        let _any = strange.each(&mut |_offset, _header, _key| {});
    }

    #[test]
    fn shares_add_up(records in proptest::collection::vec((0..6u64, 1..100u64), 0..40)) {
        let mut shares = Vec::new();
        for (file, bytes) in &records {
            count(&mut shares, *file, *bytes);
        }
        let sum = |file: u64| -> u64 {
            records.iter().filter(|(of, _)| *of == file).map(|(_, bytes)| bytes).sum()
        };
        let wanted: Vec<BlobShare> = (0..6)
            .map(|file| BlobShare { file, bytes: sum(file) })
            .filter(|share| share.bytes > 0)
            .collect();
        prop_assert_eq!(&shares, &wanted);
        let mut out = Vec::new();
        put_shares(&mut out, &shares);
        prop_assert_eq!(decode_shares(&mut Decoder::new(&out)), Ok(shares));
    }
}

#[test]
fn golden_bytes() {
    let values = vec![(b"k".to_vec(), b"value".to_vec()), (b"l".to_vec(), vec![7; 4])];
    let (fs, file, references) = write(Compression::None, &values);
    assert_eq!(
        hex(&read_all(&fs, &path(Path::new(DIR), 9)).unwrap()),
        "\
         4d52444e424c420106feef28000100000005000000050000006b76616c75651629ca4100\
         0100000004000000040000006c07070707"
    );
    assert_eq!(hex(&references[1].encode()), "091f1604");
    assert_eq!(
        hex(&file.record.digest),
        "5107f3a36d8b6faa2bd718679b35df3a4ad8d6b07831b700b8492d1061d860a4"
    );
}

#[test]
fn a_file_that_is_not_the_manifests_is_refused() {
    let (fs, file, _) = write(Compression::None, &vec![(b"k".to_vec(), b"v".to_vec())]);
    let open = |record| BlobFile::open(&fs, Path::new(DIR), record, Arc::default());
    let longer = super::format::BlobRecord { bytes: file.record.bytes + 1, ..file.record };
    assert!(open(longer).unwrap_err().is_corruption());
    let other = super::format::BlobRecord { id: 10, ..file.record };
    assert!(open(other).unwrap_err().to_string().contains("the blob file is missing"));
    let digest = super::format::BlobRecord { digest: [0; 32], ..file.record };
    assert!(open(digest).unwrap().verify().unwrap_err().is_corruption());
}
