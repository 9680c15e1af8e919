//! The bodies over arbitrary bytes and over changes to sound files, without a fuzzer.

use proptest::prelude::*;

use super::*;

/// Bytes that look like what decoders expect: small numbers, lengths, and now and then anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => 0..12u8, 1 => any::<u8>()];
    prop_oneof![
        proptest::collection::vec(byte, 0..200),
        proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

/// A few changes anywhere in a file of some kilobytes, and seldom a cut.
fn changes() -> impl Strategy<Value = Vec<u8>> {
    let cut = prop_oneof![4 => Just(0), 1 => 0..3000u16];
    let change = (0..3000u16, prop_oneof![any::<u8>(), Just(0x80), Just(0xff)]);
    (cut, proptest::collection::vec(change, 0..4)).prop_map(|(cut, changes)| {
        let mut out = cut.to_le_bytes().to_vec();
        for (at, flip) in changes {
            out.extend_from_slice(&at.to_le_bytes());
            out.push(flip);
        }
        out
    })
}

#[test]
fn unchanged_files_are_sound() {
    for (_, body) in BODIES {
        body(&[]);
        body(&[0; 8]);
    }
}

proptest! {
    #[test]
    fn anything_is_answered(bytes in bytes()) {
        for (_, body) in BODIES {
            body(&bytes);
        }
    }

    #[test]
    fn any_change_is_answered(changes in changes(), which: u8) {
        for body in [segment, manifest, table, trees] {
            body(&changes);
        }
        let chosen = [&[which], &*changes].concat();
        database(&chosen);
        repaired(&chosen);
    }
}
