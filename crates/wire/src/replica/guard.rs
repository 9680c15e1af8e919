//! Bounds the memory that a message can claim.
//!
//! An empty row takes two bytes in a message and some two hundred once it is decoded, so a large
//! message of nothing but empty rows would claim a hundred times its size. Before a large message
//! is decoded, its repeated parts are counted along the paths where they can be.

use prost::encoding::{WireType, decode_key, decode_varint};

use super::WireFault;

/// Most rows, keys, values and results in one message. A page has at most 10,000 rows
/// (`Limits::page_rows`); a pull's page of 4 MiB has fewer than 70,000.
pub const MAX_PARTS: usize = 100_000;

/// Messages below this size are not counted: what they can claim is small anyway.
const SMALL_BYTES: usize = 64 << 10;

/// Fields that lead to repeated parts, by number. Every occurrence of one is counted.
struct Shape(&'static [(u32, Self)]);

const LEAF: Shape = Shape(&[]);
const CATALOG: Shape = Shape(&[(1, Shape(&[(3, LEAF)])), (2, LEAF)]);
const VALUES: Shape = Shape(&[(1, LEAF)]);
/// The causes of an `ErrorDetail` that list datacenters.
const ERROR: Shape =
    Shape(&[(16, Shape(&[(2, LEAF)])), (17, Shape(&[(2, LEAF)])), (18, Shape(&[(2, LEAF)]))]);

const CLIENT_REQUEST: Shape = Shape(&[
    (5, KEYS),                                                      // multi-get: keys
    (6, KEYS),                                                      // batch: writes
    (9, KEYS),                                                      // create keyspace: replication
    (14, Shape(&[(1, LEAF), (2, Shape(&[(5, KEYS), (6, KEYS)]))])), // in a session
    (16, Shape(&[(1, LEAF)])),                                      // atomic batch: writes
]);
const KEYS: Shape = Shape(&[(2, LEAF)]);

const CLIENT_OUTCOME: Shape = Shape(&[
    (13, Shape(&[(2, PLAIN_OUTCOME)])), // in a session
    (1, ERROR),
    (2, VALUES),
    (5, MULTI_GOT),
    (6, BATCH),
    (7, PAGE),
    (8, REPLICAS),
    (10, Shape(&[(2, LEAF)])), // table: replication
    (11, CATALOG),
    (12, Shape(&[(4, LEAF), (5, LEAF)])), // cluster: datacenters, nodes
]);
/// What is answered in a session.
const PLAIN_OUTCOME: Shape =
    Shape(&[(2, VALUES), (5, MULTI_GOT), (6, BATCH), (7, PAGE), (8, REPLICAS)]);
/// Results, each with values or an error.
const MULTI_GOT: Shape = Shape(&[(1, Shape(&[(1, VALUES), (2, ERROR)]))]);
const BATCH: Shape = Shape(&[(1, Shape(&[(2, ERROR)]))]);
/// Rows with values.
const PAGE: Shape = Shape(&[(1, Shape(&[(2, LEAF)]))]);
const REPLICAS: Shape = Shape(&[(1, Shape(&[(3, LEAF)]))]);

const MESSAGE: Shape = Shape(&[
    (
        3,
        Shape(&[
            (4, Shape(&[(9, LEAF)])), // what a session has seen
            (5, CLIENT_REQUEST),
            (9, Shape(&[(1, LEAF)])),  // dots
            (10, Shape(&[(3, LEAF)])), // batch: writes
            (11, Shape(&[(1, LEAF)])), // names of batches
        ]),
    ),
    (4, Shape(&[(5, Shape(&[(1, LEAF)])), (6, CLIENT_OUTCOME)])),
    (5, Shape(&[(3, Shape(&[(3, LEAF)]))])), // pull of many: clocks
    (6, Shape(&[(3, Shape(&[(2, LEAF)])), (5, Shape(&[(3, Shape(&[(2, LEAF)]))]))])),
    (7, Shape(&[(1, CATALOG), (4, Shape(&[(1, CATALOG)]))])),
    (8, Shape(&[(3, CATALOG)])),
]);

/// Refuses a message with too many parts. Bytes that are no protobuf are left to the decoder.
pub(super) fn check(bytes: &[u8]) -> Result<(), WireFault> {
    if bytes.len() < SMALL_BYTES {
        return Ok(());
    }
    let mut left = MAX_PARTS;
    count(bytes, &MESSAGE, &mut left)
}

/// Counts the fields of one message; its recursion is as deep as the shapes are.
fn count(mut bytes: &[u8], shape: &Shape, left: &mut usize) -> Result<(), WireFault> {
    while let Some((number, field)) = next_field(&mut bytes)? {
        let Some((_, inner)) = shape.0.iter().find(|(listed, _)| *listed == number) else {
            continue;
        };
        *left = left.checked_sub(1).ok_or(WireFault::TooManyParts)?;
        if !inner.0.is_empty() {
            count(field, inner, left)?;
        }
    }
    Ok(())
}

/// The next field and its bytes, empty where it is a number; `None` at the end, or where the
/// decoder will stop as well because the bytes are no fields.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u32, &'a [u8])>, WireFault> {
    let Some((number, wire_type)) = (!bytes.is_empty()).then(|| decode_key(bytes).ok()).flatten()
    else {
        return Ok(None);
    };
    let length = match wire_type {
        WireType::Varint => {
            return Ok(decode_varint(bytes).ok().map(|_| (number, &[][..])));
        }
        WireType::SixtyFourBit => Some(8),
        WireType::ThirtyTwoBit => Some(4),
        WireType::LengthDelimited => {
            decode_varint(bytes).ok().and_then(|length| usize::try_from(length).ok())
        }
        // The decoder would skip a group, and this count would end at it: no version sends any.
        WireType::StartGroup | WireType::EndGroup => {
            return Err(WireFault::Invalid { field: "group", why: "no message has one".into() });
        }
    };
    let split = length.and_then(|length| bytes.split_at_checked(length));
    Ok(split.map(|(field, rest)| {
        *bytes = rest;
        (number, field)
    }))
}
