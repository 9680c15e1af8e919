//! What is done to every decoder with bytes from anywhere: a typed error, or a value that comes back
//! from its own bytes. `fuzz/` gives these bodies to a fuzzer, the tests give them arbitrary bytes
//! and damaged sound ones. Rows and clocks have theirs in `meridian-crdt`.

#![allow(clippy::missing_panics_doc, reason = "to panic is how a finding is told")]

use bytes::Bytes;
use meridian_crdt::{ConflictPolicy, Row, VnodeClock};
use meridian_lsm::MergeOperator;
use meridian_types::Catalog;

use crate::hints::{Hint, Intent};
use crate::identity::{Life, Record};
use crate::merge::{RecordMerge, RowMerge, SharedPolicy};
use crate::store::catalog as definitions;
use crate::{key, records};

/// A decoder's body.
pub type Body = fn(&[u8]);

/// All of them, by the names that the fuzz targets have.
pub const BODIES: [(&str, Body); 4] =
    [("catalog", catalog), ("hint", hint), ("operands", operands), ("record", record)];

/// What waits for other replicas.
pub fn hint(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    if let Ok(hint) = Hint::from_bytes(&shared) {
        assert_eq!(hint.to_bytes(), bytes);
    }
    if let Ok(intent) = Intent::from_bytes(&shared) {
        // An intent of the earlier version is written as one of this.
        let written = intent.to_bytes();
        assert!(written == bytes || bytes.first() == Some(&1));
        assert_eq!(Intent::from_bytes(&written.into()), Ok(intent));
    }
}

/// The definitions of keyspaces and tables.
pub fn catalog(bytes: &[u8]) {
    let Ok(read) = definitions::from_bytes(bytes) else { return };
    let stored = definitions::to_bytes(&read).expect("what was read can be written");
    assert_eq!(definitions::from_bytes(&stored).ok().as_ref(), Some(&read));
    let mut joined = Catalog::default();
    joined.join(&read);
    assert!(joined == read && !joined.join(&read));
}

/// The store's own records: keys of rows and clocks, numbers, the identity, the life.
pub fn record(bytes: &[u8]) {
    if let Ok(place) = key::decode(&Bytes::copy_from_slice(bytes)) {
        assert_eq!(&key::encode(place.token, &place.key)[..], bytes);
    }
    let (name, value) = bytes.split_at(bytes.len().min(9));
    if let Ok((keyspace, vnode, clock)) = records::read_clock(name, value) {
        assert_eq!((&records::clock_key(keyspace, vnode)[..], &*clock.to_bytes()), (name, value));
    }
    if let Ok(number) = records::number_from_bytes("number", bytes) {
        assert_eq!(records::number_to_bytes(number), bytes);
    }
    if let Ok(identity) = Record::from_bytes(bytes) {
        assert_eq!(identity.to_bytes(), bytes);
    }
    if let Ok(life) = Life::from_bytes(bytes) {
        assert_eq!(life.to_bytes(), bytes);
    }
}

