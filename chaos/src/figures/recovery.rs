//! What it costs to bring a few rows to a replica that has nearly all.

use meridian_types::NodeId;

use super::{FAULT, Figure, FigureError, NO_CLIENTS, load, pass, wait, world};
use crate::fault::{Edge, Fault, WayFault, Ways};
use crate::sim::Micros;
use crate::world::World;

/// What else the ideal needs for a row on the wire: its table, the lengths of key and row.
const FRAME: u64 = 6;

/// One of three replicas is cut off; the two others take `differing` writes that it gets no hints of;
/// the links come back. The ideal is the differing rows themselves, one message each.
///
/// # Errors
/// See [`FigureError`].
pub fn recovery(keys: u64, differing: u64) -> Result<Figure, FigureError> {
    let more = "[node]\nmemtable_bytes = 262144\n";
    let mut world = world("three-node", Micros::from_secs(1), NO_CLIENTS, more)?;
    pass(&mut world, Micros::from_secs(5))?;
    let nodes = world.nodes();
    load::store(&mut world, &nodes, 0..keys, 1)?;
    wait(&mut world, "equal clocks", World::is_in_sync)?;
    pass(&mut world, Micros::from_secs(60))?;
    let (last, others) = nodes.split_last().ok_or(FigureError::NotRunning(NodeId(0)))?;
    let cut = Fault::Ways {
        ways: Ways { from: vec![*last], to: others.to_vec(), both: true },
        what: WayFault::Cut {},
    };
    world.apply(FAULT, &cut, 0, Edge::Begin);
    pass(&mut world, Micros::from_secs(10))?;
    let every = (keys / differing.max(1)).max(1);
    let ideal = load::store(&mut world, others, (0..differing).map(|n| n * every), 2)?;
    let ideal = ideal + differing * FRAME;
    pass(&mut world, Micros::from_secs(30))?;
    let (before, blocks, looked) = (world.traffic(), world.blocks(), world.rows_examined());
    let healed = world.now();
    world.apply(FAULT, &cut, 0, Edge::End);
    let same = wait(&mut world, "equal clocks", World::is_in_sync)?;
    // What was still under way when the last clock became equal counts as well.
    pass(&mut world, Micros::from_secs(2))?;
    let traffic = world.traffic().since(&before);
    let sum = traffic.anti_entropy();
    let about = format!("{keys} keys, {differing} differ after a heal");
    let mut figure = Figure::new("recovery", about);
    figure.traffic(&traffic);
    figure.crossed("all", sum);
    figure.count("ideal: bytes", ideal);
    figure.ratio("bytes of the ideal", sum.bytes, ideal);
    figure.ratio("messages of the ideal", sum.messages, differing);
    figure.count("rows looked at", world.rows_examined() - looked);
    figure.count("blocks read", world.blocks() - blocks);
    figure.seconds("seconds from the heal to equal clocks", same - healed);
    Ok(figure)
}
