//! What layouts are measured against, computed from the datacenter alone, by other means than the
//! code under test.

use std::collections::{BTreeMap, BTreeSet};

use meridian_types::NodeId;

use crate::layout::{Layout, Member, effective_replicas};
use crate::ring::VnodeCount;

/// How many vnodes have the node at one of these positions.
pub(super) fn load(layout: &Layout, node: NodeId, positions: std::ops::Range<usize>) -> usize {
    layout.lists().filter(|(_, list)| list[positions.clone()].contains(&node)).count()
}

pub(super) fn loads(layout: &Layout, members: &[Member]) -> Vec<usize> {
    members.iter().map(|m| load(layout, m.node, 0..layout.width())).collect()
}

/// The sizes of the racks, by name.
pub(super) fn rack_sizes(members: &[Member]) -> BTreeMap<&str, usize> {
    let mut sizes = BTreeMap::new();
    for member in members {
        *sizes.entry(member.rack.as_str()).or_insert(0) += 1;
    }
    sizes
}

/// How many replicas the racks of one vnode have, most first, when they are dealt out one by one,
/// always to a rack that has fewest and has room.
pub(super) fn dealt(members: &[Member], width: usize) -> Vec<usize> {
    let sizes: Vec<usize> = rack_sizes(members).into_values().collect();
    let mut dealt = vec![0; sizes.len()];
    for _ in 0..width {
        let open = (0..sizes.len()).filter(|&rack| dealt[rack] < sizes[rack]);
        let rack = open.min_by_key(|&rack| dealt[rack]).unwrap();
        dealt[rack] += 1;
    }
    dealt.sort_by(|a, b| b.cmp(a));
    dealt
}

/// The least that the largest load per capacity can be, and the most that the smallest can be, for
/// loads that are no whole numbers, under the rack rule: found by bisection.
pub(super) struct Feasible {
    pub(super) largest: f64,
    pub(super) smallest: f64,
}

pub(super) fn feasible(members: &[Member], vnodes: VnodeCount, width: usize) -> Feasible {
    let vnodes = f64::from(vnodes.get());
    let level = dealt(members, width).first().copied().unwrap_or(0);
    let capacity = |m: &Member| f64::from(m.capacity.thousandths());
    // For each rack: its members' capacities, and how many vnodes it holds at least and at most.
    let racks: Vec<(Vec<f64>, f64, f64)> = rack_sizes(members)
        .into_iter()
        .map(|(rack, size)| {
            let inside = members.iter().filter(|m| m.rack == rack).map(capacity).collect();
            let (min, max) = (size.min(level.saturating_sub(1)), size.min(level));
            (inside, min as f64 * vnodes, max as f64 * vnodes)
        })
        .collect();
    let wanted = vnodes * width as f64;
    let slack = 1e-6;
    // Enough room when nobody has more than `ratio` per capacity.
    let enough = |ratio: f64| {
        let room = |caps: &[f64]| caps.iter().map(|c| (ratio * c).min(vnodes)).sum::<f64>();
        racks.iter().all(|(caps, min, _)| room(caps) >= min - slack)
            && racks.iter().map(|(caps, _, max)| room(caps).min(*max)).sum::<f64>()
                >= wanted - slack
    };
    // Not too much when everybody has at least `ratio` per capacity.
    let bearable = |ratio: f64| {
        let floor = |caps: &[f64]| caps.iter().map(|c| ratio * c).sum::<f64>();
        racks.iter().all(|(caps, _, max)| {
            floor(caps) <= max + slack && caps.iter().all(|c| ratio * c <= vnodes + slack)
        }) && racks.iter().map(|(caps, min, _)| floor(caps).max(*min)).sum::<f64>()
            <= wanted + slack
    };
    let (mut low, mut high) = (0.0, vnodes);
    let (mut yes, mut no) = (0.0, vnodes);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle
        } else {
            low = middle
        }
        let middle = f64::midpoint(yes, no);
        if bearable(middle) { yes = middle } else { no = middle }
    }
    Feasible { largest: high, smallest: yes }
}

