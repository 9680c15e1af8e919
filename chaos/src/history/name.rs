//! Names of what clients do: keys, operations, writes.

use std::fmt;

use bytes::Bytes;
use meridian_types::{TableId, WriteId};

/// The first bytes of every value that a client of the simulated world writes.
const VALUE_MAGIC: [u8; 4] = *b"chv1";

/// The first bytes of every write id that such a client makes.
const ID_MAGIC: [u8; 8] = *b"chaoswid";

/// The first byte of every key that such a client uses.
const KEY_MAGIC: u8 = b'k';

/// A key of a table, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The table.
    pub table: TableId,
    /// Which of its keys.
    pub number: u32,
}

impl Key {
    /// The key as clients write it.
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        Bytes::from(format!("k{:06}", self.number))
    }

    /// The key that these bytes name.
    #[must_use]
    pub fn parse(table: TableId, bytes: &[u8]) -> Option<Self> {
        let (&first, digits) = bytes.split_first()?;
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (first == KEY_MAGIC).then_some(Self { table, number })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} k{:06}", self.table, self.number)
    }
}

/// An operation of a client. Its retries are attempts of the same operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op {}", self.0)
    }
}

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

/// A session of a client: what it reads and writes in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// A planned fault, by its place in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultId(pub u32);

/// One write of one key as its client means it, the same in every retry: a put's value begins with
/// it, and it is the write id, of deletes as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteName(pub u64);

impl WriteName {
    /// Length of the shortest value.
    pub const VALUE_BYTES: usize = 12;

    /// The value of this write, `len` bytes long (at least [`Self::VALUE_BYTES`]).
    #[must_use]
    pub fn value(self, len: usize) -> Bytes {
        let mut value = Vec::with_capacity(len.max(Self::VALUE_BYTES));
        value.extend_from_slice(&VALUE_MAGIC);
        value.extend_from_slice(&self.0.to_be_bytes());
        value.resize(len.max(Self::VALUE_BYTES), b'.');
        Bytes::from(value)
    }

    /// The write whose value this is; `None` for bytes that no client wrote.
    #[must_use]
    pub fn of_value(value: &[u8]) -> Option<Self> {
        let (name, rest) = value.strip_prefix(&VALUE_MAGIC)?.split_first_chunk()?;
        rest.iter().all(|&byte| byte == b'.').then_some(Self(u64::from_be_bytes(*name)))
    }

    /// The write's id.
    #[must_use]
    pub fn write_id(self) -> WriteId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&ID_MAGIC);
        id[8..].copy_from_slice(&self.0.to_be_bytes());
        WriteId::from_bytes(id)
    }

    /// The write with this id; `None` for an id that no client made.
    #[must_use]
    pub fn of_id(id: WriteId) -> Option<Self> {
        let id = id.to_bytes();
        let name = id.strip_prefix(&ID_MAGIC)?.first_chunk()?;
        Some(Self(u64::from_be_bytes(*name)))
    }
}

impl fmt::Display for WriteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_write_and_damage_names_none() {
        let name = WriteName(0x1234_5678_9abc);
        for len in [0, WriteName::VALUE_BYTES, 100] {
            assert_eq!(WriteName::of_value(&name.value(len)), Some(name));
        }
        let mut torn = name.value(100).to_vec();
        torn[50] = 0;
        assert_eq!(WriteName::of_value(&torn), None);
        assert_eq!(WriteName::of_value(b"chv1"), None);
        assert_eq!(WriteName::of_value(b"something else"), None);
    }

    #[test]
    fn an_id_names_its_write() {
        let name = WriteName(7);
        assert_eq!(WriteName::of_id(name.write_id()), Some(name));
        assert_eq!(WriteName::of_id(WriteId::from_bytes([0; 16])), None);
    }

    #[test]
    fn a_key_reads_back() {
        let key = Key { table: TableId(3), number: 42 };
        assert_eq!(Key::parse(TableId(3), &key.to_bytes()), Some(key));
        assert_eq!(Key::parse(TableId(3), b"x000042"), None);
        assert_eq!(Key::parse(TableId(3), b"k"), None);
        assert_eq!(Key::parse(TableId(3), b""), None);
    }
}
