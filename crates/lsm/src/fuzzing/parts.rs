//! Decoders of one piece, behind its checksum.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::batch::decode_op;
use crate::coding::Decoder;
use crate::table::block::{Block, BlockCursor};
use crate::table::compress;
use crate::table::filter::Filter;
use crate::table::format::{FOOTER, Footer};
use crate::table::index::Index;
use crate::table::metadata::Metadata;
use crate::table::parts::Parts;
use crate::version::edit;
use crate::version::state::State;
use crate::wal::format::{ChunkHeader, SegmentHeader, decode_batch};

/// A payload of the log: batches, and the operations in them.
pub fn batch(bytes: &[u8]) {
    let mut decoder = Decoder::new(bytes);
    while !decoder.is_empty() {
        let Ok(batch) = decode_batch(&mut decoder) else { break };
        let mut ops = Decoder::new(batch.ops);
        while !ops.is_empty() && decode_op(&mut ops).is_ok() {}
    }
    let mut ops = Decoder::new(bytes);
    while !ops.is_empty() && decode_op(&mut ops).is_ok() {}
}

/// The headers of the log.
pub fn chunk_header(bytes: &[u8]) {
    if let Ok(header) = ChunkHeader::decode(bytes) {
        assert_eq!(ChunkHeader::decode(&header.encode()), Ok(header));
    }
    if let Ok(Some(header)) = SegmentHeader::decode(bytes) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(Some(header)));
    }
}

/// A data block, walked both ways and searched for a key that the input begins with.
pub fn block(bytes: &[u8]) {
    let (key, data) = bytes.split_at(bytes.len().min(4));
    let Ok(block) = Block::parse(Bytes::copy_from_slice(data)) else { return };
    let _malformed = block.visit(key, u64::MAX, &mut |_, _| ControlFlow::Continue(()));
    let mut cursor = BlockCursor::new(block, Vec::new());
    // Each step moves on or fails. A walk is at most as long as the block has bytes.
    let mut steps = 0;
    let _malformed = cursor.first();
    while cursor.valid() && cursor.next().is_ok() {
        let _key_and_value = (cursor.key(), cursor.value());
        steps += 1;
        assert!(steps <= data.len());
    }
    let mut steps = 0;
    let _malformed = cursor.last();
    while cursor.valid() && cursor.prev().is_ok() {
        steps += 1;
        assert!(steps <= data.len());
    }
    let _malformed = cursor.seek(key, 77);
    let _malformed = cursor.seek_before(key, 77);
}

/// A table's index.
pub fn index(bytes: &[u8]) {
    let (key, data) = bytes.split_at(bytes.len().min(4));
    top(key, data);
    let Ok(index) = Index::parse(Bytes::copy_from_slice(data)) else { return };
    assert!(index.find(key) <= index.len());
    let mut before = None;
    for at in 0..index.len() {
        let (separator, _place) = (index.separator(at), index.handle(at));
        assert!(index.find(separator) <= index.len());
        if before.is_some_and(|before| before >= separator) {
            // Nobody looks whether all of them are in order: that is the checksum's task.
            return;
        }
        before = Some(separator);
    }
    for at in 0..index.len() {
        assert_eq!(index.find(index.separator(at)), at);
    }
}

/// The top of an index in partitions.
fn top(key: &[u8], data: &[u8]) {
    const FILE_LEN: u64 = 1 << 20;
    let Ok(parts) = Parts::parse(Bytes::copy_from_slice(data), FILE_LEN) else { return };
    assert!(parts.find(key) <= parts.len());
    for (at, part) in parts.all().iter().enumerate() {
        for handle in [part.index, part.filter] {
            assert!(handle.offset + u64::from(handle.len) <= FILE_LEN);
        }
        for block_at in [part.first, part.first + part.blocks - 1] {
            assert_eq!((parts.of_block(0, block_at), parts.of_block(at, block_at)), (at, at));
        }
    }
    assert_eq!(parts.of_block(0, parts.blocks()), parts.len());
}

/// A table's filter.
pub fn filter(bytes: &[u8]) {
    let Ok(filter) = Filter::parse(Bytes::copy_from_slice(bytes)) else { return };
    for hash in [0, 7, u64::MAX, u64::MAX / 3] {
        filter.may_contain(hash);
    }
}

/// A table's footer.
pub fn footer(bytes: &[u8]) {
    if let Ok(footer) = Footer::decode(bytes) {
        // The version that it was read in may be an older one.
        let again = footer.encode();
        assert_eq!(again[..FOOTER - 1], bytes[..FOOTER - 1]);
    }
}

/// What a table says of itself, in every version.
pub fn metadata(bytes: &[u8]) {
    for version in 0..=4 {
        let _malformed = Metadata::decode(version, bytes);
    }
}

/// A stored block in every compression.
pub fn compressed(bytes: &[u8]) {
    let (head, stored) = bytes.split_at(bytes.len().min(2));
    let len = head.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    for code in 0..=5 {
        if let Ok(Some(raw)) = compress::decompress(code, stored, len) {
            assert_eq!(raw.len(), len);
        }
    }
}

/// A record of the manifest, and what it makes of an empty one.
pub fn manifest_edits(bytes: &[u8]) {
    let Ok(changes) = edit::decode(bytes) else { return };
    let again = edit::decode(&edit::encode(&changes));
    assert_eq!(again.as_ref(), Ok(&changes));
    let mut state = State::default();
    for change in &changes {
        if state.apply(change).is_err() {
            return;
        }
    }
    let mut copy = State::default();
    for change in state.snapshot() {
        copy.apply(&change).expect("a snapshot does not contradict itself");
    }
}
