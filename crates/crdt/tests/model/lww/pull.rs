//! A pull between two replicas (rule 7), page by page, so that anything may happen between its
//! steps, also between the reading of a page and its join.

use meridian_crdt::{Row, VnodeClock};

use super::mutations::Mutation;
use super::replica::Replica;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Ended,
}

pub(crate) struct Pull {
    pub(crate) to: usize,
    from: usize,
    lives: (u32, u32),
    /// The peer's clock at the start of the scan.
    snapshot: VnodeClock,
    full: bool,
    /// Whether the peer was not rebuilding then.
    from_sound: bool,
    next: usize,
    /// A row that was read and is under way, and the clock of its instant.
    page: Option<(Row, VnodeClock)>,
}

impl Pull {
    pub(crate) fn begin(to: &mut Replica, from: &mut Replica) -> Self {
        let full = to.is_rebuilding();
        if full {
            from.meet_rebuilding(to.index);
            // Whatever the peer counted on was promised below its own stamps.
            to.follow(from.hlc);
        }
        Self {
            to: to.index,
            from: from.index,
            lives: (to.life, from.life),
            snapshot: from.live.clock.clone(),
            full,
            from_sound: !from.is_rebuilding(),
            next: 0,
            page: None,
        }
    }

    /// What a row that the pull has gone by stands for: all that the peer had seen of it.
    pub(crate) fn passed(&self, key: usize, life: u32) -> Option<&VnodeClock> {
        let passed = self.full && key < self.next && life == self.lives.0;
        passed.then_some(&self.snapshot)
    }

    /// The row that it comes to next.
    pub(crate) fn next_key(&self) -> usize {
        self.next
    }

    pub(crate) fn has_entry(&self, is: impl Fn(&Row) -> bool) -> bool {
        self.page.as_ref().is_some_and(|(row, _)| is(row))
    }

    pub(crate) fn step(
        &mut self,
        replicas: &mut [Replica],
        peers: usize,
        passed: &VnodeClock,
    ) -> Progress {
        let [to, from] = replicas
            .get_disjoint_mut([self.to, self.from])
            .expect("a replica does not pull from itself");
        if self.lives != (to.life, from.life) {
            return Progress::Ended;
        }
        if let Some((row, clock)) = self.page.take() {
            let sweeps = self.full && !to.breaks(Mutation::SweepWithoutCoverage);
            let covered = if sweeps { clock } else { VnodeClock::default() };
            to.join(self.next, &row, &covered, passed);
            self.next += 1;
            return Progress::More;
        }
        let Some(row) = from.live.rows.get(self.next) else {
            to.end_pull(self.from, &self.snapshot, self.from_sound, peers);
            return Progress::Ended;
        };
        if self.full || row.is_news_to(&to.live.clock) {
            self.page = Some((row.clone(), from.live.clock.clone()));
        } else {
            self.next += 1;
        }
        Progress::More
    }
}
