//! Who wrote, and which of its writes.

use std::fmt;

use meridian_types::varint::{DecodeError, Reader, put_u64};
use meridian_types::{Incarnation, NodeId};

/// One life of one node: the only thing that mints dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// The node.
    pub node: NodeId,
    /// Its incarnation: random, fresh after everything that may have taken memory back.
    pub incarnation: Incarnation,
}

impl Actor {
    /// Fewest bytes of an encoded actor.
    pub(crate) const MIN_BYTES: usize = 9;

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        put_u64(out, u64::from(self.node.0));
        out.extend_from_slice(&self.incarnation.0.to_be_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let node = NodeId(reader.u32("node of an actor")?);
        let incarnation = Incarnation(reader.fixed_u64("incarnation of an actor")?);
        Ok(Self { node, incarnation })
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:016x}", self.node, self.incarnation.0)
    }
}

/// One write: the actor that minted it and the actor's count of writes to this vnode of this
/// keyspace, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who minted it.
    pub actor: Actor,
    /// Which of the actor's writes; never 0.
    pub counter: u64,
}

impl Dot {
    /// A dot from its parts.
    #[must_use]
    pub fn new(actor: Actor, counter: u64) -> Self {
        Self { actor, counter }
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        self.actor.encode(out);
        put_u64(out, self.counter);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let actor = Actor::decode(reader)?;
        match reader.u64("counter of a dot")? {
            0 => Err(reader.invalid("counter of a dot")),
            counter => Ok(Self { actor, counter }),
        }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}
