//! The catalog: keyspaces, their replication maps, and tables. Facts that hold in every datacenter.
//!
//! A catalog is a join of definitions: each carries a version, the higher wins, so that two nodes
//! that exchange catalogs in any order end with the same one.
//!
//! Ids are hashes of names, and 32 bits: two names may have one. On one node the second is refused.
//! Where the two were created on two sides of a cut, both definitions stay in the joined catalog,
//! on every node, and one of them is *in use*: the older one ([`Version`], then the name). The other
//! name answers every request with [`CatalogError::SameId`], which says who has its id, and what was
//! stored under the id stays where it is. Nobody reads one table's rows by the other's name.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Hlc, KeyspaceId, NodeId, TableId, TableName};

/// How a table resolves concurrent writes, as far as storage is concerned.
///
/// Stored and sent: do not renumber.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ConflictPolicy {
    /// All concurrent values are kept until a write with their context replaces them.
    #[default]
    Siblings = 1,
    /// The highest (stamp, dot) wins; causality serves synchronisation only.
    Lww = 2,
}

impl ConflictPolicy {
    /// The policy's name at every door.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Siblings => "siblings",
            Self::Lww => "lww",
        }
    }

    /// The policy with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Siblings, Self::Lww].into_iter().find(|policy| *policy as u8 == number)
    }
}

impl std::str::FromStr for ConflictPolicy {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "siblings" => Ok(Self::Siblings),
            "lww" => Ok(Self::Lww),
            _ => Err(CatalogError::UnknownOption {
                option: "policy",
                given: text.to_owned(),
                allowed: "siblings, lww",
            }),
        }
    }
}

/// How a table's blocks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: cheap enough for every table.
    #[default]
    Lz4,
    /// Snappy.
    Snappy,
    /// Zstandard: smaller, slower.
    Zstd,
}

impl Compression {
    /// The name at every door.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }
}

impl std::str::FromStr for Compression {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Lz4, Self::Snappy, Self::Zstd]
            .into_iter()
            .find(|c| c.name() == text)
            .ok_or_else(|| CatalogError::UnknownOption {
                option: "compression",
                given: text.to_owned(),
                allowed: "none, lz4, snappy, zstd",
            })
    }
}

/// How a table's files are compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compaction {
    /// Levels, each ten times the one above: least space, fewest files a read, most writing.
    #[default]
    Leveled,
    /// Files of about one size become one: least writing, more space.
    SizeTiered,
    /// Size-tiered within a window of time, one run for each that is over: for what is written in
    /// the order of time. The window follows from the table's default TTL.
    TimeWindow,
    /// Size-tiered while young, leveled below.
    Hybrid,
}

impl Compaction {
    /// All of them.
    pub const EVERY: [Self; 4] = [Self::Leveled, Self::SizeTiered, Self::TimeWindow, Self::Hybrid];

    /// The name at every door.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Leveled => "leveled",
            Self::SizeTiered => "size_tiered",
            Self::TimeWindow => "time_window",
            Self::Hybrid => "hybrid",
        }
    }
}

impl std::str::FromStr for Compaction {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::EVERY.into_iter().find(|c| c.name() == text).ok_or_else(|| {
            CatalogError::UnknownOption {
                option: "compaction",
                given: text.to_owned(),
                allowed: "leveled, size_tiered, time_window, hybrid",
            }
        })
    }
}

/// What can be chosen for a table when it is created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableOptions {
    /// How concurrent writes become one.
    pub policy: ConflictPolicy,
    /// Milliseconds after which a value that was put without an expiry stops being visible; `None`
    /// keeps values for ever.
    pub default_ttl_ms: Option<u64>,
    /// How blocks are compressed.
    pub compression: Compression,
    /// How files are compacted.
    pub compaction: Compaction,
}

/// A keyspace: which datacenters hold how many replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceDef {
    /// Its id, from its name.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// Replicas by the name of the datacenter.
    pub replication: BTreeMap<String, u8>,
    /// Which definition wins where two nodes have different ones.
    pub version: Version,
}

/// A table of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDef {
    /// Its id, from its full name.
    pub id: TableId,
    /// Its keyspace.
    pub keyspace: KeyspaceId,
    /// Its full name.
    pub name: TableName,
    /// What was chosen for it.
    pub options: TableOptions,
    /// Which definition wins where two nodes have different ones.
    pub version: Version,
}

/// Orders two definitions of one name: by time, then by the node that gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// When the definition was made.
    pub stamp: Hlc,
    /// By which node.
    pub node: NodeId,
}

/// All keyspaces and tables, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    keyspaces: BTreeMap<String, KeyspaceDef>,
    tables: BTreeMap<TableName, TableDef>,
}

