//! Scenarios: what a simulated world is made of, what is done in it, what goes wrong, and what must
//! hold all the same. Each is a TOML file; those in `scenarios/` are part of the program.
//!
//! A scenario and a seed are one history. What a scenario leaves open (who is hit, when, by what)
//! is drawn from the seed, all of it before the run begins.

mod fault_line;
mod library;
mod place;
mod span;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::BTreeSet;
use std::fmt;

use meridian_topology::{Shape, VnodeCount};
use meridian_types::{ConflictPolicy, TableName};
use serde::{Deserialize, Serialize};

use crate::sim::Micros;

pub use fault_line::{FaultKind, FaultLine};
pub use library::{named, names, shipped};
pub(crate) use place::Ranks;
pub use place::{Place, PlaceError};
pub use span::SpanError;
pub use workload::{OpKind, Workload};

/// The most clients of a world. Each is a task and a stream of chance; beyond this many a history is
/// too large to be looked at.
pub const MAX_CLIENTS: u32 = 1_000;

/// The most faults that a nemesis draws, and the most times that a line of the timeline repeats.
pub const MAX_FAULTS: u32 = 1_000;

/// A scenario as its file says it, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name; a shipped one's is its file's.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// The cluster, by the name of a shape that comes with the program.
    #[serde(with = "shape_by_name")]
    pub shape: Shape,
    /// Vnodes of the whole cluster. Few, so that clients meet: shapes are made for real clusters.
    #[serde(with = "vnode_count", default = "default_vnodes")]
    pub vnodes: VnodeCount,
    /// How long clients work and faults happen.
    pub sim: Micros,
    /// How long, after the last fault, the world has to heal.
    pub heal: Micros,
    /// Seeds that CI runs.
    #[serde(default)]
    pub seeds_ci: u32,
    /// Seeds that found something once; CI runs them as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<u64>,
    /// When a write is durable.
    #[serde(default)]
    pub sync: Sync,
    /// How nodes differ from the simulator's defaults.
    #[serde(default)]
    pub node: NodeSettings,
    /// The tables, each in a keyspace of its name that is replicated as the shape says.
    #[serde(rename = "table")]
    pub tables: Vec<TableSpec>,
    /// What clients do.
    pub workload: Workload,
    /// What goes wrong, line by line.
    #[serde(rename = "fault", default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultLine>,
    /// What goes wrong, by chance, besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nemesis: Option<NemesisBudget>,
    /// What must hold; nothing named is everything.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub invariants: BTreeSet<InvariantName>,
    /// What the verdict must look like.
    #[serde(default)]
    pub expect: Expect,
}

/// When a write is durable; see the storage engine's policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Sync {
    /// Synced after an interval or so many writes, whichever is first; acknowledged before.
    Every {
        /// The interval.
        interval: Micros,
        /// The writes.
        writes: u32,
    },
    /// Synced before it is acknowledged.
    Always {},
    /// Synced when the operating system likes.
    Os {},
}

impl Default for Sync {
    fn default() -> Self {
        Self::Every { interval: Micros::from_millis(100), writes: 1_000 }
    }
}

/// How nodes differ from the simulator's defaults; what is not said is as the world has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSettings {
    /// How long hints are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint_window: Option<Micros>,
    /// Bytes of hints that a node keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint_bytes: Option<u64>,
    /// How often replicas compare their clocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anti_entropy_every: Option<Micros>,
    /// Forgets what all replicas know of deletes, looking this often; not said: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget_every: Option<Micros>,
    /// After how long a silence a link counts as down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_after: Option<Micros>,
    /// After what time a read asks one more replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge_after: Option<Micros>,
    /// How long every step of a task and every message keep a node's processor, which is otherwise
    /// infinitely fast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_per_task: Option<Micros>,
    /// How long a request keeps it that is refused at the door; as long as a task if nothing is
    /// said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_per_refusal: Option<Micros>,
    /// Bytes of a memtable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memtable_bytes: Option<usize>,
    /// Of how many vnodes a session remembers exactly what it has seen.
    pub session_vnodes: Option<usize>,
    /// How far each wall clock may be wrong at the start, up and down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_skew: Option<Micros>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// Its name, without a keyspace.
    pub name: String,
    /// How concurrent writes become one.
    #[serde(default)]
    pub policy: ConflictPolicy,
    /// After what time values go that were put without an expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_ttl: Option<Micros>,
}

