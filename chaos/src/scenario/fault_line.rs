//! A line of a scenario's timeline.
//!
//! ```toml
//! [[fault]]
//! at = "2s"
//! for = "10s"
//! from = "#1"          # of a fault of ways; of a fault of a node: node = "#1/#1"
//! to = "*"
//! kind = "cut"
//! ```

use meridian_types::NodeId;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::place::Ranks;
use super::{MAX_FAULTS, Place, Scenario, ScenarioError};
use crate::fault::{NodeFault, WayFault};
use crate::sim::{Draw, Micros, Purpose, Streams};

/// A fault that a scenario orders, perhaps several times. A key that is not one of these is the kind's,
/// which refuses those that it does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultLine {
    /// When it begins.
    pub at: Micros,
    /// How long it lasts.
    #[serde(rename = "for", default)]
    pub lasts: Micros,
    /// By how much each of its times is later, at most, by chance.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late: Micros,
    /// How often it happens.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
    /// From one beginning to the next.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub every: Micros,
    /// The node, or several, each with a fault of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Place>,
    /// Who sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Place>,
    /// Who receives; those that send too are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Place>,
    /// What the other direction sends is left alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_way: bool,
    /// What happens.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// What happens, before it is known to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub enum FaultKind {
    /// To a node.
    Node(NodeFault),
    /// To ways between nodes.
    Ways(WayFault),
}

/// The kinds of faults of nodes.
const NODE_KINDS: [&str; 13] = [
    "crash",
    "kill",
    "crash-at-sync",
    "stop",
    "leave",
    "pause",
    "wipe",
    "restore",
    "rot",
    "full-disk",
    "slow-disk",
    "clock-step",
    "clock-drift",
];

/// The kinds of faults of ways.
const WAY_KINDS: [&str; 5] = ["cut", "slow", "lossy", "narrow", "datagrams"];

impl FaultKind {
    /// The names of all kinds.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NODE_KINDS.into_iter().chain(WAY_KINDS)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Node(what) => what.kind(),
            Self::Ways(what) => what.kind(),
        }
    }
}

impl TryFrom<Table> for FaultKind {
    type Error = toml::de::Error;

    fn try_from(table: Table) -> Result<Self, toml::de::Error> {
        let kind = table.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if NODE_KINDS.contains(&kind.as_str()) {
            NodeFault::deserialize(table).map(Self::Node)
        } else if WAY_KINDS.contains(&kind.as_str()) {
            WayFault::deserialize(table).map(Self::Ways)
        } else {
            let known: Vec<_> = Self::names().collect();
            let known = known.join(", ");
            Err(toml::de::Error::custom(format!("no fault is of kind `{kind}`; use {known}")))
        }
    }
}

impl From<FaultKind> for Table {
    fn from(kind: FaultKind) -> Self {
        let table = match kind {
            FaultKind::Node(what) => Self::try_from(what),
            FaultKind::Ways(what) => Self::try_from(what),
        };
        // Numbers, texts and their kind: TOML can say all of it.
        table.unwrap_or_default()
    }
}

/// Nodes with a fault of their own, and nobody; or those that send, and those that receive.
pub(crate) type Concerned = (Vec<NodeId>, Vec<NodeId>);

/// A key, its value, and what is allowed.
type Wrong = (&'static str, String, String);

impl FaultLine {
    /// Who is concerned.
    pub(crate) fn concerned(
        &self,
        scenario: &Scenario,
        ranks: &Ranks,
    ) -> Result<Concerned, ScenarioError> {
        self.whom(scenario, ranks).map_err(|(key, value, allowed)| {
            scenario.invalid(&format!("fault.{key}"), value, &allowed)
        })
    }

    fn whom(&self, scenario: &Scenario, ranks: &Ranks) -> Result<Concerned, Wrong> {
        let topology = scenario.shape.topology();
        let nodes = |key, place: &Option<Place>| {
            let Some(place) = place else {
                return Err((key, "missing".to_owned(), "a place".to_owned()));
            };
            let found = place.nodes(topology, ranks);
            found.map_err(|error| (key, place.to_string(), error.to_string()))
        };
        match &self.kind {
            FaultKind::Node(_) => Ok((nodes("node", &self.node)?, Vec::new())),
            FaultKind::Ways(_) => {
                let from = nodes("from", &self.from)?;
                let mut to = nodes("to", &self.to)?;
                to.retain(|node| !from.contains(node));
                if to.is_empty() {
                    let value = self.to.as_ref().map(Place::to_string).unwrap_or_default();
                    return Err(("to", value, "somebody who is not in `from`".to_owned()));
                }
                Ok((from, to))
            }
        }
    }

    pub(super) fn check(&self, scenario: &Scenario) -> Result<(), Wrong> {
        let wrong = |key, value: String, allowed: &str| Err((key, value, allowed.to_owned()));
        // Any order does: whether a place exists depends on the topology alone.
        let mut any: Draw = Streams::new(0).draw(Purpose::Faults);
        self.whom(scenario, &Ranks::drawn(scenario.shape.topology(), &mut any))?;
        let of_node = matches!(self.kind, FaultKind::Node(_));
        if of_node && (self.from.is_some() || self.to.is_some() || self.one_way) {
            return wrong("from, to, one_way", "given".to_owned(), "only `node` for this kind");
        }
        if !of_node && self.node.is_some() {
            return wrong("node", "given".to_owned(), "only `from` and `to` for this kind");
        }
        if self.at >= scenario.sim {
            return wrong("at", self.at.to_string(), "before `sim` is over");
        }
        if self.times == 0 || self.times > MAX_FAULTS {
            return wrong("times", self.times.to_string(), "1 to 1000");
        }
        if self.times > 1 && self.every == Micros::ZERO {
            return wrong("every", self.every.to_string(), "more than 0s");
        }
        Ok(())
    }
}

fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_once(times: &u32) -> bool {
    *times == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(span: &Micros) -> bool {
    *span == Micros::ZERO
}
