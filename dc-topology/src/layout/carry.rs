//! The next layout from the one before, moving as little as its loads allow.
//!
//! Every replica that may stay, stays. What is left is a flow from nodes that have too much, and
//! from vacant places, through vnodes and racks to nodes that have too little, where a replica costs
//! 1 on a node that did not have it before and nothing on one that had. It is solved by successive
//! shortest paths (Ahuja, Magnanti and Orlin, "Network Flows", 9.7). The network is folded to a graph
//! of nodes ([`Passes`]): an edge is "this one can pass a vnode to that one". Paths of one edge,
//! nearly all there are, are found by a plain sweep.
//!
//! Fair loads are met as long as each vnode of difference costs one replica moved. Where racks are
//! tight it may cost two and more; such moves are made only for loads further than
//! [`SLACK_PERCENT`] from the fair ones.

use super::draw::Dice;
use super::fair::{NodeIx, Site};
use super::passes::{Cost, Pass, Passes};

/// By how much a load may differ from the fair one before it is worth more than one replica moved
/// for each vnode. Twice this, and what whole vnodes add, stay below the 10 percent that loads may
/// differ from each other.
const SLACK_PERCENT: u64 = 3;

/// Bends the lists `before`, one for each vnode, to what `site` asks for.
pub(super) fn carry(site: &Site, before: &[Vec<NodeIx>], seed: u64) -> Vec<NodeIx> {
    let mut board = Board::keep(site, before, seed);
    // Costs of shortest paths only rise, so that each step leaves nothing cheaper behind. Nothing is
    // free unless a replica was given up that could come back.
    if board.gave_up {
        board.sweep(0);
        board.settle(Aim::Fair, 0);
    }
    board.sweep(1);
    board.settle(Aim::Fair, 1);
    board.settle(Aim::NotTooMuch, Cost::MAX);
    board.settle(Aim::NotTooLittle, Cost::MAX);
    board.rows
}

/// What passes along shortest paths are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Fair loads.
    Fair,
    /// No vacant places, and no load above the fair one by more than the slack.
    NotTooMuch,
    /// No load below the fair one by more than the slack.
    NotTooLittle,
}

/// Lists in the making.
pub(super) struct Board<'a> {
    pub(super) site: &'a Site,
    before: &'a [Vec<NodeIx>],
    /// By how many vnodes each node is above its fair load; last, the number of vacant places.
    surplus: Vec<i64>,
    /// By how much each node's load may differ from the fair one; last, 0.
    slack: Vec<i64>,
    /// Whether some list lost a node to the rack rule.
    gave_up: bool,
    /// The lists, one after the other. A vacant place is held by [`Self::nobody`].
    rows: Vec<NodeIx>,
    /// The vnodes of each node, in no order; last, those of the vacant places.
    held: Vec<Vec<usize>>,
    /// Kept up to date once it was needed.
    passes: Option<Passes>,
    dice: Dice,
}

impl<'a> Board<'a> {
    /// Takes over each list without what the rack rule forbids.
    fn keep(site: &'a Site, before: &'a [Vec<NodeIx>], seed: u64) -> Self {
        let mut loads = vec![0; site.len()];
        for &node in before.iter().flatten() {
            loads[node as usize] += 1;
        }
        let targets = site.fair_loads(Some(&loads));
        let excess = loads.iter().zip(&targets).map(|(&l, &t)| l.cast_signed() - t.cast_signed());
        let mut board = Self {
            site,
            before,
            surplus: excess.chain([0]).collect(),
            slack: targets
                .iter()
                .map(|t| (t * SLACK_PERCENT / 100).cast_signed())
                .chain([0])
                .collect(),
            gave_up: false,
            rows: Vec::with_capacity(site.vnodes() * site.width()),
            held: vec![Vec::new(); site.len() + 1],
            passes: None,
            dice: Dice::new(seed),
        };
        for (vnode, list) in before.iter().enumerate() {
            let mut row = list.clone();
            while let Some(at) = board.worst_place(&row) {
                let node = row.remove(at);
                board.surplus[node as usize] -= 1;
                board.gave_up = true;
            }
            while row.len() < site.width() {
                row.push(site.nobody());
                board.surplus[site.len()] += 1;
            }
            for &node in &row {
                board.held[node as usize].push(vnode);
            }
            board.rows.extend(row);
        }
        board
    }

    /// The place in a list that must be given up: on a rack that has too many, or where others need
    /// the room; of those the node with the largest surplus, and the last of equals.
    fn worst_place(&self, row: &[NodeIx]) -> Option<usize> {
        let racks = self.site.racks();
        let rule = |at: usize| &racks[self.site.rack_of(row[at])];
        let count = |at: usize| self.site.count(row, self.site.rack_of(row[at]));
        let crowded = (0..row.len()).any(|at| count(at) > rule(at).max);
        if !crowded && self.site.places_spoken_for(row) <= self.site.width() {
            return None;
        }
        (0..row.len())
            .filter(|&at| count(at) > if crowded { rule(at).max } else { rule(at).min })
            .max_by_key(|&at| (self.surplus[row[at] as usize], at))
    }

    pub(super) fn row(&self, vnode: usize) -> &[NodeIx] {
        let width = self.site.width();
        &self.rows[vnode * width..(vnode + 1) * width]
    }

