//! The order inside the lists, so that each position is shared out by capacity.
//!
//! The first of a list mints most dots and answers most reads; at a quorum the second answers too.
//! For each position in turn, vnodes where two nodes could change places are shifted along paths
//! until `Σ count² / capacity` cannot fall any further, which is then the least that these lists
//! allow (no negative cycle is left in a convex-cost flow; Harvey, Ladner, Lovász and Tamir 2003,
//! "Semi-matchings for bipartite graphs", cost-reducing paths). No data moves by it.

use super::fair::{NodeIx, Site};

/// Reorders the lists.
pub(super) fn balance(site: &Site, rows: &mut [NodeIx]) {
    for position in 0..site.width().saturating_sub(1) {
        let mut shares = Shares::new(site, rows, position);
        // A round without a shift is the proof that there is nothing left to gain.
        while shares.improve() {}
    }
}

/// Who is at one position of how many lists, and who could be.
struct Shares<'a> {
    site: &'a Site,
    rows: &'a mut [NodeIx],
    position: usize,
    /// The vnodes where each node is at the position.
    held: Vec<Vec<usize>>,
    /// For each pair, in how many vnodes the first is at the position and the second behind it.
    behind: Vec<u32>,
}

impl<'a> Shares<'a> {
    fn new(site: &'a Site, rows: &'a mut [NodeIx], position: usize) -> Self {
        let nodes = site.len();
        let mut held = vec![Vec::new(); nodes];
        let mut behind = vec![0; nodes * nodes];
        for (vnode, row) in rows.chunks_exact(site.width()).enumerate() {
            let first = row[position] as usize;
            held[first].push(vnode);
            for &other in &row[position + 1..] {
                behind[first * nodes + other as usize] += 1;
            }
        }
        Self { site, rows, position, held, behind }
    }

    fn count(&self, node: NodeIx) -> u64 {
        self.held[node as usize].len() as u64
    }

    /// Whether `Σ count² / capacity` falls if `giver` has one less and `taker` one more.
    fn improves(&self, giver: NodeIx, taker: NodeIx) -> bool {
        let gain = (2 * self.count(giver)).saturating_sub(1) * self.site.capacity(taker);
        let price = (2 * self.count(taker) + 1) * self.site.capacity(giver);
        gain > price
    }

    /// One round over all nodes, the most laden first, each giving away what it fairly can. Whether
    /// any did.
    fn improve(&mut self) -> bool {
        let mut givers: Vec<NodeIx> = self.site.nodes().collect();
        givers.sort_by(|&a, &b| {
            let a_load = self.count(a) * self.site.capacity(b);
            let b_load = self.count(b) * self.site.capacity(a);
            b_load.cmp(&a_load).then(a.cmp(&b))
        });
        let mut any = false;
        for giver in givers {
            while let Some(path) = self.path_from(giver) {
                any = true;
                for step in path.windows(2) {
                    self.shift(step[0], step[1]);
                }
            }
        }
        any
    }

    /// The shortest chain of nodes from `giver`, each of which can give a vnode's position to the
    /// next, that makes the shares fairer; of the shortest the one to the least laden.
    fn path_from(&self, giver: NodeIx) -> Option<Vec<NodeIx>> {
        let nodes = self.site.len();
        // Mostly nobody at all is so much less laden, and the search is spared.
        let least = self.site.nodes().min_by(|&a, &b| self.compare_after(a, b))?;
        if !self.improves(giver, least) {
            return None;
        }
        let unseen = self.site.nobody();
        let mut from = vec![unseen; nodes];
        from[giver as usize] = giver;
        let mut level = vec![giver];
        while !level.is_empty() {
            let mut next = Vec::new();
            for &node in &level {
                let row = &self.behind[node as usize * nodes..][..nodes];
                for (taker, &vnodes) in (0..).zip(row) {
                    if vnodes > 0 && from[taker as usize] == unseen {
                        from[taker as usize] = node;
                        next.push(taker);
                    }
                }
            }
            let better = next.iter().copied().filter(|&taker| self.improves(giver, taker));
            if let Some(taker) = better.min_by(|&a, &b| self.compare_after(a, b)) {
                return Some(trace(&from, giver, taker));
            }
            level = next;
        }
        None
    }

    /// Which of two nodes would be less laden with one more.
    fn compare_after(&self, a: NodeIx, b: NodeIx) -> std::cmp::Ordering {
        let a_load = (2 * self.count(a) + 1) * self.site.capacity(b);
        let b_load = (2 * self.count(b) + 1) * self.site.capacity(a);
        a_load.cmp(&b_load).then(a.cmp(&b))
    }

    /// Lets two nodes change places in one vnode.
    fn shift(&mut self, giver: NodeIx, taker: NodeIx) {
        let (nodes, width) = (self.site.len(), self.site.width());
        let behind = |rows: &[NodeIx], vnode: usize| {
            let tail = &rows[vnode * width + self.position + 1..(vnode + 1) * width];
            tail.iter().position(|&node| node == taker)
        };
        let found = self.held[giver as usize]
            .iter()
            .enumerate()
            .find_map(|(at, &vnode)| Some((at, vnode, behind(self.rows, vnode)?)));
        debug_assert!(found.is_some(), "a path is made of possible shifts");
        let Some((at, vnode, place)) = found else { return };
        self.held[giver as usize].swap_remove(at);
        self.held[taker as usize].push(vnode);
        let tail = &mut self.rows[vnode * width + self.position..(vnode + 1) * width];
        for &other in &tail[1..] {
            self.behind[giver as usize * nodes + other as usize] -= 1;
        }
        tail.swap(0, place + 1);
        for &other in &tail[1..] {
            self.behind[taker as usize * nodes + other as usize] += 1;
        }
    }
}

fn trace(from: &[NodeIx], first: NodeIx, last: NodeIx) -> Vec<NodeIx> {
    let mut path = vec![last];
    let mut node = last;
    while node != first {
        node = from[node as usize];
        path.push(node);
    }
    path.reverse();
    path
}