/// What the storage engine merges: a length, so many bytes, and again. All at once comes to the same
/// as two by two.
pub fn operands(bytes: &[u8]) {
    let (mut operands, mut rest) = (Vec::new(), bytes);
    while let Some((len, behind)) = rest.split_first() {
        let (operand, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        operands.push(operand);
        rest = behind;
    }
    for policy in [ConflictPolicy::Siblings, ConflictPolicy::Lww] {
        let merge = RowMerge::new(SharedPolicy::new(policy));
        let merged = merged(&merge, b"row", &operands);
        // A single operand stays as it is, and whoever reads the row has the error.
        if operands.len() > 1 {
            let rows =
                operands.iter().all(|row| Row::from_bytes(&Bytes::copy_from_slice(row)).is_ok());
            assert_eq!(rows, merged.is_some());
            let sound = |row: Vec<u8>| row.is_empty() || Row::from_bytes(&row.into()).is_ok();
            assert!(merged.is_none_or(sound));
        }
    }
    let clock = merged(&RecordMerge, &[1; 9], &operands);
    assert!(clock.is_none_or(|clock| VnodeClock::from_bytes(&clock).is_ok()));
    let number = merged(&RecordMerge, &records::MARK_KEY, &operands);
    assert!(number.is_none_or(|number| records::number_from_bytes("number", &number).is_ok()));
}

/// What operands come to; empty for nothing, `None` for an error. Two by two comes to the same, where
/// that is possible.
fn merged(merge: &dyn MergeOperator, key: &[u8], operands: &[&[u8]]) -> Option<Vec<u8>> {
    let whole = merge.full_merge(key, None, &mut operands.iter().copied());
    let whole = whole.ok().map(Option::unwrap_or_default);
    let mut rest = operands.iter();
    let first = rest.next().map(|first| first.to_vec());
    let folded = first.and_then(|first| {
        rest.try_fold(first, |left, right| merge.partial_merge(key, &left, right))
    });
    if let Some(folded) = folded {
        let again = merge.full_merge(key, None, &mut std::iter::once(&folded[..]));
        let again = again.ok().map(Option::unwrap_or_default);
        // A row of nothing is stored as nothing by a whole merge, and as an empty row by others.
        let shown = |row: Option<Vec<u8>>| row.filter(|row| *row != Row::default().to_bytes());
        assert_eq!(shown(again).unwrap_or_default(), shown(whole.clone()).unwrap_or_default());
    }
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Those of the golden tests: a hint, an intent, an identity, a life, the key of a row with a 0 in
    /// it, a clock with its key; a catalog; two deltas, the second of which has seen the first.
    const SOUND: [&[u8]; 9] = [
        b"\x01\x01\x01\xac\x02\x07\x03key\xc8\x01\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\x31\x01\x02\0\0\0\0\0\0\x01\x02\x01\0\0\x02\0\0\0\0\0\0\x01\x02\x02\0\0\0\0\0\0\0\x05value",
        b"\x01\x02\x01\xac\x02\x07\x03key\xac\x02\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\0\0\0\0\0\0\x05\x06\xc8\x01v",
        b"\x01\x01c\xac\x02\x04us-1\x02us\x01a\x0credis-murmur\x08",
        b"\x01\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04",
        b"\0\0\0\0\0\0\0\x01a\0\xffb\0\x01",
        b"\x01\x01\x02\x03\x04\0\0\x05\x06\x01\0",
        b"\x01{\"keyspaces\":{\"geo\":{\"id\":4161848281,\"name\":\"geo\",\"replication\":{\"us\":2},\"version\":{\"stamp\":7,\"node\":2}}},\"tables\":{}}",
        b"\x14\x11\x01\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\0\x05a\x21\x31\x01\x01\0\0\0\0\0\0\0\x02\x01\0\0\x01\0\0\0\0\0\0\0\x02\x02\0\0\0\0\0\0\0\x06b",
        b"\x02\x0e\x01\xac\x02\x07\x03\x6b\x65\x79\xac\x02\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\xcd\x00\x00\x00\x00\x00\x00\x05\x06\xc8\x01\x10\x01\x01\x02\x00\x00\x00\x00\x00\x00\x00\x03\x02\x00\x01\x01\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\xac\x02\x76",
    ];

    #[test]
    fn the_examples_are_sound() {
        assert!(Hint::from_bytes(&Bytes::from_static(SOUND[0])).is_ok());
        for intent in [SOUND[1], SOUND[8]] {
            assert!(Intent::from_bytes(&Bytes::from_static(intent)).is_ok());
        }
        assert!(Record::from_bytes(SOUND[2]).is_ok() && Life::from_bytes(SOUND[3]).is_ok());
        assert!(key::decode(&Bytes::from_static(SOUND[4])).is_ok());
        assert!(records::read_clock(&SOUND[5][..9], &SOUND[5][9..]).is_ok());
        assert!(definitions::from_bytes(SOUND[6]).is_ok_and(|read| read.keyspaces().count() == 1));
        let (first, second) = SOUND[7][1..].split_at(20);
        for delta in [first, &second[1..]] {
            assert!(Row::from_bytes(&Bytes::from_static(delta)).is_ok(), "{delta:02x?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_answered(
            any in proptest::collection::vec(prop_oneof![3 => 0..24u8, 1 => any::<u8>()], 0..60),
            which in 0..SOUND.len(),
            changes in proptest::collection::vec((0..100usize, any::<u8>()), 0..4),
            cut in prop_oneof![2 => Just(0), 1 => 0..40usize],
        ) {
            let mut damaged = SOUND[which].to_vec();
            for (at, byte) in changes {
                let at = at % damaged.len();
                damaged[at] = byte;
            }
            damaged.truncate(damaged.len() - cut.min(damaged.len()));
            for (_, body) in BODIES {
                body(&any);
                body(&damaged);
            }
        }
    }
}
