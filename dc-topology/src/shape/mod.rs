//! Shapes: whole clusters by name, that `meridian dev`, the chaos world, the examples and the docs
//! all use.
//!
//! A shape is a TOML file. Those in `shapes/` are part of the program; others are read by whoever
//! may read files, and parsed here.

mod parse;
#[cfg(test)]
mod tests;

use crate::placement::KeyspaceMap;
use crate::topology::Topology;

/// The shapes that come with the program, by name.
const SHIPPED: [(&str, &str); 5] = [
    ("five-dc", include_str!("../../shapes/five-dc.toml")),
    ("one-node", include_str!("../../shapes/one-node.toml")),
    ("three-dc", include_str!("../../shapes/three-dc.toml")),
    ("three-node", include_str!("../../shapes/three-node.toml")),
    ("two-dc-uneven", include_str!("../../shapes/two-dc-uneven.toml")),
];

/// A cluster by name: its topology, and what a keyspace is replicated to unless it says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    name: String,
    about: String,
    topology: Topology,
    replication: KeyspaceMap,
}

/// Why there is no such shape, or what is wrong in its file. Nothing was changed; the file or the
/// name must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No shape of this name comes with the program.
    #[error("there is no shape `{name}`; use one of {known}, or the path of a file")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The file is longer than [`Shape::MAX_BYTES`].
    #[error("the shape has {bytes} bytes; at most {} are allowed", Shape::MAX_BYTES)]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// The file is no TOML, or has a key that shapes do not have, or a value of the wrong type.
    #[error("the shape cannot be read: {message}")]
    Syntax {
        /// What and where, with the line.
        message: String,
    },
    /// A value that is not possible.
    #[error("`{key}` is {value}; allowed: {allowed}")]
    Invalid {
        /// The key, with the names that lead to it: `datacenters.us.nodes.us-1.capacity`.
        key: String,
        /// The value given.
        value: String,
        /// What it may be.
        allowed: String,
    },
}

impl Shape {
    /// The longest shape file, in bytes: 4,096 nodes at 100 bytes each are less than half of it.
    pub const MAX_BYTES: usize = 1 << 20;

    /// The longest name of a shape, datacenter, node or rack, in characters.
    pub const MAX_NAME: usize = 48;

    /// The longest latency or jitter of a link, in milliseconds: beyond this every request would
    /// time out.
    pub const MAX_LATENCY_MS: u32 = 10_000;

    /// The most vnodes per node: as many as would let 256 nodes reach
    /// [`VnodeCount::MAX`](crate::VnodeCount::MAX).
    pub const MAX_VNODES_PER_NODE: u32 = 4_096;

    /// A shape that comes with the program.
    ///
    /// # Errors
    /// There is none of this name; the error lists the names.
    pub fn named(name: &str) -> Result<Self, ShapeError> {
        let found = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
        let (_, text) = found.ok_or_else(|| ShapeError::Unknown {
            name: name.to_owned(),
            known: Self::names().collect::<Vec<_>>().join(", "),
        })?;
        Self::parse(text)
    }

    /// The names of the shapes that come with the program.
    pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// Reads a shape file's text.
    ///
    /// # Errors
    /// It is no TOML, has unknown keys, or values that are not possible; the error names the key and
    /// what is allowed.
    pub fn parse(text: &str) -> Result<Self, ShapeError> {
        parse::parse(text)
    }

    /// The shape's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for, in a line.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The cluster: datacenters numbered from 0 and nodes from 1, in the order of the file.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// What a keyspace is replicated to unless it says otherwise.
    #[must_use]
    pub fn replication(&self) -> &KeyspaceMap {
        &self.replication
    }
}
