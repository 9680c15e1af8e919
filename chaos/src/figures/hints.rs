//! How fast hints of a long absence are delivered.

use super::{FAULT, Figure, FigureError, pass, wait, world};
use crate::fault::{Edge, Fault, NodeFault};
use crate::sim::Micros;
use crate::world::World;

/// When the node stops.
const BEGIN: Micros = Micros::from_secs(5);

/// One of three nodes is stopped for a time while clients write at the others.
///
/// # Errors
/// See [`FigureError`].
pub fn hints(away: Micros) -> Result<Figure, FigureError> {
    let clients = "clients = 2\npause = \"100ms\"\nmix = { put = 1 }\nwrites = { QUORUM = 1 }";
    let more = "[node]\nmemtable_bytes = 4194304\n";
    let mut world = world("three-node", BEGIN + away, clients, more)?;
    pass(&mut world, BEGIN)?;
    let node = *world.nodes().last().ok_or(FigureError::NotRunning(meridian_types::NodeId(0)))?;
    let stop = Fault::Node { node, what: NodeFault::Stop {} };
    world.apply(FAULT, &stop, 0, Edge::Begin);
    pass(&mut world, away)?;
    let (hints, before) = (world.hints(), world.traffic());
    world.apply(FAULT, &stop, 0, Edge::End);
    let back = wait(&mut world, "the node's return", |world| world.node(node).is_some())?;
    let same = wait(&mut world, "equal clocks", World::is_in_sync)?;
    let drained = wait(&mut world, "the end of hints", |world| world.hints() == 0)?;
    pass(&mut world, Micros::from_secs(2))?;
    let traffic = world.traffic().since(&before);
    let mut figure =
        Figure::new("hints", format!("one of three nodes away for {away}, clients at the others"));
    figure.count("hints at its return", hints);
    figure.traffic(&traffic);
    figure.seconds("seconds to the last hint", drained - back);
    figure.seconds("seconds to equal clocks", same - back);
    figure.ratio("hints a second", hints * 1_000, (drained - back).to_millis());
    Ok(figure)
}
