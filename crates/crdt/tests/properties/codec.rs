//! Encodings round-trip, have one spelling only, and refuse everything else without harm.

use std::fmt::Debug;

use bytes::Bytes;
use meridian_crdt::{Actor, Context, DecodeError, Delta, Dot, DotSet, Entry, Row, VnodeClock};
use meridian_types::{Hlc, Incarnation, Millis, NodeId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseError;

use crate::draw::{any_clock, any_context, any_delta, any_dots, any_row, dot};

/// What is done to good bytes.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Append(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        any::<(Index, u8)>().prop_map(|(at, byte)| Damage::Set(at, byte)),
        any::<(Index, u8)>().prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<Index>().prop_map(Damage::Remove),
        vec(any::<u8>(), 1..4).prop_map(Damage::Append),
    ]
}

fn damaged(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for damage in damage {
        let len = bytes.len().max(1);
        match damage {
            Damage::Cut(at) => bytes.truncate(at.index(len)),
            Damage::Set(at, byte) if !bytes.is_empty() => bytes[at.index(len)] = *byte,
            Damage::Insert(at, byte) => bytes.insert(at.index(len).min(bytes.len()), *byte),
            Damage::Remove(at) if !bytes.is_empty() => {
                bytes.remove(at.index(len));
            }
            Damage::Append(more) => bytes.extend(more),
            Damage::Set(..) | Damage::Remove(_) => {}
        }
    }
    bytes
}