/// Faults by chance, within a budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NemesisBudget {
    /// How many faults. Fewer happen where the budget has no room for a draw.
    pub faults: u32,
    /// Which kinds; nothing named is all of them but `leave`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kinds: BTreeSet<String>,
    /// How many nodes of a datacenter may be down, cut off or damaged at any time; nothing said is
    /// the largest minority of the replicas that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hurt_per_dc: Option<u32>,
    /// When the first fault may begin. A vnode of a new cluster is proven once all its replicas have
    /// met; where one of them is damaged before that, only an operator can say that nothing is
    /// missing, which is more harm than a minority.
    #[serde(default)]
    pub after: Micros,
    /// How long after its fault a node that lost data still counts as damaged.
    #[serde(default = "default_sound_after")]
    pub sound_after: Micros,
    /// The shortest window.
    #[serde(default = "default_shortest")]
    pub shortest: Micros,
    /// The longest window.
    #[serde(default = "default_longest")]
    pub longest: Micros,
}

/// What must hold. Each is a file of `check/`, which says what precisely and from which source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InvariantName {
    /// No acknowledged write is lost.
    Acknowledged,
    /// Replicas are equal after healing, and whenever their clocks are.
    Convergence,
    /// Every concurrent write is a sibling, and nothing else is.
    Siblings,
    /// What was deleted does not come back.
    Deletes,
    /// A read at a quorum sees what a quorum has acknowledged.
    Regular,
    /// Reads at a quorum do not go back.
    Monotonic,
    /// Both of these at LOCAL_QUORUM, within a datacenter.
    Local,
    /// Sessions read what they wrote and were shown, and write after it.
    Sessions,
    /// An atomic batch is written whole, or not at all.
    Batches,
    /// A dot names one write, ever; a retry is shown once.
    Counters,
    /// Every hint is accounted for.
    Hints,
    /// One answer to each request, and a true one.
    Answers,
    /// After the last fault everything works again.
    Liveness,
    /// Something happened at all: otherwise nothing is known.
    Vacuous,
}

impl InvariantName {
    /// All of them, in the order of the list above.
    pub const EVERY: [Self; 14] = [
        Self::Acknowledged,
        Self::Convergence,
        Self::Siblings,
        Self::Deletes,
        Self::Regular,
        Self::Monotonic,
        Self::Local,
        Self::Sessions,
        Self::Batches,
        Self::Counters,
        Self::Hints,
        Self::Answers,
        Self::Liveness,
        Self::Vacuous,
    ];

    /// Its name in files and verdicts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Convergence => "convergence",
            Self::Siblings => "siblings",
            Self::Deletes => "deletes",
            Self::Regular => "regular",
            Self::Monotonic => "monotonic",
            Self::Local => "local",
            Self::Sessions => "sessions",
            Self::Batches => "batches",
            Self::Counters => "counters",
            Self::Hints => "hints",
            Self::Answers => "answers",
            Self::Liveness => "liveness",
            Self::Vacuous => "vacuous",
        }
    }
}

impl fmt::Display for InvariantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the verdicts over many seeds must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Of a thousand checked things, how many may be excused at most, over all seeds.
    pub excused_max_permille: u32,
    /// Of a hundred seeds, how many may end as unknown at most.
    pub unknown_max_percent: u32,
    /// The run is one that nobody promises to survive: this is what fails, and its passing would be
    /// the surprise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violation: Option<InvariantName>,
}

impl Default for Expect {
    fn default() -> Self {
        Self { excused_max_permille: 50, unknown_max_percent: 2, violation: None }
    }
}

/// What is wrong with a scenario. Nothing was run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// There is none of this name.
    #[error("there is no scenario `{name}`; use one of {known}, or the path of a file")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The file is longer than [`Scenario::MAX_BYTES`].
    #[error("the scenario has {bytes} bytes; at most {} are allowed", Scenario::MAX_BYTES)]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// The file is no TOML, or has a key that scenarios do not have, or a value of the wrong type.
    #[error("the scenario cannot be read: {message}")]
    Syntax {
        /// What and where, with the line.
        message: String,
    },
    /// A value that is not possible.
    #[error("`{key}` of scenario {name} is {value}; allowed: {allowed}")]
    Invalid {
        /// The scenario.
        name: String,
        /// The key.
        key: String,
        /// The value given.
        value: String,
        /// What it may be.
        allowed: String,
    },
}

