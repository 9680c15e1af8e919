//! Where a fault happens, as a scenario says it.
//!
//! ```text
//! us-1      a node of the shape        us     a datacenter: all its nodes
//! us/#2     the second node of us      us/*   all nodes of us
//! #1/#2     the second node of the first datacenter
//! */#1      the first node of each datacenter
//! *         every node
//! ```
//!
//! `#n` is the n-th in an order that is drawn for every run, so that seeds hit different nodes, and
//! two lines that say `#1/#1` the same one.

use std::fmt;
use std::str::FromStr;

use meridian_topology::Topology;
use meridian_types::{DcId, NodeId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::sim::Draw;

/// Some nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    first: Part,
    /// Nodes of the datacenters that `first` says; without it, `first` may also be a node.
    second: Option<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Every,
    /// From 1.
    Nth(usize),
    Named(String),
}

/// A text that is no place, or a place that a topology does not have. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no place; it must be a node, a datacenter, or like us/#1, #1/#2, */#1, us/* or *"
)]
pub struct PlaceError {
    text: String,
}

/// In which order a run counts datacenters, and the nodes of each.
#[derive(Clone, Debug)]
pub(crate) struct Ranks {
    dcs: Vec<(DcId, Vec<NodeId>)>,
}

impl Ranks {
    /// Draws an order. The number of draws depends on the topology alone.
    pub(crate) fn drawn(topology: &Topology, draw: &mut Draw) -> Self {
        let nodes = |dc| topology.nodes_in(dc).map(|node| node.id).collect::<Vec<_>>();
        let mut dcs: Vec<_> = topology.dcs().iter().map(|dc| (dc.id, nodes(dc.id))).collect();
        for (_, nodes) in &mut dcs {
            shuffle(nodes, draw);
        }
        shuffle(&mut dcs, draw);
        Self { dcs }
    }
}

/// Source: Durstenfeld, "Algorithm 235: Random permutation" (1964).
fn shuffle<T>(items: &mut [T], draw: &mut Draw) {
    for last in (1..items.len()).rev() {
        items.swap(last, draw.index(last + 1));
    }
}

impl Place {
    /// The nodes, in the order of their numbers; never none.
    pub(crate) fn nodes(
        &self,
        topology: &Topology,
        ranks: &Ranks,
    ) -> Result<Vec<NodeId>, PlaceError> {
        let unknown = || PlaceError { text: self.to_string() };
        if let (Part::Named(name), None) = (&self.first, &self.second)
            && let Some(node) = topology.node_named(name)
        {
            return Ok(vec![node.id]);
        }
        let dcs: Vec<_> = match &self.first {
            Part::Every => ranks.dcs.iter().collect(),
            Part::Nth(n) => ranks.dcs.iter().skip(n.saturating_sub(1)).take(1).collect(),
            Part::Named(name) => {
                let id = topology.dc_id(name).ok_or_else(unknown)?;
                ranks.dcs.iter().filter(|(dc, _)| *dc == id).collect()
            }
        };
        let mut found = Vec::new();
        for (_, nodes) in dcs {
            match &self.second {
                None | Some(Part::Every) => found.extend(nodes),
                Some(Part::Nth(n)) => found.extend(nodes.get(n.saturating_sub(1))),
                Some(Part::Named(_)) => return Err(unknown()),
            }
        }
        found.sort_unstable();
        if found.is_empty() { Err(unknown()) } else { Ok(found) }
    }
}

impl FromStr for Part {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match (text, text.strip_prefix('#')) {
            ("", _) => Err(()),
            ("*", _) => Ok(Self::Every),
            (_, Some(number)) => match number.parse() {
                Ok(nth) if nth > 0 => Ok(Self::Nth(nth)),
                _ => Err(()),
            },
            _ => Ok(Self::Named(text.to_owned())),
        }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let wrong = |()| PlaceError { text: text.to_owned() };
        let (first, second) = match text.split_once('/') {
            Some((first, second)) => (first, Some(second.parse().map_err(wrong)?)),
            None => (text, None),
        };
        if matches!(second, Some(Part::Named(_))) {
            return Err(wrong(()));
        }
        Ok(Self { first: first.parse().map_err(wrong)?, second })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Nth(n) => write!(f, "#{n}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        match &self.second {
            Some(second) => write!(f, "/{second}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
