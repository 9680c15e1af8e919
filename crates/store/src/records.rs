//! The tree of the store's own records: vnode clocks and states, marks of stamps, the life, the
//! identity. Keys begin with a kind, values with a version. `docs/formats/store.md` describes them.

use meridian_crdt::VnodeClock;
use meridian_types::varint::{DecodeError, Reader};
use meridian_types::{Hlc, Incarnation, KeyspaceId, VnodeId};

use crate::standing::VnodeState;

/// The tree's name.
pub(crate) const CLOCKS_TREE: &str = "clocks";

/// Kinds of records, the first byte of a key. Stored: do not renumber.
const CLOCK: u8 = 0x01;
const MARK: u8 = 0x02;
const LIFE: u8 = 0x03;
const IDENTITY: u8 = 0x04;
const AHEAD: u8 = 0x05;
const STATE: u8 = 0x08;
const LIFE_BEFORE: u8 = 0x09;
const PROMISED: u8 = 0x0a;
const ENDED: u8 = 0x0b;

pub(crate) const MARK_KEY: [u8; 1] = [MARK];
pub(crate) const LIFE_KEY: [u8; 1] = [LIFE];
pub(crate) const IDENTITY_KEY: [u8; 1] = [IDENTITY];
pub(crate) const AHEAD_KEY: [u8; 1] = [AHEAD];
pub(crate) const LIFE_BEFORE_KEY: [u8; 1] = [LIFE_BEFORE];
pub(crate) const PROMISED_KEY: [u8; 1] = [PROMISED];
pub(crate) const ENDED_KEY: [u8; 1] = [ENDED];

/// Before the first clock, and behind the last one.
pub(crate) const CLOCKS: ([u8; 1], [u8; 1]) = ([CLOCK], [CLOCK + 1]);
/// Before the first state of a vnode, and behind the last one.
pub(crate) const STATES: ([u8; 1], [u8; 1]) = ([STATE], [STATE + 1]);

const NUMBER_VERSION: u8 = 1;

/// A table's tree is named by its id.
pub(crate) fn tree_name(table: meridian_types::TableId) -> String {
    format!("t{}", table.0)
}

/// Whether a tree is a table's.
pub(crate) fn is_table_tree(name: &str) -> bool {
    name.strip_prefix('t').is_some_and(|id| id.parse::<u32>().is_ok())
}

/// Whether a key names a vnode's clock.
pub(crate) fn is_clock(key: &[u8]) -> bool {
    key.first() == Some(&CLOCK)
}

pub(crate) fn clock_key(keyspace: KeyspaceId, vnode: VnodeId) -> [u8; 9] {
    key_of(CLOCK, keyspace, vnode)
}

pub(crate) fn state_key(keyspace: KeyspaceId, vnode: VnodeId) -> [u8; 9] {
    key_of(STATE, keyspace, vnode)
}

fn key_of(kind: u8, keyspace: KeyspaceId, vnode: VnodeId) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..5].copy_from_slice(&keyspace.0.to_be_bytes());
    key[5..].copy_from_slice(&vnode.0.to_be_bytes());
    key
}

/// Whose clock a key names, and the clock.
pub(crate) fn read_clock(
    key: &[u8],
    value: &[u8],
) -> Result<(KeyspaceId, VnodeId, VnodeClock), DecodeError> {
    let (keyspace, vnode) = read_key(CLOCK, key)?;
    Ok((keyspace, vnode, VnodeClock::from_bytes(value)?))
}

/// Whose state a key names, and the state.
pub(crate) fn read_state(
    key: &[u8],
    value: &[u8],
) -> Result<(KeyspaceId, VnodeId, VnodeState), DecodeError> {
    let (keyspace, vnode) = read_key(STATE, key)?;
    Ok((keyspace, vnode, VnodeState::from_bytes(value)?))
}

fn read_key(kind: u8, key: &[u8]) -> Result<(KeyspaceId, VnodeId), DecodeError> {
    let mut reader = Reader::new(key);
    if reader.u8("kind of a record")? != kind {
        return Err(DecodeError::Invalid { at: 0, what: "kind of a record" });
    }
    let number = reader.fixed_u64("vnode of a record")?;
    reader.finish()?;
    let halves = number.to_be_bytes();
    let half = |at: usize| {
        let mut half = [0; 4];
        half.copy_from_slice(&halves[at..at + 4]);
        u32::from_be_bytes(half)
    };
    Ok((KeyspaceId(half(0)), VnodeId(half(4))))
}

