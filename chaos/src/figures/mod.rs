//! Figures of healing: what it costs in messages, bytes and simulated time, counted exactly.
//!
//! Each figure is a world of its own, without chance but for its seed: the same build gives the same
//! figures on every machine. Bytes are those of the wire's encoding, without the transport's frames.
//! Nothing costs processor time in a simulated world, so nothing is said about the speed of a node.
//!
//! Knows: worlds, stores. Must not know: how replicas heal.

mod cut;
mod hints;
mod in_sync;
mod load;
mod recovery;

use meridian_types::NodeId;

use crate::history::FaultId;
use crate::scenario::{Scenario, ScenarioError};
use crate::sim::{Livelock, Micros};
use crate::world::{Crossed, Traffic, World, WorldError};

pub use cut::cut;
pub use hints::hints;
pub use in_sync::in_sync;
pub use recovery::recovery;

/// The fault of a figure that has one.
const FAULT: FaultId = FaultId(1);

/// How finely the end of something is looked for.
const STEP: Micros = Micros::from_millis(20);

/// How long something that is waited for may take.
const PATIENCE: Micros = Micros::from_secs(3_600);

/// A figure: what was done, and what was counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name on the command line.
    pub name: &'static str,
    /// What was done, in a line.
    pub about: String,
    /// What was counted, each with its value.
    pub values: Vec<(String, f64)>,
}

impl Figure {
    fn new(name: &'static str, about: String) -> Self {
        Self { name, about, values: Vec::new() }
    }

    /// A value by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    #[expect(clippy::cast_precision_loss, reason = "shown to people: four digits are enough")]
    fn count(&mut self, name: impl Into<String>, value: u64) {
        self.values.push((name.into(), value as f64));
    }

    #[expect(clippy::cast_precision_loss, reason = "shown to people: four digits are enough")]
    fn ratio(&mut self, name: impl Into<String>, value: u64, of: u64) {
        self.values.push((name.into(), value as f64 / of.max(1) as f64));
    }

    fn seconds(&mut self, name: impl Into<String>, time: Micros) {
        self.ratio(name, time.0, 1_000_000);
    }

    fn crossed(&mut self, what: &str, Crossed { messages, bytes }: Crossed) {
        self.count(format!("{what}: messages"), messages);
        self.count(format!("{what}: bytes"), bytes);
    }

    /// What replicas said to each other to heal.
    fn traffic(&mut self, traffic: &Traffic) {
        for purpose in ["compare", "compared", "pull", "page", "hint", "refused"] {
            let crossed = traffic.of(purpose);
            if crossed.messages > 0 {
                self.crossed(purpose, crossed);
            }
        }
    }
}

/// A figure that could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// The world of a figure cannot be made.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// As above.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The world stands still.
    #[error(transparent)]
    Livelock(#[from] Livelock),
    /// A replica's store failed.
    #[error(transparent)]
    Store(#[from] meridian_store::StoreError),
    /// A node that is needed does not run.
    #[error("node {0} does not run")]
    NotRunning(NodeId),
    /// What was waited for did not happen.
    #[error("{what} did not happen within {within}")]
    TooSlow {
        /// What.
        what: &'static str,
        /// How long was waited.
        within: Micros,
    },
}

/// Lets time pass until something holds; when it was first seen to.
fn wait(
    world: &mut World,
    what: &'static str,
    mut holds: impl FnMut(&World) -> bool,
) -> Result<Micros, FigureError> {
    let end = world.now() + PATIENCE;
    while !holds(world) {
        if world.now() >= end {
            return Err(FigureError::TooSlow { what, within: PATIENCE });
        }
        pass(world, STEP)?;
    }
    Ok(world.now())
}

/// Lets time pass. Nobody checks what is observed.
fn pass(world: &mut World, time: Micros) -> Result<(), FigureError> {
    let until = world.now() + time;
    while world.now() < until {
        world.run_until(until.min(world.now() + Micros::from_secs(1)))?;
        drop(world.take_observations());
    }
    Ok(())
}

/// A world whose clients do what `workload` says, if anything.
fn world(shape: &str, sim: Micros, workload: &str, more: &str) -> Result<World, FigureError> {
    let text = format!(
        r#"
        name = "figure"
        about = "of a figure"
        shape = "{shape}"
        vnodes = 256
        sim = "{}s"
        heal = "1s"
        {more}
        [[table]]
        name = "table"
        policy = "lww"
        [workload]
        keys = 10000
        deadline = "5s"
        value_bytes = 100
        {workload}
        "#,
        sim.to_millis() / 1_000
    );
    Ok(World::new(&Scenario::parse(&text)?, 1)?)
}

/// Nobody does anything.
const NO_CLIENTS: &str = "clients = 0\npause = \"1s\"\nmix = { get = 1 }";
