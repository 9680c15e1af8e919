//! The next layout from the one before, moving little.
//!
//! Every replica that may stay, stays. Vacant places go to the nodes that have too little. Then
//! replicas change hands along shortest paths in the graph "this node can pass one of its vnodes to
//! that node", from nodes with too much to nodes with too little, until every load is exact. That is
//! the augmenting-path method for a flow from nodes through vnodes and racks to nodes, and since the
//! fair loads can be met, it ends only when they are.

use std::collections::VecDeque;

use super::draw::Dice;
use super::fair::{NOBODY, NodeIx, Site};

/// Bends the lists `before`, one for each vnode, to what `site` asks for.
pub(super) fn carry(site: &Site, before: &[Vec<NodeIx>], seed: u64) -> Vec<NodeIx> {
    let mut loads = vec![0; site.len()];
    for &node in before.iter().flatten() {
        loads[node as usize] += 1;
    }
    let targets = site.fair_loads(Some(&loads));
    if site.width() == 0 {
        return Vec::new();
    }
    let mut board = Board {
        site,
        before,
        surplus: loads
            .iter()
            .zip(&targets)
            .map(|(&l, &t)| l.cast_signed() - t.cast_signed())
            .collect(),
        rows: Vec::with_capacity(site.vnodes() * site.width()),
        held: vec![Vec::new(); site.len()],
        dice: Dice::new(seed),
    };
    board.keep();
    board.fill();
    board.settle();
    board.rows
}

struct Board<'a> {
    site: &'a Site,
    before: &'a [Vec<NodeIx>],
    /// By how many vnodes each node is above its fair load.
    surplus: Vec<i64>,
    /// The lists, one after the other.
    rows: Vec<NodeIx>,
    /// The vnodes of each node, in no order.
    held: Vec<Vec<usize>>,
    dice: Dice,
}