/// Whatever decodes is spelled as its encoder spells it, so that equal states are equal bytes even
/// where the bytes came from elsewhere.
fn has_one_spelling<T>(
    bytes: &[u8],
    decoded: Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Result<(), TestCaseError> {
    if let Ok(value) = decoded {
        prop_assert_eq!(&encode(&value)[..], bytes);
    }
    Ok(())
}

fn survives_everything(bytes: &[u8]) -> Result<(), TestCaseError> {
    let shared = Bytes::copy_from_slice(bytes);
    has_one_spelling(bytes, VnodeClock::from_bytes(bytes), VnodeClock::to_bytes)?;
    has_one_spelling(bytes, Context::from_bytes(bytes), Context::to_bytes)?;
    has_one_spelling(bytes, DotSet::from_bytes(bytes), DotSet::to_bytes)?;
    has_one_spelling(bytes, Row::from_bytes(&shared), Row::to_bytes)?;
    has_one_spelling(bytes, Delta::from_bytes(&shared), Delta::to_bytes)?;
    // What came from elsewhere must not only decode but serve.
    if let (Ok(a), Ok(b)) = (DotSet::from_bytes(bytes), DotSet::from_bytes(&[1, 0])) {
        prop_assert!(a.len() >= b.len() && a.difference(&a).is_empty() && b.is_subset(&a));
    }
    Ok(())
}

fn round_trips<T: PartialEq + Debug>(
    value: &T,
    decoded: Result<T, DecodeError>,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(decoded.as_ref(), Ok(value));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn everything_round_trips(
        clock in any_clock(),
        context in any_context(),
        dots in any_dots(),
        row in any_row(),
        delta in any_delta(),
    ) {
        round_trips(&clock, VnodeClock::from_bytes(&clock.to_bytes()))?;
        round_trips(&context, Context::from_bytes(&context.to_bytes()))?;
        round_trips(&dots, DotSet::from_bytes(&dots.to_bytes()))?;
        round_trips(&row, Row::from_bytes(&row.to_bytes().into()))?;
        round_trips(&delta, Delta::from_bytes(&delta.to_bytes().into()))?;
        prop_assert_eq!(delta.to_bytes(), delta.into_row().to_bytes());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(mut bytes in vec(any::<u8>(), 0..64), first in 0u8..4) {
        survives_everything(&bytes)?;
        // Past the version, where more can go wrong.
        if let Some(byte) = bytes.first_mut() {
            *byte = *byte & 0xf0 | first;
        }
        survives_everything(&bytes)?;
    }

    #[test]
    fn damaged_bytes_do_no_harm(
        clock in any_clock(),
        row in any_row(),
        delta in any_delta(),
        damage in vec(damage(), 1..4),
    ) {
        for bytes in [clock.to_bytes(), row.to_bytes(), delta.to_bytes()] {
            survives_everything(&damaged(bytes, &damage))?;
        }
    }

    #[test]
    fn a_cut_row_is_refused_or_a_shorter_value(row in any_row(), at in any::<Index>()) {
        let bytes = Bytes::from(row.to_bytes());
        let cut = bytes.slice(..at.index(bytes.len()));
        if let Ok(shorter) = Row::from_bytes(&cut) {
            let [entry] = shorter.entries() else {
                return Err(TestCaseError::fail("only a single entry has no length"));
            };
            let whole = row.entry(entry.dot).and_then(|entry| entry.value.clone());
            let value = entry.value.clone();
            prop_assert!(value.zip(whole).is_some_and(|(cut, whole)| whole.starts_with(&cut)));
        }
    }

    #[test]
    fn one_entry_costs_at_most_32_bytes_beyond_its_value(
        node in 0u32..1 << 21,
        incarnation in any::<u64>(),
        counter in 1u64..1 << 42,
        stamp in any::<u64>(),
        expires in proptest::option::of(0u64..CENTURY_END),
        value in proptest::option::of(vec(any::<u8>(), 0..64)),
    ) {
        let actor = Actor { node: NodeId(node), incarnation: Incarnation(incarnation) };
        let len = value.as_ref().map_or(0, Vec::len);
        let entry = Entry {
            dot: Dot::new(actor, counter),
            stamp: Hlc(stamp),
            expires: expires.map(Millis),
            value: value.map(Bytes::from),
        };
        let row = Row::new([entry], Context::default());
        prop_assert!(row.to_bytes().len() - len <= 32);
    }
}

/// The first millisecond of the year 2101.
const CENTURY_END: u64 = 4_133_980_800_000;

fn cost(node: u32, counter: u64, expires: Option<u64>) -> usize {
    let actor = Actor { node: NodeId(node), incarnation: Incarnation(u64::MAX) };
    let value = Some(Bytes::from_static(b"value"));
    let expires = expires.map(Millis);
    let entry = Entry { dot: Dot::new(actor, counter), stamp: Hlc(u64::MAX), expires, value };
    Row::new([entry], Context::default()).to_bytes().len() - 5
}

/// Where the bound of 32 bytes is reached and left: `docs/formats/rows.md` has these figures.
#[test]
fn what_one_entry_costs_at_the_extremes() {
    assert_eq!(cost(1, 1, None), 19);
    assert_eq!(cost(100, 1_000_000, None), 21);
    assert_eq!(cost(100, 1_000_000, Some(1_790_000_000_000)), 27);
    assert_eq!(cost((1 << 14) - 1, (1 << 35) - 1, Some(CENTURY_END)), 30);
    assert_eq!(cost((1 << 21) - 1, (1 << 42) - 1, Some(CENTURY_END)), 32);
    assert_eq!(cost(1 << 21, (1 << 42) - 1, Some(CENTURY_END)), 33);
    assert_eq!(cost((1 << 21) - 1, 1 << 42, Some(CENTURY_END)), 33);
    assert_eq!(cost(u32::MAX, u64::MAX, None), 32);
    assert_eq!(cost(u32::MAX, u64::MAX, Some(u64::MAX)), 42);
}

#[test]
fn rows_of_another_spelling_are_refused() {
    let one = Row::new([entry(1, Some("v"))], Context::default()).to_bytes();
    let two = Row::new([entry(1, Some("v")), entry(2, None)], Context::default()).to_bytes();
    let refused = |bytes: &[u8], why: &str| {
        let decoded = Row::from_bytes(&Bytes::copy_from_slice(bytes));
        assert!(decoded.is_err(), "{why}: {decoded:?}");
    };
    let with = |bytes: &[u8], at: usize, byte: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = byte;
        bytes
    };
    refused(&[], "nothing");
    refused(&with(&one, 0, 0x12), "another version");
    refused(&with(&one, 0, 0x51), "a marker with a value");
    refused(&with(&two, 0, 0x41), "flags of a single entry without one");
    refused(&with(&two, 0, 0x81), "flags of a single entry without one");
    refused(&with(&two, 1, 3), "more entries than there are");
    refused(&with(&two, 2, 0x04), "an unknown flag");
    refused(&[0x21, 0x00, 0x00], "a context with nothing in it");
    let mut counted = vec![0x01, 0x01, 0x00];
    counted.extend(&one[1..one.len() - 1]);
    counted.extend([1, b'v']);
    refused(&counted, "one entry with a count");
    let (head, tail) = (&two[..2], &two[2..]);
    let (first, second) = tail.split_at(tail.len() - 20);
    refused(&[head, second, first].concat(), "entries out of order");
    refused(&[head, first, first].concat(), "an entry twice");
    refused(&[head, tail, &[0]].concat(), "bytes left over");
    let huge = [&[0x01], &[0xff; 9][..], &[0x01]].concat();
    refused(&huge, "more entries than any buffer holds");
}

#[test]
fn clocks_of_another_spelling_are_refused() {
    let actor = |node: u8| [&[node][..], &[7; 8]].concat();
    let of = |actors: &[Vec<u8>]| {
        let count = u8::try_from(actors.len()).expect("few actors");
        [vec![1, count], actors.concat()].concat()
    };
    let with = |node, ranges: &[u8]| [&actor(node)[..], ranges].concat();
    let (one, two) = (with(1, &[1, 0, 3]), with(2, &[1, 0, 3]));
    let good = of(&[one.clone(), two.clone()]);
    assert_eq!(VnodeClock::from_bytes(&good).map(|clock| clock.dots().len()), Ok(8));
    let refused = |bytes: &[u8], why: &str| {
        assert!(VnodeClock::from_bytes(bytes).is_err(), "{why}");
    };
    let two_ranges = with(2, &[2, 0, 3, 0, 0]);
    assert!(VnodeClock::from_bytes(&of(&[one.clone(), two_ranges.clone()])).is_ok());
    refused(&of(&[with(1, &[0]), two_ranges]), "an actor without counters");
    refused(&of(&[one.clone(), one.clone()]), "an actor twice");
    refused(&of(&[two, one.clone()]), "actors out of order");
    refused(&[&of(&[one])[..], &[0]].concat(), "bytes left over");
    refused(&[&[2], &good[1..]].concat(), "another version");
    refused(&[&[1], &[0xff; 9][..], &[1]].concat(), "more actors than any buffer holds");
}

fn entry(counter: u64, value: Option<&'static str>) -> Entry {
    let value = value.map(|text| Bytes::from_static(text.as_bytes()));
    Entry { dot: dot(1, counter), stamp: Hlc(counter), expires: None, value }
}

#[test]
fn a_delta_has_one_entry() {
    for entries in [vec![], vec![entry(1, None), entry(2, None)]] {
        let bytes = Row::new(entries, Context::default()).to_bytes();
        assert!(matches!(Delta::from_bytes(&bytes.into()), Err(DecodeError::Invalid { .. })));
    }
}
