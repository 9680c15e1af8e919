//! What replicas must show, known from all that ever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use meridian_crdt::{Actor, Dot, Entry, Row, VnodeClock};
use meridian_types::{Hlc, Millis};

use super::evidence::SKEW;
use super::replica::{Replica, rank};

type Rank = (Hlc, Dot);

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A replica does not show the winner of all writes that survived.
    WrongWinner { replica: usize, key: usize, shown: Option<Rank>, wanted: Option<Rank> },
    /// Something that was deleted, and whose deletion everybody knew, is shown.
    ComesBack { key: usize, shown: Rank },
    /// Two replicas with equal clocks show different values.
    Differ { replicas: (usize, usize), key: usize },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

pub(crate) struct Oracle {
    written: BTreeMap<Dot, (usize, Entry)>,
    /// By key, the highest rank that was collected: everybody durably knew that all up to it is
    /// gone.
    dead: Vec<Option<Rank>>,
    /// Dots of closed actors that nobody had.
    void: BTreeSet<Dot>,
}

impl Oracle {
    pub(crate) fn new(keys: usize) -> Self {
        Self { written: BTreeMap::new(), dead: vec![None; keys], void: BTreeSet::new() }
    }

    pub(crate) fn written(&mut self, key: usize, entry: &Entry) {
        self.written.insert(entry.dot, (key, entry.clone()));
    }

    pub(crate) fn collected(&mut self, key: usize, entry: &Entry) {
        self.dead[key] = self.dead[key].max(Some(rank(entry)));
    }

    /// The dots of an actor that a clock which all agree on does not have.
    pub(crate) fn close(&mut self, actor: Actor, clock: &VnodeClock) -> Vec<Dot> {
        let of_actor = self.written.keys().filter(|dot| dot.actor == actor);
        let void: Vec<Dot> = of_actor.filter(|dot| !clock.contains(**dot)).copied().collect();
        self.void.extend(&void);
        void
    }

    pub(crate) fn check_read(&self, key: usize, row: &Row, now: u64) -> Result<(), Violation> {
        self.check_shown(key, row.visible(Millis(now)).next().map(rank))
    }

    fn check_shown(&self, key: usize, shown: Option<Rank>) -> Result<(), Violation> {
        match shown {
            Some(shown) if Some(shown) <= self.dead[key] => {
                Err(Violation::ComesBack { key, shown })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_step(&self, replicas: &[Replica], now: u64) -> Result<(), Violation> {
        let sound = || replicas.iter().filter(|replica| !replica.is_rebuilding());
        for key in 0..self.dead.len() {
            for (n, a) in sound().enumerate() {
                self.check_shown(key, a.winner(key, Millis(now)))?;
                for b in sound().skip(n + 1).filter(|b| b.live.clock == a.live.clock) {
                    // Replicas agree on the rows of any moment that may be their own.
                    let times = now.saturating_sub(SKEW)..=now + SKEW;
                    let mut times = times.map(Millis);
                    if times.any(|time| a.winner(key, time) != b.winner(key, time)) {
                        return Err(Violation::Differ { replicas: (a.index, b.index), key });
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn check_end(&self, replicas: &[Replica], now: u64) -> Result<(), Violation> {
        let known = |dot: Dot| replicas.iter().any(|replica| replica.live.clock.contains(dot));
        let alive = |entry: &Entry| !self.void.contains(&entry.dot) && known(entry.dot);
        for key in 0..self.dead.len() {
            let of_key = self.written.values().filter(|(of, _)| *of == key).map(|(_, entry)| entry);
            let winner = of_key.filter(|entry| alive(entry)).max_by_key(|entry| rank(entry));
            let wanted = winner.filter(|entry| entry.is_visible(Millis(now))).map(rank);
            for replica in replicas {
                let shown = replica.winner(key, Millis(now));
                if shown != wanted {
                    let replica = replica.index;
                    return Err(Violation::WrongWinner { replica, key, shown, wanted });
                }
            }
        }
        Ok(())
    }
}