impl Board<'_> {
    fn surplus(&self, node: NodeIx) -> i64 {
        self.surplus[node as usize]
    }

    /// Takes over each list without what the rack rule forbids.
    fn keep(&mut self) {
        let width = self.site.width();
        for before in self.before {
            let mut row = before.clone();
            while let Some(at) = self.worst_place(&row) {
                let node = row.remove(at);
                self.surplus[node as usize] -= 1;
            }
            row.resize(width, NOBODY);
            self.rows.extend(row);
        }
    }

    /// The place in a list that must be given up: on a rack that has too many, or where others need
    /// the room; of those the node with the largest surplus, and the last of equals.
    fn worst_place(&self, row: &[NodeIx]) -> Option<usize> {
        let racks = self.site.racks();
        let count = |rack| self.count(row, rack);
        let crowded = (0..racks.len()).any(|rack| count(rack) > racks[rack].max);
        if !crowded && row.len() + self.shortage(row) <= self.site.width() {
            return None;
        }
        let spare = |node| {
            let rack = self.site.rack_of(node);
            count(rack) > if crowded { racks[rack].max } else { racks[rack].min }
        };
        (0..row.len()).filter(|&at| spare(row[at])).max_by_key(|&at| (self.surplus(row[at]), at))
    }

    /// How many nodes of a rack are in a list.
    fn count(&self, row: &[NodeIx], rack: usize) -> usize {
        row.iter().filter(|&&node| node != NOBODY && self.site.rack_of(node) == rack).count()
    }

    /// How many places of a list the racks must still get that have fewer than they need.
    fn shortage(&self, row: &[NodeIx]) -> usize {
        let racks = self.site.racks().iter().enumerate();
        racks.map(|(at, rack)| rack.min.saturating_sub(self.count(row, at))).sum()
    }

    /// Gives every vacant place to a node, at random by how much the nodes lack.
    fn fill(&mut self) {
        let width = self.site.width();
        let mut may: Vec<NodeIx> = Vec::with_capacity(self.site.len());
        for vnode in 0..self.site.vnodes() {
            let places = vnode * width..(vnode + 1) * width;
            while let Some(at) = self.rows[places.clone()].iter().position(|&n| n == NOBODY) {
                let row = &self.rows[places.clone()];
                let vacant = row.iter().filter(|&&node| node == NOBODY).count();
                let short_only = self.shortage(row) >= vacant;
                may.clear();
                may.extend(self.site.nodes().filter(|&node| {
                    let rack = self.site.rack_of(node);
                    let rule = &self.site.racks()[rack];
                    let room = if short_only { rule.min } else { rule.max };
                    !row.contains(&node) && self.count(row, rack) < room
                }));
                let node = self.choose(&may);
                self.rows[places.start + at] = node;
                self.surplus[node as usize] += 1;
            }
            for &node in &self.rows[places] {
                self.held[node as usize].push(vnode);
            }
        }
    }

    /// One of these nodes, at random by what it lacks; the least laden if none lacks anything.
    fn choose(&mut self, may: &[NodeIx]) -> NodeIx {
        let surplus = &self.surplus;
        let lacks = |node: NodeIx| surplus[node as usize].min(0).unsigned_abs();
        let total = may.iter().map(|&node| lacks(node)).sum();
        let mut point = self.dice.below(total);
        for &node in may {
            match point.checked_sub(lacks(node)) {
                None => return node,
                Some(rest) => point = rest,
            }
        }
        // The rack rule always leaves somebody: a rack below its most has a member that is free.
        may.iter().copied().min_by_key(|&node| (self.surplus(node), node)).unwrap_or(NOBODY)
    }

    /// Passes vnodes on until every load is exact.
    fn settle(&mut self) {
        while let Some(path) = self.shortest_path() {
            for pass in path.windows(2) {
                self.pass_on(pass[0], pass[1]);
            }
        }
    }

    /// The shortest chain of nodes, each of which can pass a vnode to the next, from one with too
    /// much to one with too little.
    fn shortest_path(&self) -> Option<Vec<NodeIx>> {
        let mut from = vec![NOBODY; self.site.len()];
        let (sources, mut unseen): (Vec<NodeIx>, Vec<NodeIx>) =
            self.site.nodes().partition(|&node| self.surplus(node) > 0);
        let mut queue = VecDeque::from(sources);
        while let Some(giver) = queue.pop_front() {
            for &vnode in &self.held[giver as usize] {
                let mut at = 0;
                while at < unseen.len() {
                    let taker = unseen[at];
                    if !self.can_pass(vnode, giver, taker) {
                        at += 1;
                        continue;
                    }
                    unseen.swap_remove(at);
                    from[taker as usize] = giver;
                    if self.surplus(taker) < 0 {
                        return Some(trace(&from, taker));
                    }
                    queue.push_back(taker);
                }
                if unseen.is_empty() {
                    break;
                }
            }
        }
        None
    }

    fn row(&self, vnode: usize) -> &[NodeIx] {
        let width = self.site.width();
        &self.rows[vnode * width..(vnode + 1) * width]
    }

    /// Whether the rack rule lets `giver`, who holds the vnode, pass it to `taker`.
    fn can_pass(&self, vnode: usize, giver: NodeIx, taker: NodeIx) -> bool {
        let row = self.row(vnode);
        if row.contains(&taker) {
            return false;
        }
        let (loses, gains) = (self.site.rack_of(giver), self.site.rack_of(taker));
        let racks = self.site.racks();
        loses == gains
            || self.count(row, loses) > racks[loses].min
                && self.count(row, gains) < racks[gains].max
    }

    /// Passes the vnode that costs least: best one that returns to where it was before, then one
    /// that was moved anyway.
    fn pass_on(&mut self, giver: NodeIx, taker: NodeIx) {
        let held = &self.held[giver as usize];
        let start = usize::try_from(self.dice.below(held.len() as u64)).unwrap_or(0);
        let cost = |vnode: usize| {
            let before = &self.before[vnode];
            i8::from(!before.contains(&taker)) - i8::from(!before.contains(&giver))
        };
        let best = (start..held.len())
            .chain(0..start)
            .filter(|&at| self.can_pass(held[at], giver, taker))
            .min_by_key(|&at| cost(held[at]));
        // Two passes of one shortest path never stand in each other's way: if they did, the path
        // could be cut short.
        debug_assert!(best.is_some(), "a path is made of possible passes");
        let Some(at) = best else { return };
        let vnode = self.held[giver as usize].swap_remove(at);
        self.held[taker as usize].push(vnode);
        let width = self.site.width();
        let row = &mut self.rows[vnode * width..(vnode + 1) * width];
        for place in row.iter_mut().filter(|place| **place == giver) {
            *place = taker;
        }
        self.surplus[giver as usize] -= 1;
        self.surplus[taker as usize] += 1;
    }
}

fn trace(from: &[NodeIx], last: NodeIx) -> Vec<NodeIx> {
    let mut path = vec![last];
    let mut node = last;
    while from[node as usize] != NOBODY {
        node = from[node as usize];
        path.push(node);
    }
    path.reverse();
    path
}
