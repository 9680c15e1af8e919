//! Names of tables, and how large keys and values may be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The largest sizes that any door accepts, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Longest key. Keys are repeated in indexes and filters, so they stay small.
    pub key_bytes: usize,
    /// Longest value. A value travels in one message and is copied into one WAL record.
    pub value_bytes: usize,
    /// Most keys in one batch or multi-get.
    pub batch_keys: usize,
    /// Most rows in one page of a scan.
    pub page_rows: usize,
}

impl Limits {
    /// 4 KiB keys, 8 MiB values, 10,000 keys a batch, 10,000 rows a page.
    pub const DEFAULT: Self =
        Self { key_bytes: 4 << 10, value_bytes: 8 << 20, batch_keys: 10_000, page_rows: 10_000 };

    /// Checks a key.
    ///
    /// # Errors
    /// An empty key, or one over [`Limits::key_bytes`]. Nothing was changed.
    pub fn check_key(&self, key: &[u8]) -> Result<(), KeyError> {
        match key.len() {
            0 => Err(KeyError::EmptyKey),
            n if n > self.key_bytes => {
                Err(KeyError::KeyTooLarge { bytes: n, limit: self.key_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Checks a value's length.
    ///
    /// # Errors
    /// A value over [`Limits::value_bytes`]. Nothing was changed.
    pub fn check_value(&self, bytes: usize) -> Result<(), KeyError> {
        if bytes > self.value_bytes {
            return Err(KeyError::ValueTooLarge { bytes, limit: self.value_bytes });
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A key or value that no table can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Keys have at least one byte.
    #[error("the key is empty; keys have at least one byte")]
    EmptyKey,
    /// The key is over the limit.
    #[error("the key has {bytes} bytes; at most {limit} are allowed")]
    KeyTooLarge {
        /// The key's length.
        bytes: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The value is over the limit.
    #[error("the value has {bytes} bytes; at most {limit} are allowed")]
    ValueTooLarge {
        /// The value's length.
        bytes: usize,
        /// The limit in force.
        limit: usize,
    },
}

/// A table's full name, written `keyspace.table`.
///
/// ```
/// use meridian_types::TableName;
/// let name: TableName = "geo.cities".parse()?;
/// assert_eq!(name.keyspace(), "geo");
/// assert_eq!(name.table(), "cities");
/// # Ok::<(), meridian_types::TableNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    full: String,
    dot: usize,
}

impl TableName {
    /// Longest keyspace or table name, in bytes.
    pub const MAX_PART: usize = 48;

    /// Builds a name from its two parts.
    ///
    /// # Errors
    /// A part that is empty, too long, or not made of `a–z`, `0–9`, `_` and `-`.
    pub fn new(keyspace: &str, table: &str) -> Result<Self, TableNameError> {
        check_part("keyspace", keyspace)?;
        check_part("table", table)?;
        Ok(Self { full: format!("{keyspace}.{table}"), dot: keyspace.len() })
    }

    /// The keyspace's name.
    #[must_use]
    pub fn keyspace(&self) -> &str {
        &self.full[..self.dot]
    }

    /// The table's name inside its keyspace.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.full[self.dot + 1..]
    }

    /// The full name, `keyspace.table`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.full
    }
}

/// Checks the name of a keyspace (the same rules as for a table's part).
///
/// # Errors
/// A name that is empty, too long, or not made of `a–z`, `0–9`, `_` and `-`.
pub fn check_keyspace_name(name: &str) -> Result<(), TableNameError> {
    check_part("keyspace", name)
}

fn check_part(which: &'static str, part: &str) -> Result<(), TableNameError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if part.is_empty() || part.len() > TableName::MAX_PART || !part.bytes().all(allowed) {
        return Err(TableNameError::BadPart { which, part: part.to_owned() });
    }
    Ok(())
}

/// A name that is no table's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableNameError {
    /// There is no dot between keyspace and table.
    #[error("`{0}` is no table name; write it as keyspace.table, like geo.cities")]
    NoKeyspace(String),
    /// A part has the wrong characters or length.
    #[error(
        "the {which} name `{part}` is not allowed; use 1 to {} of a-z, 0-9, _ and -",
        TableName::MAX_PART
    )]
    BadPart {
        /// `keyspace` or `table`.
        which: &'static str,
        /// What was given.
        part: String,
    },
}

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (keyspace, table) =
            text.split_once('.').ok_or_else(|| TableNameError::NoKeyspace(text.to_owned()))?;
        Self::new(keyspace, table)
    }
}

impl TryFrom<String> for TableName {
    type Error = TableNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.full
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        let name: TableName = "geo.cities".parse().unwrap();
        assert_eq!((name.keyspace(), name.table()), ("geo", "cities"));
        assert_eq!(name.to_string(), "geo.cities");
        for bad in ["geo", ".cities", "geo.", "Geo.cities", "geo.ci.ties", "g o.c", ""] {
            assert!(bad.parse::<TableName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_name_what_they_saw() {
        let limits = Limits { key_bytes: 3, value_bytes: 2, ..Limits::DEFAULT };
        assert_eq!(limits.check_key(b""), Err(KeyError::EmptyKey));
        assert_eq!(limits.check_key(b"abcd"), Err(KeyError::KeyTooLarge { bytes: 4, limit: 3 }));
        assert_eq!(limits.check_key(b"abc"), Ok(()));
        assert_eq!(limits.check_value(3), Err(KeyError::ValueTooLarge { bytes: 3, limit: 2 }));
    }
}