impl Catalog {
    /// Most keyspaces and most tables: each table has a tree of its own, with a memtable.
    pub const MAX_TABLES: usize = 1_000;
    /// Most of each in a catalog that was joined: every side of a cut may have filled its own.
    pub const MAX_JOINED: usize = 16 * Self::MAX_TABLES;

    /// The keyspace with this name.
    #[must_use]
    pub fn keyspace(&self, name: &str) -> Option<&KeyspaceDef> {
        self.keyspaces.get(name)
    }

    /// The table with this name.
    #[must_use]
    pub fn table(&self, name: &TableName) -> Option<&TableDef> {
        self.tables.get(name)
    }

    /// All keyspaces, by name.
    pub fn keyspaces(&self) -> impl Iterator<Item = &KeyspaceDef> {
        self.keyspaces.values()
    }

    /// All tables, by name.
    pub fn tables(&self) -> impl Iterator<Item = &TableDef> {
        self.tables.values()
    }

    /// Defines a keyspace.
    ///
    /// # Errors
    /// A name that is taken or not allowed, or an id that another name's hash already has. The
    /// catalog is unchanged.
    pub fn create_keyspace(
        &mut self,
        name: &str,
        replication: BTreeMap<String, u8>,
        version: Version,
    ) -> Result<&KeyspaceDef, CatalogError> {
        if self.keyspaces.len() >= Self::MAX_TABLES && !self.keyspaces.contains_key(name) {
            return Err(CatalogError::NoRoom(name.to_owned()));
        }
        let id = KeyspaceId(id_of(name));
        if let Some(holder) = self.keyspaces.values().find(|k| k.id == id && k.name != name) {
            return Err(CatalogError::same_id(name, &holder.name));
        }
        self.restore_keyspace(name, replication, version)
    }

    /// As [`Self::create_keyspace`], for a definition that another catalog holds already.
    ///
    /// # Errors
    /// The same, but an id that another name has: such a keyspace is taken, and at most not in use.
    /// The catalog is full at [`Self::MAX_JOINED`] only.
    pub fn restore_keyspace(
        &mut self,
        name: &str,
        replication: BTreeMap<String, u8>,
        version: Version,
    ) -> Result<&KeyspaceDef, CatalogError> {
        crate::key::check_keyspace_name(name)?;
        if self.keyspaces.contains_key(name) {
            return Err(CatalogError::Exists(name.to_owned()));
        }
        if replication.is_empty() || replication.values().any(|&n| n == 0) {
            return Err(CatalogError::NoReplicas(name.to_owned()));
        }
        let id = KeyspaceId(id_of(name));
        if self.keyspaces.len() >= Self::MAX_JOINED {
            return Err(CatalogError::NoRoom(name.to_owned()));
        }
        let def = KeyspaceDef { id, name: name.to_owned(), replication, version };
        Ok(self.keyspaces.entry(name.to_owned()).or_insert(def))
    }

    /// Defines a table.
    ///
    /// # Errors
    /// A keyspace that is not there, a name that is taken, or an id that another name's hash
    /// already has. The catalog is unchanged.
    pub fn create_table(
        &mut self,
        name: &TableName,
        options: TableOptions,
        version: Version,
    ) -> Result<&TableDef, CatalogError> {
        if self.tables.len() >= Self::MAX_TABLES && !self.tables.contains_key(name) {
            return Err(CatalogError::NoRoom(name.to_string()));
        }
        let id = TableId(id_of(name.as_str()));
        if let Some(holder) = self.tables.values().find(|t| t.id == id && t.name != *name) {
            return Err(CatalogError::same_id(name.as_str(), holder.name.as_str()));
        }
        self.restore_table(name, options, version)
    }

    /// As [`Self::create_table`], for a definition that another catalog holds already.
    ///
    /// # Errors
    /// As for [`Self::restore_keyspace`].
    pub fn restore_table(
        &mut self,
        name: &TableName,
        options: TableOptions,
        version: Version,
    ) -> Result<&TableDef, CatalogError> {
        let keyspace = self
            .keyspaces
            .get(name.keyspace())
            .ok_or_else(|| CatalogError::NoKeyspace(name.keyspace().to_owned()))?
            .id;
        if self.tables.contains_key(name) {
            return Err(CatalogError::Exists(name.to_string()));
        }
        let id = TableId(id_of(name.as_str()));
        if self.tables.len() >= Self::MAX_JOINED {
            return Err(CatalogError::NoRoom(name.to_string()));
        }
        let def = TableDef { id, keyspace, name: name.clone(), options, version };
        Ok(self.tables.entry(name.clone()).or_insert(def))
    }

    /// The keyspaces that can be used: of those with one id the oldest.
    #[must_use]
    pub fn keyspaces_in_use(&self) -> BTreeMap<KeyspaceId, &KeyspaceDef> {
        let mut in_use = BTreeMap::new();
        for def in self.keyspaces.values() {
            let holder = in_use.entry(def.id).or_insert(def);
            if (def.version, &def.name) < (holder.version, &holder.name) {
                *holder = def;
            }
        }
        in_use
    }