/// Every list: `width` distinct members, on racks as even as they can be.
pub(super) fn assert_spread(layout: &Layout, members: &[Member], replicas: u8) {
    let width = effective_replicas(replicas, members.len());
    let expected = dealt(members, width);
    let racks: BTreeMap<NodeId, &str> = members.iter().map(|m| (m.node, m.rack.as_str())).collect();
    for (vnode, list) in layout.lists() {
        assert_eq!(list.len(), width);
        assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), width, "{vnode}: {list:?}");
        let mut counts: BTreeMap<&str, usize> = rack_sizes(members);
        counts.values_mut().for_each(|count| *count = 0);
        for node in list {
            *counts.get_mut(racks[node]).unwrap() += 1;
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_by(|a, b| b.cmp(a));
        assert_eq!(counts, expected, "{vnode}: {list:?}");
    }
}

/// Loads per capacity within 1.10 of each other; where racks or whole vnodes forbid that, none
/// further from what the racks force than `slack`, a part of it, and what one vnode is worth to the
/// smallest node.
///
/// (Rounded to nearest at a common divisor, a load is half a vnode off, and the divisor is off by
/// what the roundings add up to: half a vnode for each node.)
pub(super) fn assert_balance(layout: &Layout, members: &[Member], slack: f64) {
    let bound = feasible(members, layout.vnode_count(), layout.width());
    let capacity = |m: &Member| f64::from(m.capacity.thousandths());
    let vnode = 1.001 / members.iter().map(capacity).fold(f64::MAX, f64::min);
    let (forced_largest, forced_smallest) =
        (bound.largest * (1.0 + slack) + vnode, bound.smallest * (1.0 - slack) - vnode);
    let loads = loads(layout, members);
    let ratios = || members.iter().zip(&loads).map(|(m, &load)| load as f64 / capacity(m));
    let (largest, smallest) = (ratios().fold(0.0, f64::max), ratios().fold(f64::MAX, f64::min));
    assert!(largest <= forced_largest, "{largest}, forced is {forced_largest}");
    assert!(smallest >= forced_smallest, "{smallest}, forced is {forced_smallest}");
    let forced =
        if forced_smallest > 0.0 { forced_largest / forced_smallest } else { f64::INFINITY };
    assert!(largest / smallest <= forced.max(1.10), "{largest} / {smallest}, forced is {forced}");
}

/// No position can be shared out more fairly by letting nodes change places inside lists: checked on
/// the closure of "could take over from".
pub(super) fn assert_order(layout: &Layout, members: &[Member]) {
    let at = |id: &NodeId| members.iter().position(|m| m.node == *id).unwrap();
    let capacity = |node: usize| u64::from(members[node].capacity.thousandths());
    for position in 0..layout.width().saturating_sub(1) {
        let n = members.len();
        let mut count = vec![0u64; n];
        let mut reaches = vec![vec![false; n]; n];
        for (_, list) in layout.lists() {
            let first = at(&list[position]);
            count[first] += 1;
            list[position + 1..].iter().for_each(|other| reaches[first][at(other)] = true);
        }
        for via in 0..n {
            for from in 0..n {
                if reaches[from][via] {
                    let beyond = reaches[via].clone();
                    reaches[from].iter_mut().zip(beyond).for_each(|(to, also)| *to |= also);
                }
            }
        }
        for from in 0..n {
            for to in (0..n).filter(|&to| reaches[from][to] && to != from) {
                let gain = (2 * count[from]).saturating_sub(1) * capacity(to);
                let price = (2 * count[to] + 1) * capacity(from);
                assert!(gain <= price, "position {position}: {from} could give to {to}");
            }
        }
    }
}

/// How far loads may be from the fair ones after a change, to spare movement.
pub(super) const SLACK: f64 = 0.03;

pub(super) fn assert_sound(layout: &Layout, members: &[Member], replicas: u8, slack: f64) {
    assert_spread(layout, members, replicas);
    assert_balance(layout, members, slack);
    assert_order(layout, members);
}

/// What a change to these loads must move at least: what nodes have more of than before.
pub(super) fn least_movement(previous: &Layout, layout: &Layout, members: &[Member]) -> usize {
    let before = loads(previous, members);
    let after = loads(layout, members);
    before.iter().zip(after).map(|(&b, a)| a.saturating_sub(b)).sum()
}

