//! Which losses the promises allow for.

use std::collections::BTreeSet;

use meridian_crdt::Dot;
use meridian_types::NodeId;

use super::{Mint, Oracle, Try, VnodeDot, Write};
use crate::history::{Key, Loss, LossCause, Need, SyncPromise};
use crate::sim::Micros;

impl Oracle {
    /// Whether a promise to keep this dot has lapsed: at least `holders` nodes that had it lost it
    /// in ways that the promise allows for.
    #[must_use]
    pub fn may_be_lost(&self, key: Key, dot: Dot, holders: usize) -> bool {
        let Some(place) = self.place(key, dot) else { return false };
        let losers: BTreeSet<NodeId> = self
            .losses_of(place)
            .filter(|loss| self.is_permitted(loss, key, dot))
            .map(|loss| loss.node)
            .collect();
        losers.len() >= holders.max(1)
    }

    /// The losses of a dot.
    pub fn losses_of(&self, place: VnodeDot) -> impl Iterator<Item = &Loss> {
        let VnodeDot { keyspace, vnode, dot } = place;
        self.losses.iter().filter(move |loss| {
            (loss.keyspace, loss.vnode) == (keyspace, vnode) && loss.dots.contains(dot)
        })
    }

    /// Whether the sync policy lets a node lose this dot in this way. What was done to the disk is
    /// beyond it; a crash takes back only what nobody was told of, or what was told just now.
    #[must_use]
    pub fn is_permitted(&self, loss: &Loss, key: Key, dot: Dot) -> bool {
        if loss.cause != LossCause::Crash {
            return true;
        }
        // A node that had lost it before, and got it again, is held to what it told since.
        let before = self.place(key, dot).and_then(|place| {
            let earlier = |l: &&Loss| l.node == loss.node && l.since < loss.since;
            self.losses_of(place).filter(earlier).map(|earlier| earlier.since).max()
        });
        let told = self.mint(key, dot).and_then(|mint| told_by(mint, loss.node, before));
        let Some(told) = told else { return true };
        match self.setting.sync {
            _ if told > loss.since => true,
            SyncPromise::Always => false,
            SyncPromise::Within(window) => loss.since - told <= window,
        }
    }

    /// Whether an acknowledged write may be lost: all that had it when it was acknowledged have
    /// lost it since.
    #[must_use]
    pub fn write_may_be_lost(&self, write: &Write) -> bool {
        let Some((ack, _, _)) = write.acked() else { return true };
        let by_dc = self.setting.replicas_by_dc(write.key);
        let holders = Need::of(ack.level, ack.dc, &by_dc).total;
        if write.dots.is_empty() {
            return self.unnamed_loss(write, holders);
        }
        write.dots.iter().any(|dot| self.may_be_lost(write.key, *dot, holders))
    }

    /// Nobody saw the write's dot: it was on its leading replica only, which has lost dots that
    /// nobody saw, or the disk of the node that kept its intent was replaced.
    fn unnamed_loss(&self, write: &Write, holders: usize) -> bool {
        let of_row = |loss: &&Loss| {
            let place = self.setting.keys.get(&write.key);
            place.is_some_and(|place| place.vnode == loss.vnode) && loss.since >= write.invoked()
        };
        let replaced = |t: &Try| !self.disk_changes(t.node).is_empty();
        holders <= 1 && (self.losses.iter().any(|l| of_row(&l)) || write.tries.iter().any(replaced))
    }

    /// Whether the dot was lost by damage (not by a crash) when nobody else had it: what it had
    /// replaced may then be back (rule 10).
    #[must_use]
    pub fn is_fragile(&self, key: Key, dot: Dot) -> bool {
        let Some(place) = self.place(key, dot) else { return false };
        self.losses_of(place).any(|loss| loss.gone.contains(dot))
    }
}

/// When a node first told anybody, after some time, that it has a dot: the one that minted it, by
/// sending it.
fn told_by(mint: &Mint, node: NodeId, after: Option<Micros>) -> Option<Micros> {
    let own = mint.on_wire.filter(|_| mint.dot.actor.node == node);
    let acks = mint.acks.get(&node).into_iter().flatten().copied();
    own.into_iter().chain(acks).filter(|told| after.is_none_or(|after| *told > after)).min()
}
