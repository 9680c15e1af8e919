//! What a replica can prove of one vnode (rule 10), and what follows from it: pure.
//!
//! Two questions are asked of a replica that lost something, and they are not the same. *May it
//! answer a read?* depends on whom it has pulled from since anything that it had acknowledged may
//! have been lost (`pulled`). *May its rows hold what the others forgot?* depends on whom it has
//! pulled from in full since the last loss beyond the unsynced tail (`swept`). `docs/causality.md`
//! has the rule and the histories that each part of it stands for.
//!
//! INVARIANT: clock and proven rows are always what the deltas in the clock give. An entry whose
//! dot the clock does not have is *loose*: there are such entries only where a clock was reset, so
//! only in a vnode that is rebuilding.

use std::collections::{BTreeMap, BTreeSet};

pub use meridian_types::{Goods, PeerStanding, ReadClass, VnodeKind};
use meridian_types::{Incarnation, NodeId};

mod record;

/// The other replicas of a vnode in the present layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherReplicas {
    /// Those of this node's datacenter.
    pub local: BTreeSet<NodeId>,
    /// Those of all datacenters.
    pub all: BTreeSet<NodeId>,
}

/// A pull that has ended: its rows and then its clock are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedPull {
    /// Who was pulled from.
    pub peer: NodeId,
    /// What it said of itself when the pull began.
    pub at: PeerStanding,
    /// Whether it was a full one. One from a fresh peer with an empty clock is, where there is no
    /// row to sweep.
    pub full: bool,
    /// The [`VnodeState::round`] of this replica when it began.
    pub round: usize,
}

/// What a replica can prove of a vnode, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VnodeState {
    /// The state.
    pub kind: VnodeKind,
    /// The incarnation under which the last loss beyond a tail was found; 0: none ever. Kept when
    /// all is sound again: peers must hear of it.
    pub loss: Incarnation,
    /// Whether a peer that was not rebuilding was pulled from in full.
    pub found_sound: bool,
    /// Whether an operator accepted that what is missing is lost.
    pub accepted: bool,
    /// Whether it counts as if everybody had been pulled from, by an operator's word.
    pub everybody: bool,
    /// Whether a reset has begun that did not end: nothing of the vnode may be shown.
    pub resetting: bool,
    /// Who was pulled from in full since the last loss, and whether that one was fresh then.
    pub swept: BTreeMap<NodeId, bool>,
    /// The losses of others that were heard of while rebuilding.
    pub heard: BTreeSet<(NodeId, Incarnation)>,
    /// Who was pulled from since something acknowledged may have been lost, and what each was good
    /// for when that began.
    pub pulled: BTreeMap<NodeId, Goods>,
}

impl VnodeState {
    /// A replica that has everything.
    #[must_use]
    pub const fn sound() -> Self {
        Self::begun(VnodeKind::Sound, Incarnation(0))
    }

    /// A replica that begins, or begins again.
    #[must_use]
    pub const fn begun(kind: VnodeKind, loss: Incarnation) -> Self {
        Self {
            kind,
            loss,
            found_sound: false,
            accepted: false,
            everybody: false,
            resetting: false,
            swept: BTreeMap::new(),
            heard: BTreeSet::new(),
            pulled: BTreeMap::new(),
        }
    }

    /// The log was not closed in order, and its tail may be lost: what was pulled before that may
    /// be gone with it.
    pub fn tail_lost(&mut self) {
        self.pulled.clear();
        self.everybody = false;
        if self.kind == VnodeKind::Sound {
            self.kind = VnodeKind::Suspect;
        }
    }

    /// The reads that it is good for as long as nobody has said who the other replicas are.
    #[must_use]
    pub fn goods_unjudged(&self) -> Goods {
        let is_good = self.kind == VnodeKind::Sound || self.everybody;
        if is_good { Goods::EVERY } else { Goods::NONE }
    }

    /// The reads that it is good for: as many of those pulled from as the read waits for were good
    /// for it themselves, or all others were pulled from, whatever they had lost. (It is that many,
    /// and not as few as meet every quorum: what a quorum acknowledged may be at peers that lost it.)
    #[must_use]
    pub fn goods(&self, others: &OtherReplicas) -> Goods {
        if self.kind == VnodeKind::Sound || self.everybody {
            return Goods::EVERY;
        }
        let is_good = |class: &ReadClass| {
            let scope = if *class == ReadClass::Local { &others.local } else { &others.all };
            let all = scope.len() + 1;
            let needed = match class {
                ReadClass::One => 1,
                ReadClass::Local | ReadClass::Global => all / 2 + 1,
                ReadClass::All => all,
            };
            let good = |peer: &&NodeId| self.pulled.get(peer).is_some_and(|it| it.has(*class));
            scope.iter().all(|peer| self.pulled.contains_key(peer))
                || scope.iter().filter(good).count() >= needed
        };
        ReadClass::EVERY.into_iter().filter(is_good).collect()
    }