pub(crate) fn number_to_bytes(number: u64) -> [u8; 9] {
    let mut bytes = [NUMBER_VERSION; 9];
    bytes[1..].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub(crate) fn number_from_bytes(what: &'static str, bytes: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8(what)?;
    if version != NUMBER_VERSION {
        return Err(DecodeError::UnknownVersion { what, version });
    }
    let number = reader.fixed_u64(what)?;
    reader.finish()?;
    Ok(number)
}

pub(crate) fn lives_to_bytes(lives: &[Incarnation]) -> Vec<u8> {
    let mut bytes = vec![NUMBER_VERSION];
    lives.iter().for_each(|life| bytes.extend_from_slice(&life.0.to_be_bytes()));
    bytes
}

pub(crate) fn lives_from_bytes(bytes: &[u8]) -> Result<Vec<Incarnation>, DecodeError> {
    const WHAT: &str = "ended lives";
    let mut reader = Reader::new(bytes);
    let version = reader.u8(WHAT)?;
    if version != NUMBER_VERSION {
        return Err(DecodeError::UnknownVersion { what: WHAT, version });
    }
    let mut lives = Vec::new();
    while reader.remaining() > 0 {
        lives.push(Incarnation(reader.fixed_u64(WHAT)?));
    }
    Ok(lives)
}

pub(crate) fn stamp_to_bytes(stamp: Hlc) -> [u8; 9] {
    number_to_bytes(stamp.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let key = clock_key(KeyspaceId(0x0102_0304), VnodeId(0x0506));
        assert_eq!(key, [1, 1, 2, 3, 4, 0, 0, 5, 6]);
        let clock = VnodeClock::default();
        let read = read_clock(&key, &clock.to_bytes());
        assert_eq!(read, Ok((KeyspaceId(0x0102_0304), VnodeId(0x0506), clock)));
        assert_eq!(stamp_to_bytes(Hlc(0x0708)), [1, 0, 0, 0, 0, 0, 0, 7, 8]);
        assert_eq!(number_from_bytes("mark", &stamp_to_bytes(Hlc(9))), Ok(9));
        assert_eq!(CLOCKS, ([1], [2]));
        assert_eq!((MARK_KEY, LIFE_KEY, IDENTITY_KEY, AHEAD_KEY), ([2], [3], [4], [5]));
        assert_eq!((LIFE_BEFORE_KEY, PROMISED_KEY, ENDED_KEY), ([9], [10], [11]));
        let lives = [Incarnation(1), Incarnation(0x0203)];
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 3];
        assert_eq!(lives_to_bytes(&lives), bytes);
        assert_eq!(lives_from_bytes(&bytes).unwrap(), lives);
        let key = state_key(KeyspaceId(0x0102_0304), VnodeId(0x0506));
        assert_eq!(key, [8, 1, 2, 3, 4, 0, 0, 5, 6]);
        let state = VnodeState::sound();
        let read = read_state(&key, &state.to_bytes());
        assert_eq!(read, Ok((KeyspaceId(0x0102_0304), VnodeId(0x0506), state)));
        assert_eq!(STATES, ([8], [9]));
    }

    #[test]
    fn damaged_records_are_errors() {
        let key = clock_key(KeyspaceId(1), VnodeId(2));
        for bad in [&key[..8], &[2; 9], &[], &[1; 10]] {
            assert!(read_clock(bad, &VnodeClock::default().to_bytes()).is_err(), "{bad:?}");
            assert!(read_state(bad, &VnodeState::sound().to_bytes()).is_err(), "{bad:?}");
        }
        assert!(read_clock(&key, &[]).is_err());
        for bad in [&[1; 8][..], &[2; 9], &[1; 10], &[]] {
            assert!(number_from_bytes("mark", bad).is_err(), "{bad:?}");
        }
        for bad in [&[1; 8][..], &[2; 9], &[]] {
            assert!(lives_from_bytes(bad).is_err(), "{bad:?}");
        }
        assert!(is_table_tree("t12") && !is_table_tree("t") && !is_table_tree(CLOCKS_TREE));
    }
}