    /// The tables that can be used: of those with one id the oldest, and none of a keyspace that
    /// cannot.
    #[must_use]
    pub fn tables_in_use(&self) -> BTreeMap<TableId, &TableDef> {
        let keyspaces = self.keyspaces_in_use();
        let mut in_use = BTreeMap::new();
        for def in self.tables.values() {
            let keyspace = keyspaces.get(&def.keyspace);
            if keyspace.is_none_or(|keyspace| keyspace.name != def.name.keyspace()) {
                continue;
            }
            let holder = in_use.entry(def.id).or_insert(def);
            if (def.version, &def.name) < (holder.version, &holder.name) {
                *holder = def;
            }
        }
        in_use
    }

    /// Why a table that is defined cannot be used, if it cannot.
    #[must_use]
    pub fn why_not_in_use(&self, name: &TableName) -> Option<CatalogError> {
        let def = self.tables.get(name)?;
        let keyspace = name.keyspace();
        let holder = self.keyspaces_in_use().get(&def.keyspace).copied();
        if let Some(holder) = holder.filter(|holder| holder.name != keyspace) {
            return Some(CatalogError::same_id(keyspace, &holder.name));
        }
        let holder = self.tables_in_use().get(&def.id).copied()?;
        (holder.name != *name).then(|| CatalogError::same_id(name.as_str(), holder.name.as_str()))
    }

    /// Whether the catalog keeps the rules of one that was made here: for one that was read from
    /// somewhere.
    ///
    /// # Errors
    /// The first definition that does not, by its name, and why.
    pub fn check(&self) -> Result<(), (String, CatalogError)> {
        let mut made = Self::default();
        for (name, def) in &self.keyspaces {
            let KeyspaceDef { replication, version, .. } = def.clone();
            let made = made.restore_keyspace(name, replication, version);
            match made {
                Ok(made) if made == def => {}
                Ok(_) => return Err((name.clone(), CatalogError::Inconsistent(name.clone()))),
                Err(why) => return Err((name.clone(), why)),
            }
        }
        for (name, def) in &self.tables {
            let made = made.restore_table(name, def.options.clone(), def.version);
            match made {
                Ok(made) if made == def => {}
                Ok(_) => {
                    return Err((name.to_string(), CatalogError::Inconsistent(name.to_string())));
                }
                Err(why) => return Err((name.to_string(), why)),
            }
        }
        Ok(())
    }

    /// Takes from `other` every definition that this catalog lacks or has an older version of;
    /// whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for (name, def) in &other.keyspaces {
            let mine = self.keyspaces.entry(name.clone()).or_insert_with(|| def.clone());
            if mine.version < def.version {
                *mine = def.clone();
            }
        }
        for (name, def) in &other.tables {
            let mine = self.tables.entry(name.clone()).or_insert_with(|| def.clone());
            if mine.version < def.version {
                *mine = def.clone();
            }
        }
        *self != before
    }
}

impl CatalogError {
    fn same_id(name: &str, holder: &str) -> Self {
        Self::SameId { name: name.to_owned(), holder: holder.to_owned() }
    }
}

/// Ids come from names, so that one table that is created on both sides of a cut is one table.
fn id_of(name: &str) -> u32 {
    (crate::murmur3::x64_128(name.as_bytes()) >> 96) as u32
}

/// A definition that the catalog does not take. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The name is taken.
    #[error("`{0}` exists already")]
    Exists(String),
    /// The keyspace of a table is not there.
    #[error("there is no keyspace `{0}`; create it first")]
    NoKeyspace(String),
    /// A replication map without replicas.
    #[error("keyspace `{0}` needs at least one replica in every datacenter that it names")]
    NoReplicas(String),
    /// The catalog is full.
    #[error(
        "`{0}` cannot be created: the catalog holds its maximum of {max} definitions",
        max = Catalog::MAX_TABLES
    )]
    NoRoom(String),
    /// The name's id, a hash of 32 bits, is another name's.
    #[error("`{name}` cannot be used: its id is that of `{holder}`; choose another name")]
    SameId {
        /// The name.
        name: String,
        /// Who has the id.
        holder: String,
    },
    /// An id or a name that is not the one that belongs to the definition.
    #[error("the definition of `{0}` contradicts itself")]
    Inconsistent(String),
    /// The name is not allowed.
    #[error(transparent)]
    Name(#[from] crate::TableNameError),
    /// A word that is no value of this option.
    #[error("`{given}` is no {option}; use one of {allowed}")]
    UnknownOption {
        /// The option.
        option: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: &'static str,
    },
}
