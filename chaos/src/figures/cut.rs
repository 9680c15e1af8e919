//! How long replicas need after a datacenter was cut off under load.

use super::{FAULT, Figure, FigureError, pass, wait, world};
use crate::fault::{Edge, Fault, WayFault, Ways};
use crate::sim::Micros;
use crate::world::World;

/// When the datacenter is cut off.
const BEGIN: Micros = Micros::from_secs(5);

/// One of three datacenters is cut off for a time while clients write in all of them.
///
/// # Errors
/// See [`FigureError`].
pub fn cut(lasts: Micros) -> Result<Figure, FigureError> {
    let clients = "clients = 9\npause = \"100ms\"\nmix = { put = 1, get = 1 }\n\
        reads = { LOCAL_QUORUM = 1 }\nwrites = { LOCAL_QUORUM = 1 }";
    let end = BEGIN + lasts;
    let mut world = world("three-dc", end, clients, "[node]\nmemtable_bytes = 4194304\n")?;
    pass(&mut world, BEGIN)?;
    let (inside, outside) = world.split_first_dc();
    let ways = Ways { from: inside, to: outside, both: true };
    let cut = Fault::Ways { ways, what: WayFault::Cut {} };
    world.apply(FAULT, &cut, 0, Edge::Begin);
    pass(&mut world, lasts)?;
    let (before, hints) = (world.traffic(), world.hints());
    let behind = world.dots_behind();
    let healed = world.now();
    world.apply(FAULT, &cut, 0, Edge::End);
    let same = wait(&mut world, "equal clocks", World::is_in_sync)?;
    let drained = wait(&mut world, "the end of hints", |world| world.hints() == 0)?;
    pass(&mut world, Micros::from_secs(2))?;
    let traffic = world.traffic().since(&before);
    let about = format!("one of three datacenters cut off for {lasts}, clients in all of them");
    let mut figure = Figure::new("cut", about);
    figure.count("writes that replicas lacked at the heal", behind);
    figure.count("hints at the heal", hints);
    figure.traffic(&traffic);
    figure.seconds("seconds from the heal to equal clocks", same - healed);
    figure.seconds("seconds from the heal to the last hint", drained - healed);
    Ok(figure)
}
