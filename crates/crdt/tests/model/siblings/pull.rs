//! A pull between two replicas (rule 7), row by row, so that anything may happen between its steps.

use meridian_crdt::{Row, VnodeClock};

use super::mutations::Mutation;
use super::replica::Replica;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Ended,
}

pub(crate) struct Pull {
    to: usize,
    from: usize,
    lives: (u32, u32),
    /// The peer's clock at the start of the scan.
    snapshot: VnodeClock,
    /// With the rule left out: the peer's rows as they were when the pull began.
    torn: Option<Vec<Row>>,
    full: bool,
    next: usize,
    joined: usize,
    /// The pull breaks off before it joins more rows than these.
    breaks_after: Option<usize>,
    /// With the rule left out: rows beyond these are passed over, and the clock is joined.
    joins_at_most: usize,
}

impl Pull {
    /// Begins, unless the peer serves nobody because it is rebuilding.
    pub(crate) fn begin(to: &Replica, from: &Replica, breaks_after: Option<usize>) -> Option<Self> {
        if from.is_rebuilding() && !to.breaks(Mutation::ServeWhileRebuilding) {
            return None;
        }
        let news = from.rows.iter().filter(|row| row.is_news_to(&to.clock)).count();
        Some(Self {
            to: to.index,
            from: from.index,
            lives: (to.life, from.life),
            snapshot: from.clock.clone(),
            torn: to.breaks(Mutation::TearAnswers).then(|| from.rows.clone()),
            full: to.is_rebuilding() && !to.breaks(Mutation::RebuildWithoutFullPull),
            next: 0,
            joined: 0,
            breaks_after,
            joins_at_most: match to.breaks(Mutation::JoinClockOfHalfPull) {
                true => news / 2,
                false => usize::MAX,
            },
        })
    }

    pub(crate) fn step(&mut self, replicas: &mut [Replica]) -> Progress {
        let [to, from] = replicas
            .get_disjoint_mut([self.to, self.from])
            .expect("a replica does not pull from itself");
        if self.lives != (to.life, from.life) {
            return Progress::Ended;
        }
        if self.next == from.rows.len() {
            let snapshot = match to.breaks(Mutation::JoinClockOfTheEnd) {
                true => &from.clock,
                false => &self.snapshot,
            };
            to.end_pull(snapshot, from.index, from.provable_clock().clone());
            return Progress::Ended;
        }
        let key = self.next;
        self.next += 1;
        let row = &self.torn.as_ref().unwrap_or(&from.rows)[key];
        let news = row.is_news_to(&to.clock);
        if news && self.breaks_after == Some(self.joined) {
            return Progress::Ended;
        }
        if news {
            self.joined += 1;
        }
        let wanted = news && self.joined <= self.joins_at_most;
        if wanted || self.full && !news && !to.rows[key].is_empty() {
            to.join_answer(key, row, &row.full_context(&from.clock));
        }
        Progress::More
    }
}