/// Whether no layout with the same loads, on racks as even, moves less: whether no round of
/// exchanges, each of one node for another in one list, has more replicas return to where they were
/// than leave it (no negative cycle is left in the flow).
pub(super) fn moves_least(previous: &Layout, layout: &Layout, members: &[Member]) -> bool {
    let n = members.len();
    let at = |id: &NodeId| members.iter().position(|m| m.node == *id).unwrap();
    let racks: Vec<&str> = rack_sizes(members).into_keys().collect();
    let rack = |node: usize| racks.binary_search(&members[node].rack.as_str()).unwrap();
    let rack: Vec<usize> = (0..n).map(rack).collect();
    let sizes: Vec<usize> = rack_sizes(members).into_values().collect();
    let expected = dealt(members, layout.width());
    let even = |counts: &[usize]| {
        let mut sorted = counts.to_vec();
        sorted.sort_by(|a, b| b.cmp(a));
        sorted == expected && counts.iter().zip(&sizes).all(|(count, size)| count <= size)
    };
    let far = i64::from(i32::MAX);
    let mut cost = vec![vec![far; n]; n];
    for (vnode, list) in layout.lists() {
        let before = previous.replicas(vnode);
        let row: Vec<usize> = list.iter().map(at).collect();
        let mut counts = vec![0; racks.len()];
        row.iter().for_each(|&node| counts[rack[node]] += 1);
        for &giver in &row {
            let allowed: Vec<bool> = (0..racks.len())
                .map(|gains| {
                    let mut counts = counts.clone();
                    counts[rack[giver]] -= 1;
                    counts[gains] += 1;
                    even(&counts)
                })
                .collect();
            for taker in (0..n).filter(|taker| allowed[rack[*taker]] && !row.contains(taker)) {
                let new = |node: usize| i64::from(!before.contains(&members[node].node));
                cost[giver][taker] = cost[giver][taker].min(new(taker) - new(giver));
            }
        }
    }
    for via in 0..n {
        for from in 0..n {
            let beyond = cost[via].clone();
            let so_far = cost[from][via];
            cost[from].iter_mut().zip(beyond).for_each(|(to, rest)| *to = (*to).min(so_far + rest));
        }
    }
    (0..n).all(|node| cost[node][node] >= 0)
}

/// Whether the rack rule keeps loads from following the capacities, or nearly so: some rack's share
/// by capacity is within a fifth of the most or the least that it may hold.
fn racks_are_tight(members: &[Member], vnodes: VnodeCount, width: usize) -> bool {
    let level = dealt(members, width).first().copied().unwrap_or(0);
    let all: f64 = members.iter().map(|m| f64::from(m.capacity.thousandths())).sum();
    let bound = feasible(members, vnodes, width);
    bound.largest > bound.smallest * 1.000_1
        || rack_sizes(members).into_iter().any(|(rack, size)| {
            let inside = members.iter().filter(|m| m.rack == rack);
            let share = inside.map(|m| f64::from(m.capacity.thousandths())).sum::<f64>() / all;
            // In replicas of one vnode, on average.
            let replicas = share * width as f64;
            let (min, max) = (size.min(level.saturating_sub(1)), size.min(level));
            replicas > 0.8 * max as f64 || min > 0 && replicas < 1.2 * min as f64
        })
}

/// A change moves at most 1.25 times what it must. Where racks are tight, more may be forced: then
/// no layout with these loads moves less.
pub(super) fn assert_moves_little(
    (previous, before): (&Layout, &[Member]),
    (layout, after): (&Layout, &[Member]),
    share: usize,
) {
    let moved = layout.gained_since(previous);
    let least = least_movement(previous, layout, after).max(share);
    if moved * 4 > least * 5 {
        let vnodes = layout.vnode_count();
        assert!(
            racks_are_tight(before, vnodes, previous.width())
                || racks_are_tight(after, vnodes, layout.width()),
            "moved {moved} of {least}, and racks are not tight"
        );
        assert!(moves_least(previous, layout, after), "moved {moved} of {least}, could be less");
        assert!(moved * 2 <= least * 3, "moved {moved} of {least}");
    }
}
