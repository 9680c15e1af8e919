//! A pull between two replicas (rule 7), row by row, so that anything may happen between its steps.

use meridian_crdt::VnodeClock;

use super::mutations::Mutation;
use super::rebuild::Standing;
use super::replica::{Reissued, Replica};

#[derive(PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Ended,
}

pub(crate) struct Pull {
    pub(crate) to: usize,
    pub(crate) from: usize,
    lives: (u64, u64),
    /// The peer's clock at the start of the scan, that of its disk, and what it was good for.
    pub(crate) snapshot: VnodeClock,
    pub(crate) durable: VnodeClock,
    pub(super) standing: Standing,
    /// Whether it joins the own rows that the peer does not have; in which round of such pulls.
    full: bool,
    pub(crate) round: u32,
    next: usize,
    joined: usize,
    /// The pull breaks off before it joins more rows than these.
    breaks_after: Option<usize>,
}

impl Pull {
    pub(crate) fn begin(to: &Replica, from: &Replica, breaks_after: Option<usize>) -> Self {
        Self {
            to: to.index,
            from: from.index,
            lives: (to.incarnation, from.incarnation),
            snapshot: from.clock.clone(),
            durable: from.durable.clock.clone(),
            standing: from.standing(),
            full: to.is_rebuilding() && !to.breaks(Mutation::PullOnlyNews),
            round: to.round(),
            next: 0,
            joined: 0,
            breaks_after,
        }
    }

    /// What a row that the pull has gone by stands for: all that the peer had seen.
    pub(crate) fn passed(&self, to: &Replica, key: usize) -> Option<&VnodeClock> {
        let passes = self.full && self.to == to.index && self.lives.0 == to.incarnation;
        (passes && key < self.next).then_some(&self.snapshot)
    }

    /// The row that it comes to next.
    pub(crate) fn next_key(&self) -> usize {
        self.next
    }

    pub(crate) fn step(
        &mut self,
        replicas: &mut [Replica],
        passed: &VnodeClock,
    ) -> (Progress, Vec<Reissued>) {
        let [to, from] = replicas
            .get_disjoint_mut([self.to, self.from])
            .expect("a replica does not pull from itself");
        if self.lives != (to.incarnation, from.incarnation) {
            return (Progress::Ended, Vec::new());
        }
        if self.next == from.rows.len() {
            return (Progress::Ended, to.end_pull(self));
        }
        let key = self.next;
        let row = from.handed_out(key);
        let is_news = row.is_news_to(&to.clock);
        if is_news && self.breaks_after == Some(self.joined) {
            return (Progress::Ended, Vec::new());
        }
        self.joined += usize::from(is_news);
        self.next += 1;
        // Where neither has anything, nobody comes by.
        if is_news || self.full && to.has_anything(key) {
            to.join_answer(key, &row, &row.full_context(&from.clock), passed);
        }
        (Progress::More, Vec::new())
    }
}
