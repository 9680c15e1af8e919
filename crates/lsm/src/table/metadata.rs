//! What a table says of itself: enough to write the manifest's record of it anew, and whose it is.

use bytes::Bytes;

use super::format::Handle;
use crate::blob::format::{BlobShare, decode_shares, put_shares};
use crate::coding::{Decoder, Malformed, put_bytes, put_varint};
use crate::key::Seqno;
use crate::version::edit::{TableRecord, TableTimes, level_of};

/// Whose a table is, and how it came about. Since version 2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) tree: u32,
    pub(crate) name: String,
    pub(crate) table: u64,
    /// The level that it was written for; it may have moved since.
    pub(crate) level: u8,
    pub(crate) times: TableTimes,
    /// Everything of the tree up to here is in tables: in this one and those that were there when it
    /// was begun.
    pub(crate) flushed: Seqno,
    /// Part of an ingest: whether that ended is said elsewhere.
    pub(crate) ingested: bool,
    /// The tables that were merged into this one and those written with it.
    pub(crate) inputs: Vec<u64>,
    /// Tables that no version had any more when this one was begun, and whose files may be found
    /// all the same.
    pub(crate) replaced: Vec<u64>,
    /// The blob files that it refers to.
    pub(crate) blobs: Vec<BlobShare>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
    pub(crate) merges: u64,
    pub(crate) min_seqno: Seqno,
    pub(crate) max_seqno: Seqno,
    /// Of keys and values.
    pub(crate) raw_bytes: u64,
    /// Data blocks.
    pub(crate) blocks: u64,
    pub(crate) smallest: Bytes,
    pub(crate) largest: Bytes,
    /// `None`: version 1.
    pub(crate) origin: Option<Origin>,
    /// Since version 2. Length 0: there is none.
    pub(crate) dictionary: Handle,
    /// Of index and filter. Since version 3. 0: both are whole.
    pub(crate) partitions: u64,
}

impl Metadata {
    /// In the present version if there is an origin, otherwise in version 1.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [
            self.entries,
            self.deletes,
            self.merges,
            self.min_seqno,
            self.max_seqno,
            self.raw_bytes,
            self.blocks,
        ] {
            put_varint(&mut out, number);
        }
        put_bytes(&mut out, &self.smallest);
        put_bytes(&mut out, &self.largest);
        if let Some(origin) = &self.origin {
            origin.encode(&mut out);
            put_varint(&mut out, self.dictionary.offset);
            put_varint(&mut out, u64::from(self.dictionary.len));
            put_varint(&mut out, self.partitions);
        }
        out
    }

    pub(crate) fn decode(version: u8, bytes: &[u8]) -> Result<Self, Malformed> {
        let d = &mut Decoder::new(bytes);
        let metadata = Self {
            entries: d.varint()?,
            deletes: d.varint()?,
            merges: d.varint()?,
            min_seqno: d.varint()?,
            max_seqno: d.varint()?,
            raw_bytes: d.varint()?,
            blocks: d.varint()?,
            smallest: Bytes::copy_from_slice(d.bytes()?),
            largest: Bytes::copy_from_slice(d.bytes()?),
            origin: if version == 1 { None } else { Some(Origin::decode(d)?) },
            dictionary: if version == 1 { Handle::default() } else { decode_handle(d)? },
            partitions: if version < 3 { 0 } else { d.varint()? },
        };
        if d.is_empty() { Ok(metadata) } else { Err(Malformed) }
    }

    /// Whether the table is the one that the manifest means.
    pub(crate) fn is_of(&self, record: &TableRecord) -> bool {
        self.entries == record.entries
            && self.deletes == record.deletes
            && self.min_seqno == record.min_seqno
            && self.max_seqno == record.max_seqno
            && self.smallest == record.smallest
            && self.largest == record.largest
            && self.origin.as_ref().is_none_or(|origin| origin.is_of(record))
    }

    /// What the manifest would say of the table, a file of so many bytes with this digest, at the
    /// level that it was written for. `None` for version 1, which does not say enough.
    pub(crate) fn record(&self, bytes: u64, digest: [u8; 32]) -> Option<TableRecord> {
        let origin = self.origin.as_ref()?;
        Some(TableRecord {
            id: origin.table,
            level: origin.level,
            bytes,
            digest,
            smallest: self.smallest.clone(),
            largest: self.largest.clone(),
            min_seqno: self.min_seqno,
            max_seqno: self.max_seqno,
            entries: self.entries,
            deletes: self.deletes,
            times: origin.times,
            blobs: origin.blobs.clone(),
        })
    }
}