    /// The replicas that must still be pulled from: in full where it is fresh or rebuilding.
    #[must_use]
    pub fn todo(&self, others: &OtherReplicas) -> Vec<NodeId> {
        let is_done = |peer: &NodeId| match self.kind {
            VnodeKind::Sound => true,
            VnodeKind::Suspect => self.pulled.contains_key(peer),
            VnodeKind::Fresh | VnodeKind::Rebuilding => self.swept.contains_key(peer),
        };
        others.all.iter().filter(|peer| !is_done(peer)).copied().collect()
    }

    /// Whether nothing keeps it from being sound. Where nobody is left that can prove anything it
    /// is an operator's word that ends it, or that all began together.
    #[must_use]
    pub fn is_through(&self, others: &OtherReplicas) -> bool {
        let all_began = || {
            self.kind == VnodeKind::Fresh
                && others.all.iter().all(|peer| self.swept.get(peer) == Some(&true))
        };
        match self.kind {
            VnodeKind::Sound => false,
            VnodeKind::Suspect => self.everybody || self.todo(others).is_empty(),
            VnodeKind::Fresh | VnodeKind::Rebuilding => {
                self.todo(others).is_empty() && (self.found_sound || self.accepted || all_began())
            }
        }
    }

    /// How often the sweeping began anew because another loss was heard of.
    #[must_use]
    pub fn round(&self) -> usize {
        self.heard.len()
    }

    /// Notes a pull that has ended; whether that changed anything.
    pub fn pull_ended(&mut self, pull: &EndedPull) -> bool {
        let EndedPull { peer, at, full, round } = *pull;
        match self.kind {
            VnodeKind::Sound => return false,
            VnodeKind::Suspect => {}
            VnodeKind::Fresh | VnodeKind::Rebuilding if !full => return false,
            VnodeKind::Fresh | VnodeKind::Rebuilding => {
                let is_of_this_round = round == self.round();
                let is_new_loss = at.loss.0 != 0 && self.heard.insert((peer, at.loss));
                if is_new_loss {
                    // Before it lost what it lost it may have handed on what others have forgotten
                    // since.
                    self.swept.clear();
                }
                if is_new_loss || is_of_this_round {
                    self.swept.insert(peer, at.kind == VnodeKind::Fresh);
                }
                self.found_sound |= !at.kind.is_unproven();
            }
        }
        self.pulled.insert(peer, at.goods);
        true
    }

    /// An operator accepts what is lost: it answers reads as it is, and goes on sweeping.
    pub fn accept(&mut self) {
        self.everybody = true;
        self.accepted |= self.kind.is_unproven();
    }

    /// It is through; its loss is kept. It is sound from now on, or suspect, if a tail was lost
    /// since it had pulled from some of the others.
    pub fn end(&mut self, others: &OtherReplicas) {
        let has_met_all =
            self.everybody || others.all.iter().all(|it| self.pulled.contains_key(it));
        let kind = if has_met_all { VnodeKind::Sound } else { VnodeKind::Suspect };
        let before = std::mem::replace(self, Self::begun(kind, self.loss));
        if !has_met_all {
            self.pulled = before.pulled;
        }
    }
}

/// A state as the read path needs it: one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing(u8);

const KIND_BITS: u8 = 0b11;
const SHOWN: u8 = 0b100;
const GOODS_AT: u8 = 3;

impl Standing {
    /// Of a state that is good for some reads ([`VnodeState::goods`]).
    #[must_use]
    pub fn new(state: &VnodeState, goods: Goods) -> Self {
        let shown = match state.kind {
            VnodeKind::Sound | VnodeKind::Suspect => true,
            VnodeKind::Fresh | VnodeKind::Rebuilding => state.found_sound || state.accepted,
        };
        Self(state.kind as u8 | if shown { SHOWN } else { 0 } | goods.bits() << GOODS_AT)
    }

    /// As one byte, to be kept where reads look.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self.0
    }

    /// From [`Self::to_byte`].
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The state.
    #[must_use]
    pub fn kind(self) -> VnodeKind {
        VnodeKind::EVERY[usize::from(self.0 & KIND_BITS)]
    }

    /// The reads that it is good for.
    #[must_use]
    pub fn goods(self) -> Goods {
        Goods::from_bits(self.0 >> GOODS_AT & Goods::EVERY.bits()).unwrap_or(Goods::NONE)
    }

    /// Whether it may answer a read of this class. One that may have lost only a tail answers ONE
    /// at once: that level promises no freshness.
    #[must_use]
    pub fn answers(self, class: ReadClass) -> bool {
        let at_once = self.kind() == VnodeKind::Suspect && class == ReadClass::One;
        at_once || self.0 & SHOWN != 0 && self.goods().has(class)
    }
}

#[cfg(test)]
mod tests;
