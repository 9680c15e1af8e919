//! What a layout owes: how many replicas of a vnode each rack takes, and how many vnodes each node.
//!
//! Both are exact. The rack rule is water-filling over the racks' sizes; the loads minimise
//! `Σ load² / capacity` under the rack rule, which makes the largest load per capacity as small and
//! the smallest as large as any layout can have them (Fujishige 1980, lexicographically optimal
//! bases; Federgruen and Groenevelt 1986 for whole numbers by the greedy algorithm).

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use meridian_types::NodeId;

use super::{Layout, Member};
use crate::ring::VnodeCount;

/// A member by its place in [`Site`]: dense, so that tables can be arrays.
pub(super) type NodeIx = u32;

/// A rack of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rack {
    /// Its members.
    pub(super) members: Vec<NodeIx>,
    /// The fewest replicas of a vnode that it takes.
    pub(super) min: usize,
    /// The most.
    pub(super) max: usize,
}

/// The members of a datacenter, as numbers.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// By number; a member's place here is its [`NodeIx`].
    ids: Vec<NodeId>,
    capacity: Vec<u64>,
    rack_of: Vec<usize>,
    racks: Vec<Rack>,
    /// What all racks together must have at least of a list.
    owed: usize,
    vnodes: VnodeCount,
    width: usize,
}