    /// Whether a node, or nobody, may pass a vnode on.
    pub(super) fn may_lose(&self, node: NodeIx, aim: Aim) -> bool {
        let (surplus, slack) = (self.surplus[node as usize], self.slack[node as usize]);
        match aim {
            Aim::Fair => surplus > 0,
            Aim::NotTooMuch => surplus > slack,
            Aim::NotTooLittle => surplus > -slack,
        }
    }

    /// Whether a node may take one vnode more.
    pub(super) fn may_gain(&self, node: NodeIx, aim: Aim) -> bool {
        let (surplus, slack) = (self.surplus[node as usize], self.slack[node as usize]);
        match aim {
            Aim::Fair => surplus < 0,
            Aim::NotTooMuch => surplus < slack,
            Aim::NotTooLittle => surplus < -slack,
        }
    }

    /// How much a node lacks of its fair load; below 0 where it has more.
    pub(super) fn lack(&self, node: NodeIx) -> i64 {
        -self.surplus[node as usize]
    }

    /// What it costs that `taker` has the vnode in place of `giver`.
    pub(super) fn cost(&self, vnode: usize, giver: NodeIx, taker: NodeIx) -> Cost {
        let before = &self.before[vnode];
        let gained = |node: NodeIx| node != self.site.nobody() && !before.contains(&node);
        Cost::from(gained(taker)) - Cost::from(gained(giver))
    }

    /// Passes vnodes straight from nodes with too much to nodes with too little, to each of these at
    /// random by what it lacks, at no more than the cost `limit`.
    fn sweep(&mut self, limit: Cost) {
        let mut takers: Vec<NodeIx> = Vec::with_capacity(self.site.len());
        for giver in (0..=self.site.nobody()).rev() {
            if !self.may_lose(giver, Aim::Fair) {
                continue;
            }
            let mut vnodes = std::mem::take(&mut self.held[giver as usize]);
            self.dice.shuffle(&mut vnodes);
            vnodes.retain(|&vnode| {
                if !self.may_lose(giver, Aim::Fair) {
                    return true;
                }
                takers.clear();
                takers.extend(self.site.nodes().filter(|&taker| {
                    self.may_gain(taker, Aim::Fair)
                        && self.cost(vnode, giver, taker) <= limit
                        && self.site.may_pass(self.row(vnode), giver, taker)
                }));
                let Some(taker) = self.choose(&takers) else { return true };
                self.pass(vnode, giver, taker);
                false
            });
            self.held[giver as usize] = vnodes;
        }
    }

    /// One of these nodes, at random by what it lacks.
    fn choose(&mut self, takers: &[NodeIx]) -> Option<NodeIx> {
        let surplus = &self.surplus;
        let lacks = |node: NodeIx| surplus[node as usize].min(0).unsigned_abs();
        let mut point = self.dice.below(takers.iter().map(|&node| lacks(node)).sum());
        takers.iter().copied().find(|&node| match point.checked_sub(lacks(node)) {
            None => true,
            Some(rest) => {
                point = rest;
                false
            }
        })
    }

    /// Passes vnodes along shortest paths of no more than the cost `limit`, until there are none.
    fn settle(&mut self, aim: Aim, limit: Cost) {
        let all_met = |board: &Self| match aim {
            Aim::NotTooLittle => !board.site.nodes().any(|node| board.may_gain(node, aim)),
            _ => !(0..=board.site.nobody()).any(|node| board.may_lose(node, aim)),
        };
        while !all_met(self) {
            let passes = self.passes.take().unwrap_or_else(|| Passes::new(self));
            let path = passes.shortest_path(self, aim);
            self.passes = Some(passes);
            let Some((cost, path)) = path else {
                debug_assert!(false, "fair loads can be met, so there is a path");
                return;
            };
            if cost > limit {
                return;
            }
            for pass in path {
                self.pass_any(pass);
            }
        }
    }

    /// Makes a pass with one of the vnodes for which it is possible.
    fn pass_any(&mut self, Pass { giver, taker, cost }: Pass) {
        let held = &self.held[giver as usize];
        let start = usize::try_from(self.dice.below(held.len() as u64)).unwrap_or(0);
        let found = (start..held.len()).chain(0..start).find(|&at| {
            self.cost(held[at], giver, taker) == cost
                && self.site.may_pass(self.row(held[at]), giver, taker)
        });
        // Two passes of one path never stand in each other's way: if they did, there would be one as
        // cheap with fewer passes.
        debug_assert!(found.is_some(), "a path is made of possible passes");
        if let Some(at) = found {
            let vnode = self.held[giver as usize].swap_remove(at);
            self.pass(vnode, giver, taker);
        }
    }

    /// Puts `taker` into the place of `giver`, from whose vnodes the caller took this one.
    fn pass(&mut self, vnode: usize, giver: NodeIx, taker: NodeIx) {
        let mut passes = self.passes.take();
        if let Some(passes) = &mut passes {
            passes.remove(self, vnode);
        }
        let width = self.site.width();
        let row = &mut self.rows[vnode * width..(vnode + 1) * width];
        if let Some(place) = row.iter_mut().find(|place| **place == giver) {
            *place = taker;
        }
        self.held[taker as usize].push(vnode);
        self.surplus[giver as usize] -= 1;
        self.surplus[taker as usize] += 1;
        if let Some(passes) = &mut passes {
            passes.add(self, vnode);
        }
        self.passes = passes;
    }
}