fn decode_handle(d: &mut Decoder<'_>) -> Result<Handle, Malformed> {
    Ok(Handle { offset: d.varint()?, len: d.varint_u32()? })
}

impl Origin {
    fn is_of(&self, record: &TableRecord) -> bool {
        self.table == record.id && self.times == record.times && self.blobs == record.blobs
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let times = &self.times;
        put_varint(out, u64::from(self.tree));
        put_bytes(out, self.name.as_bytes());
        put_varint(out, self.table);
        out.push(self.level);
        for number in
            [times.written, times.made, times.expiring, times.earliest_expiry, times.latest_expiry]
        {
            put_varint(out, number);
        }
        put_varint(out, self.flushed);
        out.push(u8::from(self.ingested));
        for tables in [&self.inputs, &self.replaced] {
            put_varint(out, tables.len() as u64);
            tables.iter().for_each(|table| put_varint(out, *table));
        }
        put_shares(out, &self.blobs);
    }

    fn decode(d: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            tree: d.varint_u32()?,
            name: String::from_utf8(d.bytes()?.to_vec()).map_err(|_cause| Malformed)?,
            table: d.varint()?,
            level: level_of(u64::from(d.u8()?))?,
            times: TableTimes::decode(d)?,
            flushed: d.varint()?,
            ingested: match d.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Malformed),
            },
            inputs: decode_tables(d)?,
            replaced: decode_tables(d)?,
            blobs: decode_shares(d)?,
        })
    }
}

fn decode_tables(d: &mut Decoder<'_>) -> Result<Vec<u64>, Malformed> {
    // Each takes a byte at least: a wrong number ends at the end of the block.
    (0..d.varint()?).map(|_| d.varint()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Metadata {
        let times = TableTimes {
            written: 9,
            made: 10,
            expiring: 2,
            earliest_expiry: 11,
            latest_expiry: 99,
        };
        Metadata {
            entries: 3,
            deletes: 1,
            merges: 1,
            min_seqno: 5,
            max_seqno: 300,
            raw_bytes: 40,
            blocks: 1,
            smallest: Bytes::from_static(b"a"),
            largest: Bytes::from_static(b"zz"),
            dictionary: Handle { offset: 1337, len: 77 },
            partitions: 200,
            origin: Some(Origin {
                tree: 7,
                name: "cities".to_owned(),
                table: 12,
                level: 6,
                times,
                flushed: 300,
                ingested: false,
                inputs: vec![10, 11],
                replaced: vec![200],
                blobs: vec![BlobShare { file: 3, bytes: 200 }, BlobShare { file: 300, bytes: 1 }],
            }),
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = example().encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "03010105ac022801016102 7a7a07066369746965730c06090a020b63 ac0200020a0b01c801 0203c801ac0201 b90a4d c801"
                .replace(' ', "")
        );
        assert_eq!(Metadata::decode(3, &bytes), Ok(example()));
        let whole = Metadata { partitions: 0, ..example() };
        assert_eq!(Metadata::decode(2, &bytes[..bytes.len() - 2]), Ok(whole.clone()));
        let old = Metadata { origin: None, dictionary: Handle::default(), ..whole };
        assert_eq!(Metadata::decode(1, &old.encode()), Ok(old.clone()));
        assert_eq!(old.record(1, [0; 32]), None);
    }

    #[test]
    fn a_record_made_from_it_is_of_it() {
        let record = example().record(1000, [7; 32]).unwrap();
        assert!(example().is_of(&record) && record.bytes == 1000 && record.digest == [7; 32]);
        let moved = TableRecord { level: 1, ..record.clone() };
        assert!(example().is_of(&moved));
        let others = [
            TableRecord { id: 1, ..record.clone() },
            TableRecord { entries: 4, ..record.clone() },
            TableRecord { deletes: 0, ..record.clone() },
            TableRecord { min_seqno: 4, ..record.clone() },
            TableRecord { max_seqno: 4, ..record.clone() },
            TableRecord { smallest: Bytes::new(), ..record.clone() },
            TableRecord { largest: Bytes::new(), ..record.clone() },
            TableRecord { times: TableTimes::default(), ..record.clone() },
            TableRecord { blobs: Vec::new(), ..record },
        ];
        assert!(others.iter().all(|other| !example().is_of(other)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, at: usize, flip in 1u8..) {
            let _any = Metadata::decode(1, &bytes);
            let _any = Metadata::decode(2, &bytes);
            let _any = Metadata::decode(3, &bytes);
            let mut bytes = example().encode();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _any = Metadata::decode(3, &bytes);
            prop_assert_eq!(Metadata::decode(3, &bytes[..at]), Err(Malformed));
        }
    }
}
