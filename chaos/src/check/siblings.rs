//! What is shown is what nobody has replaced.
//!
//! Property (crdt model, check A): in the end every sound replica shows, of the writes that any
//! sound replica knows, exactly those that no other of them covers; on an LWW table, the one with
//! the highest (stamp, dot). No sibling is lost, none is false.
//!
//! Excused: what only a write covers whose context nobody saw; what is back because the write that
//! replaced it was lost when nobody else had it (rule 10).

use std::collections::BTreeSet;

use meridian_crdt::Dot;
use meridian_types::{ConflictPolicy, NodeId};

use super::convergence::{only_the_lost_knew, shown};
use super::{Invariant, Report, Violation};
use crate::history::{Final, Key, Mint, Observation, Oracle, Sure, VnodeState, WriteKind};

const NAME: &str = "siblings";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Siblings;

impl Invariant for Siblings {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&mut self, _: &Observation) {}

    fn finish(&mut self, oracle: &Oracle, end: &Final) -> Result<Report, Violation> {
        let mut report = Report::default();
        for (key, place) in &oracle.setting().keys {
            let Some(table) = oracle.setting().tables.get(&key.table) else { continue };
            let alive: Vec<&Mint> =
                oracle.mints_of(*key).filter(|mint| oracle.is_alive(*key, mint.dot)).collect();
            for (node, replica) in end.replicas.iter().filter(|(_, replica)| replica.sound) {
                if let Some(vnode) = replica.vnodes.get(&(table.keyspace, place.vnode)) {
                    report.checked += 1;
                    check(oracle, end, (*key, *node), vnode, &alive, &mut report)?;
                }
            }
        }
        Ok(report)
    }
}

fn check(
    oracle: &Oracle,
    end: &Final,
    (key, node): (Key, NodeId),
    vnode: &VnodeState,
    alive: &[&Mint],
    report: &mut Report,
) -> Result<(), Violation> {
    let shown = shown(vnode.rows.get(&key), end.wall);
    let violation = |property, dots: BTreeSet<Dot>| Violation {
        invariant: NAME,
        property,
        key: Some(key),
        writes: dots.iter().filter_map(|dot| oracle.mint(key, *dot)?.write).collect(),
        at: end.at,
        what: format!("at {node}"),
    };
    let is_lww = oracle.setting().policy(key) == ConflictPolicy::Lww;
    let winner = alive.iter().map(|mint| (mint.stamp, mint.dot)).max();
    for mint in alive {
        let replaced = match is_lww {
            true if winner == Some((mint.stamp, mint.dot)) => Sure::No,
            true => Sure::Yes,
            false => alive.iter().map(|by| oracle.covers(by, mint.dot)).max().unwrap_or(Sure::No),
        };
        match (shown.contains(&mint.dot), replaced) {
            (_, Sure::Maybe) => report.excuse("nobody saw what a delete covered"),
            (true, Sure::No) | (false, Sure::Yes) => {}
            (true, Sure::Yes) if only_the_lost_knew(oracle, key, mint.dot) => {
                report.excuse("what replaced it was lost when nobody else had it");
            }
            (true, Sure::Yes) => {
                return Err(violation("no false sibling", BTreeSet::from([mint.dot])));
            }
            (false, Sure::No) if lives(oracle, mint) => {
                return Err(violation("no sibling is lost", BTreeSet::from([mint.dot])));
            }
            (false, Sure::No) => {}
        }
    }
    Ok(())
}

/// Whether a write's value does not end by itself.
fn lives(oracle: &Oracle, mint: &Mint) -> bool {
    let has_ttl = oracle.setting().tables.get(&mint.key.table).is_some_and(|table| table.has_ttl);
    let write = mint.write.and_then(|name| oracle.write(name));
    !has_ttl && write.is_some_and(|write| write.kind == WriteKind::Put { expires: None })
}