impl Scenario {
    /// The longest scenario file, in bytes: the longest shipped one is a twentieth of it.
    pub const MAX_BYTES: usize = 64 << 10;

    /// Reads a scenario file's text.
    ///
    /// # Errors
    /// It is no TOML, has unknown keys, or values that are not possible; the error names the key and
    /// what is allowed.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        if text.len() > Self::MAX_BYTES {
            return Err(ScenarioError::TooLong { bytes: text.len() });
        }
        let scenario: Self = toml::from_str(text)
            .map_err(|error| ScenarioError::Syntax { message: error.to_string() })?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The scenario as a file.
    ///
    /// # Errors
    /// A value that TOML cannot express; none that was parsed is.
    pub fn to_toml(&self) -> Result<String, ScenarioError> {
        toml::to_string(self).map_err(|error| ScenarioError::Syntax { message: error.to_string() })
    }

    /// Whether an invariant is to be checked.
    #[must_use]
    pub fn checks(&self, invariant: InvariantName) -> bool {
        self.invariants.is_empty() || self.invariants.contains(&invariant)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let within = |key: &str, value: String, ok: bool, allowed: &str| {
            if ok { Ok(()) } else { Err(self.invalid(key, value, allowed)) }
        };
        let longest = Micros::from_secs(86_400);
        let sim_ok = self.sim > Micros::ZERO && self.sim <= longest;
        within("sim", self.sim.to_string(), sim_ok, "more than 0s, at most a day")?;
        within("heal", self.heal.to_string(), self.heal <= longest, "at most a day")?;
        within("table", "empty".to_owned(), !self.tables.is_empty(), "one at least")?;
        let mut seen = BTreeSet::new();
        for table in &self.tables {
            let once = seen.insert(&table.name);
            within("table.name", table.name.clone(), once, "each name once")?;
            let plain = TableName::new(&table.name, &table.name).is_ok();
            within("table.name", table.name.clone(), plain, "a-z, 0-9, _ and -")?;
        }
        self.workload.check().map_err(|(key, value, allowed)| self.invalid(key, value, allowed))?;
        for line in &self.faults {
            line.check(self).map_err(|(key, value, allowed)| {
                self.invalid(&format!("fault.{key}"), value, &allowed)
            })?;
        }
        match &self.nemesis {
            Some(budget) => self.check_budget(budget),
            None => Ok(()),
        }
    }

    fn check_budget(&self, budget: &NemesisBudget) -> Result<(), ScenarioError> {
        let known: Vec<_> = FaultKind::names().collect();
        for kind in &budget.kinds {
            if !known.contains(&kind.as_str()) {
                return Err(self.invalid("nemesis.kinds", kind.clone(), &known.join(", ")));
            }
        }
        if budget.faults > MAX_FAULTS {
            let allowed = format!("at most {MAX_FAULTS}");
            return Err(self.invalid("nemesis.faults", budget.faults.to_string(), &allowed));
        }
        if budget.shortest > budget.longest || budget.longest > self.sim {
            let value = format!("{} to {}", budget.shortest, budget.longest);
            return Err(self.invalid("nemesis.shortest, longest", value, "rising, within `sim`"));
        }
        Ok(())
    }

    fn invalid(&self, key: &str, value: impl Into<String>, allowed: &str) -> ScenarioError {
        ScenarioError::Invalid {
            name: self.name.clone(),
            key: key.to_owned(),
            value: value.into(),
            allowed: allowed.to_owned(),
        }
    }
}

fn default_vnodes() -> VnodeCount {
    // A power of two, and far below the most.
    VnodeCount::new(16).unwrap_or_else(|_| unreachable!("16 is a power of two"))
}

fn default_sound_after() -> Micros {
    Micros::from_secs(10)
}

fn default_shortest() -> Micros {
    Micros::from_millis(100)
}

fn default_longest() -> Micros {
    Micros::from_secs(3)
}

mod shape_by_name {
    use serde::{Deserializer, Serializer, de};

    use super::{Deserialize, Shape};

    pub(super) fn serialize<S: Serializer>(shape: &Shape, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(shape.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Shape, D::Error> {
        Shape::named(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

mod vnode_count {
    use serde::{Deserializer, Serializer, de};

    use super::{Deserialize, VnodeCount};

    pub(super) fn serialize<S: Serializer>(count: &VnodeCount, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(count.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<VnodeCount, D::Error> {
        VnodeCount::new(u32::deserialize(from)?).map_err(de::Error::custom)
    }
}