impl Site {
    /// The site that these members make, each vnode with `width` replicas.
    pub(super) fn new(members: &[Member], vnodes: VnodeCount, width: usize) -> Self {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by_key(|member| member.node);
        let mut by_rack: BTreeMap<&str, Vec<NodeIx>> = BTreeMap::new();
        for (at, member) in (0..).zip(&members) {
            by_rack.entry(&member.rack).or_default().push(at);
        }
        let sizes: Vec<usize> = by_rack.values().map(Vec::len).collect();
        let mut rack_of = vec![0; members.len()];
        let mut racks = Vec::with_capacity(sizes.len());
        for (rack, (members, (min, max))) in
            by_rack.into_values().zip(rack_rule(&sizes, width)).enumerate()
        {
            for &member in &members {
                rack_of[member as usize] = rack;
            }
            racks.push(Rack { members, min, max });
        }
        Self {
            ids: members.iter().map(|member| member.node).collect(),
            capacity: members.iter().map(|m| u64::from(m.capacity.thousandths())).collect(),
            rack_of,
            owed: racks.iter().map(|rack| rack.min).sum(),
            racks,
            vnodes,
            width,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeIx> + use<> {
        (0..).take(self.ids.len())
    }

    pub(super) fn id_of(&self, node: NodeIx) -> NodeId {
        self.ids[node as usize]
    }

    pub(super) fn capacity(&self, node: NodeIx) -> u64 {
        self.capacity[node as usize]
    }

    pub(super) fn rack_of(&self, node: NodeIx) -> usize {
        self.rack_of[node as usize]
    }

    pub(super) fn racks(&self) -> &[Rack] {
        &self.racks
    }

    pub(super) fn vnodes(&self) -> usize {
        self.vnodes.get() as usize
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Who holds a vacant place: the number after the last node's.
    pub(super) fn nobody(&self) -> NodeIx {
        NodeIx::try_from(self.ids.len()).unwrap_or(NodeIx::MAX)
    }

    /// How many nodes of a rack are in a list.
    pub(super) fn count(&self, row: &[NodeIx], rack: usize) -> usize {
        let of_rack = |&&node: &&NodeIx| self.rack_of.get(node as usize) == Some(&rack);
        row.iter().filter(of_rack).count()
    }

    /// How many places of a list are taken, or owed to racks that have fewer than they need.
    ///
    /// INVARIANT: a list can be completed by the rack rule if and only if this is at most the
    /// width, and no rack has more than its most.
    pub(super) fn places_spoken_for(&self, row: &[NodeIx]) -> usize {
        let mut places = self.owed;
        for (at, &node) in row.iter().enumerate().filter(|&(_, &node)| node < self.nobody()) {
            let rack = self.rack_of(node);
            // Of what the rack has up to here, all beyond its least comes on top.
            places += usize::from(self.count(&row[..=at], rack) > self.racks[rack].min);
        }
        places
    }

    /// Whether the rack rule lets a node of `rack` have the place of `giver`, who is in the list.
    pub(super) fn may_pass_to_rack(&self, row: &[NodeIx], giver: NodeIx, rack: usize) -> bool {
        let gives = (giver < self.nobody()).then(|| self.rack_of(giver));
        if gives == Some(rack) {
            return true;
        }
        let has = self.count(row, rack);
        let rule = &self.racks[rack];
        let beyond_least = |rack: usize| self.count(row, rack) > self.racks[rack].min;
        let freed = usize::from(gives.is_some_and(beyond_least));
        let taken = usize::from(has >= rule.min);
        has < rule.max && self.places_spoken_for(row) + taken <= self.width + freed
    }

    /// Whether `taker` may have the place of `giver`, who is in the list.
    pub(super) fn may_pass(&self, row: &[NodeIx], giver: NodeIx, taker: NodeIx) -> bool {
        !row.contains(&taker) && self.may_pass_to_rack(row, giver, self.rack_of(taker))
    }

    /// A layout's lists in this site's numbers. Nodes that are no members any more are left out, so
    /// the lists differ in length.
    pub(super) fn rows_of(&self, layout: &Layout) -> Vec<Vec<NodeIx>> {
        let index = |id: &NodeId| {
            let at = self.ids.binary_search(id).ok()?;
            NodeIx::try_from(at).ok()
        };
        layout.lists().map(|(_, list)| list.iter().filter_map(index).collect()).collect()
    }

    /// How many vnodes each node should hold. Where two nodes have the same claim to one vnode more,
    /// the one that held more of them before gets it.
    pub(super) fn fair_loads(&self, before: Option<&[u64]>) -> Vec<u64> {
        let held = |node: NodeIx| before.map_or(0, |loads| loads[node as usize]);
        let claim = |node: NodeIx, load: u64| Claim {
            load,
            capacity: self.capacity(node),
            would_grow: load >= held(node),
            node,
        };
        let most = self.vnodes() as u64;
        let mut loads = vec![0; self.len()];
        let mut rack_left = Vec::with_capacity(self.racks.len());
        let mut taken = 0;
        // What a rack must have is given out inside it first; the rest among all.
        for rack in &self.racks {
            let owed = most * rack.min as u64;
            let mut claims: BinaryHeap<_> =
                rack.members.iter().map(|&node| Reverse(claim(node, 0))).collect();
            for _ in 0..owed {
                grant(&mut claims, &mut loads, most, &claim);
            }
            taken += owed;
            rack_left.push(most * (rack.max - rack.min) as u64);
        }
        let mut claims: BinaryHeap<_> = self
            .nodes()
            .filter(|&node| loads[node as usize] < most)
            .map(|node| Reverse(claim(node, loads[node as usize])))
            .collect();
        while taken < most * self.width as u64 {
            let Some(Reverse(first)) = claims.peek() else { break };
            let rack = self.rack_of(first.node);
            if rack_left[rack] == 0 {
                claims.pop();
                continue;
            }
            rack_left[rack] -= 1;
            taken += 1;
            grant(&mut claims, &mut loads, most, &claim);
        }
        loads
    }
}

/// Gives one vnode to the node with the best claim; it claims again unless it then has `most`.
fn grant(
    claims: &mut BinaryHeap<Reverse<Claim>>,
    loads: &mut [u64],
    most: u64,
    claim: &impl Fn(NodeIx, u64) -> Claim,
) {
    let Some(Reverse(Claim { node, load, .. })) = claims.pop() else { return };
    loads[node as usize] = load + 1;
    if load + 1 < most {
        claims.push(Reverse(claim(node, load + 1)));
    }
}

/// A node's claim to one vnode more: the smaller, the better.
#[derive(Debug)]
struct Claim {
    load: u64,
    capacity: u64,
    would_grow: bool,
    node: NodeIx,
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> Ordering {
        // By how much Σ load² / capacity would rise.
        let mine = (2 * self.load + 1) * other.capacity;
        let theirs = (2 * other.load + 1) * self.capacity;
        mine.cmp(&theirs)
            .then(self.would_grow.cmp(&other.would_grow))
            .then(self.node.cmp(&other.node))
    }
}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Claim {}

/// For each rack the fewest and the most replicas of one vnode that it takes, so that `width` of
/// them are spread as evenly as the racks' sizes allow.
///
/// The level is the lowest at which the racks together hold `width`, each up to the level or its
/// size. A rack takes one below the level at least, and the level at most.
fn rack_rule(sizes: &[usize], width: usize) -> Vec<(usize, usize)> {
    let room = |level: usize| -> usize { sizes.iter().map(|&size| size.min(level)).sum() };
    let level = (0..=width).find(|&level| room(level) >= width).unwrap_or(width);
    sizes.iter().map(|&size| (size.min(level.saturating_sub(1)), size.min(level))).collect()
}

#[cfg(test)]
mod tests {
    use super::rack_rule;

    #[test]
    fn racks_are_filled_like_water() {
        // Enough racks: none or one each.
        assert_eq!(rack_rule(&[3, 3, 3], 3), [(0, 1); 3]);
        assert_eq!(rack_rule(&[1, 9, 2, 4], 3), [(0, 1); 4]);
        // Fewer racks than replicas.
        assert_eq!(rack_rule(&[3, 3], 3), [(1, 2); 2]);
        assert_eq!(rack_rule(&[5], 3), [(2, 3)]);
        // A small rack is full before the others take more.
        assert_eq!(rack_rule(&[1, 5], 4), [(1, 1), (2, 3)]);
        assert_eq!(rack_rule(&[1, 1, 5, 5], 5), [(1, 1), (1, 1), (1, 2), (1, 2)]);
        // All nodes.
        assert_eq!(rack_rule(&[2, 1], 3), [(1, 2), (1, 1)]);
        assert_eq!(rack_rule(&[2, 1], 0), [(0, 0), (0, 0)]);
        assert_eq!(rack_rule(&[], 0), []);
    }
}
