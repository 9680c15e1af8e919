//! Rows that replicas have without that anybody sent them.

use bytes::Bytes;
use meridian_store::LocalWrite;
use meridian_types::{Millis, NodeId, RowKey};

use super::{FigureError, pass};
use crate::sim::{Micros, NodeClock};
use crate::world::World;

/// Rows that are stored at a time, before the log is written.
const AT_ONCE: u64 = 256;

/// Stores rows by number: minted by one of `nodes` in turn, applied by the others. Returns the bytes
/// of keys and rows, as one replica would send them.
pub(super) fn store(
    world: &mut World,
    nodes: &[NodeId],
    numbers: impl Iterator<Item = u64>,
    value: u8,
) -> Result<u64, FigureError> {
    let mut bytes = 0;
    for (turn, number) in numbers.enumerate() {
        bytes += store_one(world, nodes, turn, number, value)?;
        if (turn as u64 + 1).is_multiple_of(AT_ONCE) {
            pass(world, Micros::from_millis(2))?;
        }
    }
    pass(world, Micros::from_millis(2))?;
    Ok(bytes)
}

fn store_one(
    world: &World,
    nodes: &[NodeId],
    turn: usize,
    number: u64,
    value: u8,
) -> Result<u64, FigureError> {
    let first = nodes[turn % nodes.len()];
    let now: Millis = NodeClock::default().wall(world.now());
    let store = world.node(first).ok_or(FigureError::NotRunning(first))?.store();
    let row = row(world, number);
    let write = LocalWrite { value: Some(Bytes::from(vec![value; 100])), ..LocalWrite::default() };
    let delta = store.mint(&row, write, now)?.delta;
    for &other in nodes.iter().filter(|&&other| other != first) {
        let node = world.node(other).ok_or(FigureError::NotRunning(other))?;
        node.store().apply(&row, &delta, None, now)?;
    }
    let stored = store.read(&row)?.row.to_bytes();
    Ok((row.key.len() + stored.len()) as u64)
}

fn row(world: &World, number: u64) -> RowKey {
    let (table, keyspace) = world.table();
    let key = Bytes::from(format!("row-{number:012}"));
    RowKey { keyspace, table, vnode: world.vnode_of(&key), key }
}
