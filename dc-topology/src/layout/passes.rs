//! Which node can pass a vnode to which, at which cost, and the cheapest way from one with too much
//! to one with too little.

use std::collections::VecDeque;

use super::carry::{Aim, Board};
use super::fair::NodeIx;

/// What a pass costs: 1 for a replica on a node that did not have it before, -1 for taking one away
/// that was gained, 0 where both or neither is so.
pub(super) type Cost = i32;

const CHEAPEST: Cost = -1;
const COSTS: usize = 3;

/// `giver`'s place in one list goes to `taker`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub(super) giver: NodeIx,
    pub(super) taker: NodeIx,
    pub(super) cost: Cost,
}

/// For each pair of a giver and a taker, and each cost, in how many vnodes the one can pass to the
/// other. "Nobody", the holder of vacant places, is a giver too.
pub(super) struct Passes {
    nodes: usize,
    counts: Vec<[u32; COSTS]>,
}

/// How far a node is from those with too much: the cost, then the number of passes.
type Distance = (Cost, u32);

impl Passes {
    /// Counts all passes on a board.
    pub(super) fn new(board: &Board<'_>) -> Self {
        let nodes = board.site.len();
        let mut passes = Self { nodes, counts: vec![[0; COSTS]; (nodes + 1) * nodes] };
        for vnode in 0..board.site.vnodes() {
            passes.add(board, vnode);
        }
        passes
    }

    /// Counts what a vnode's list makes possible.
    pub(super) fn add(&mut self, board: &Board<'_>, vnode: usize) {
        self.each(board, vnode, |count| *count += 1);
    }

    /// Takes back what [`Self::add`] counted; to be called before the list changes.
    pub(super) fn remove(&mut self, board: &Board<'_>, vnode: usize) {
        self.each(board, vnode, |count| *count -= 1);
    }

    fn each(&mut self, board: &Board<'_>, vnode: usize, change: impl Fn(&mut u32)) {
        let row = board.row(vnode);
        for (at, &giver) in row.iter().enumerate() {
            // Vacant places are alike: they count once.
            if row[..at].contains(&giver) {
                continue;
            }
            for rack in 0..board.site.racks().len() {
                if !board.site.may_pass_to_rack(row, giver, rack) {
                    continue;
                }
                for &taker in &board.site.racks()[rack].members {
                    if !row.contains(&taker) {
                        let cost = board.cost(vnode, giver, taker);
                        let edge = giver as usize * self.nodes + taker as usize;
                        change(&mut self.counts[edge][place_of(cost)]);
                    }
                }
            }
        }
    }

    /// The cheapest chain of passes from a node that may lose a vnode, or a vacant place, to one that
    /// may gain one. Of the cheapest one to the node that lacks most, with the fewest passes.
    ///
    /// Bellman-Ford with a queue. Costs below 0 do no harm: while only shortest paths were taken, no
    /// cycle costs less than 0.
    pub(super) fn shortest_path(&self, board: &Board<'_>, aim: Aim) -> Option<(Cost, Vec<Pass>)> {
        const FAR: Distance = (Cost::MAX, u32::MAX);
        let nobody = board.site.nobody();
        let mut distance = vec![FAR; self.nodes + 1];
        let mut via: Vec<Option<(NodeIx, Cost)>> = vec![None; self.nodes + 1];
        let mut queue: VecDeque<NodeIx> =
            (0..=nobody).filter(|&node| board.may_lose(node, aim)).collect();
        let mut queued = vec![false; self.nodes + 1];
        for &node in &queue {
            distance[node as usize] = (0, 0);
            queued[node as usize] = true;
        }
        while let Some(giver) = queue.pop_front() {
            queued[giver as usize] = false;
            let (so_far, passes) = distance[giver as usize];
            let edges = &self.counts[giver as usize * self.nodes..][..self.nodes];
            for (taker, counts) in (0..nobody).zip(edges) {
                let Some(place) = counts.iter().position(|&count| count > 0) else { continue };
                let cost = cost_at(place);
                let better = (so_far + cost, passes + 1);
                if passes as usize > self.nodes {
                    debug_assert!(
                        false,
                        "a cycle costs less than 0: not only shortest paths were taken"
                    );
                    return None;
                }
                if better < distance[taker as usize] {
                    distance[taker as usize] = better;
                    via[taker as usize] = Some((giver, cost));
                    if !queued[taker as usize] {
                        queued[taker as usize] = true;
                        queue.push_back(taker);
                    }
                }
            }
        }
        let (cost, _, _, end) = board
            .site
            .nodes()
            .filter(|&node| board.may_gain(node, aim) && via[node as usize].is_some())
            .map(|node| {
                let (cost, passes) = distance[node as usize];
                (cost, -board.lack(node), passes, node)
            })
            .min()?;
        let mut path = Vec::new();
        let mut taker = end;
        while let Some((giver, cost)) = via[taker as usize] {
            path.push(Pass { giver, taker, cost });
            taker = giver;
        }
        path.reverse();
        (!path.is_empty()).then_some((cost, path))
    }
}

fn place_of(cost: Cost) -> usize {
    usize::try_from(cost - CHEAPEST).unwrap_or(0)
}

fn cost_at(place: usize) -> Cost {
    Cost::try_from(place).unwrap_or(0) + CHEAPEST
}
