//! What replicas say to each other while nothing differs.

use super::{Figure, FigureError, NO_CLIENTS, load, pass, wait, world};
use crate::sim::Micros;

/// For how long is counted.
const COUNTED: Micros = Micros::from_secs(600);

/// Three replicas of a keyspace that have the same, and nothing is written.
///
/// # Errors
/// See [`FigureError`].
pub fn in_sync() -> Result<Figure, FigureError> {
    let mut world = world("three-node", Micros::from_secs(1), NO_CLIENTS, "")?;
    pass(&mut world, Micros::from_secs(5))?;
    let nodes = world.nodes();
    load::store(&mut world, &nodes, 0..1_000, 1)?;
    wait(&mut world, "equal clocks", super::World::is_in_sync)?;
    pass(&mut world, Micros::from_secs(120))?;
    let before = world.traffic();
    pass(&mut world, COUNTED)?;
    let traffic = world.traffic().since(&before);
    let pairs = (nodes.len() * (nodes.len() - 1) / 2) as u64;
    let mut figure = Figure::new(
        "in-sync",
        format!("{} replicas with equal clocks, nothing written for {COUNTED}", nodes.len()),
    );
    figure.traffic(&traffic);
    let sum = traffic.anti_entropy();
    let rounds = traffic.of("compare").messages / pairs;
    figure.ratio("seconds between two comparisons of a pair", COUNTED.to_millis() / 1_000, rounds);
    figure.ratio("messages a comparison", sum.messages, traffic.of("compare").messages);
    figure.ratio("bytes a pair and minute", sum.bytes * 60, pairs * COUNTED.to_millis() / 1_000);
    Ok(figure)
}
