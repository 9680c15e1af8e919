//! What everybody should see, from everything that was written and everything that was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use meridian_crdt::{Context, Delta, Dot, Entry, Row};

use super::history::Loss;
use super::replica::{Reissued, Replica};

struct Write {
    key: usize,
    marker: bool,
    context: Context,
}

struct Acknowledged {
    dot: Dot,
    key: usize,
    by: BTreeSet<usize>,
    /// Those of `by` that lost it since, at whatever time.
    lost: BTreeSet<usize>,
}

/// All that was written, what was promised, and what can be promised no more.
#[derive(Default)]
pub(crate) struct Oracle {
    written: BTreeMap<Dot, Write>,
    acknowledged: Vec<Acknowledged>,
    /// Writes that only one replica durably knew when it lost something.
    fragile: BTreeSet<Dot>,
    /// Values that a damaged replica found, by replica.
    found: BTreeMap<usize, BTreeSet<(usize, Dot)>>,
    /// Loose entries that were written anew, and who has done so since it last lost anything.
    reissued: BTreeMap<Dot, BTreeSet<usize>>,
    /// Nobody is left who did not lose anything, or has met somebody who did not.
    nobody_left: bool,
}

/// A broken promise; the letter is the model's name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Rule 3.
    MintedTwice { dot: Dot },
    /// B: a read saw neither an acknowledged write nor what covers it.
    AcknowledgedWriteUnseen { dot: Dot },
    /// C: two replicas with equal clocks show different rows.
    EqualClocksDiffer { replicas: (usize, usize), key: usize },
    /// A: after everything has arrived, a replica does not show the oracle's siblings.
    WrongSiblings { replica: usize, key: usize, shown: Vec<Dot>, wanted: Vec<Dot> },
    /// L: a value that a damaged replica had found is gone.
    FoundAndLost { replica: usize, dot: Dot },
    /// D: a value was written anew that another replica durably had when it was lost.
    CameBack { replica: usize, dot: Dot },
    /// A replica wrote the same value anew a second time.
    WrittenAnewTwice { replica: usize, dot: Dot },
    /// A read was answered although nobody had accepted that all replicas lost something.
    AnsweredUnaccepted,
    /// A replica does not answer after it has met all others.
    StillSilent { replica: usize },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Not `Row::visible`: that shows equal bytes once, and a value that two damaged replicas wrote
/// anew is two writes.
fn live(row: &Row) -> impl Iterator<Item = &Entry> {
    row.entries().iter().filter(|entry| entry.value.is_some())
}

impl Oracle {
    pub(crate) fn writes(&self) -> usize {
        self.written.len()
    }

    pub(crate) fn record(&mut self, key: usize, delta: &Delta) -> Result<(), Violation> {
        let dot = delta.entry.dot;
        let marker = delta.entry.value.is_none();
        let write = Write { key, marker, context: delta.context.clone() };
        match self.written.insert(dot, write) {
            None => Ok(()),
            Some(_) => Err(Violation::MintedTwice { dot }),
        }
    }

    pub(crate) fn acknowledge(&mut self, key: usize, dot: Dot, by: BTreeSet<usize>) {
        self.acknowledged.push(Acknowledged { dot, key, by, lost: BTreeSet::new() });
    }

    /// To be called before replica `at` loses more than its tail.
    pub(crate) fn note_fragile(&mut self, at: usize, replicas: &[Replica]) {
        let elsewhere = |dot: Dot| {
            replicas.iter().any(|peer| peer.index != at && peer.durable.clock.contains(dot))
        };
        let only_here = self
            .written
            .keys()
            .filter(|dot| replicas[at].clock.contains(**dot) && !elsewhere(**dot));
        self.fragile.extend(only_here);
    }

    /// To be called after a replica lost something.
    pub(crate) fn note_lost(&mut self, what: Loss, replica: &Replica) {
        for write in &mut self.acknowledged {
            if write.by.contains(&replica.index) && !replica.coverage(write.key).contains(write.dot)
            {
                write.lost.insert(replica.index);
            }
        }
        if what != Loss::Tail {
            self.reissued.values_mut().for_each(|by| _ = by.remove(&replica.index));
            let values = |(key, entries): (usize, &Vec<Entry>)| {
                let values = entries.iter().filter(|entry| entry.value.is_some());
                values.map(|entry| (key, entry.dot)).collect::<Vec<_>>()
            };
            let found = replica.loose.iter().enumerate().flat_map(values).collect();
            self.found.insert(replica.index, found);
        }
    }

    /// To be called after that as well.
    pub(crate) fn note_left(&mut self, replicas: &[Replica]) {
        let all = |is: fn(&Replica) -> bool| replicas.iter().all(is);
        self.nobody_left |= all(|replica| replica.is_stuck() && !replica.is_fresh());
        // Whoever lost all looks as if there had never been anything.
        self.nobody_left &= !all(Replica::is_fresh);
    }

    /// What the operator accepted is lost.
    pub(crate) fn note_accepted(&mut self, replica: &Replica) {
        self.nobody_left = false;
        for write in &mut self.acknowledged {
            if !replica.coverage(write.key).contains(write.dot) {
                write.lost.extend(&write.by);
            }
        }
    }

    /// D.
    pub(crate) fn reissue(&mut self, at: usize, reissued: &Reissued) -> Result<(), Violation> {
        self.record(reissued.key, &reissued.delta)?;
        if !self.reissued.entry(reissued.of).or_default().insert(at) {
            return Err(Violation::WrittenAnewTwice { replica: at, dot: reissued.of });
        }
        match self.fragile.contains(&reissued.of) {
            true => Ok(()),
            false => Err(Violation::CameBack { replica: at, dot: reissued.of }),
        }
    }

    /// B.
    pub(crate) fn check_read(
        &self,
        (key, count, replicas): (usize, usize, usize),
        row: &Row,
        coverage: &Context,
    ) -> Result<(), Violation> {
        if self.nobody_left {
            return Err(Violation::AnsweredUnaccepted);
        }
        let unseen = self.acknowledged.iter().find(|write| {
            write.key == key
                && write.by.len() + count > replicas
                && write.lost != write.by
                && row.entry(write.dot).is_none()
                && !coverage.contains(write.dot)
        });
        match unseen {
            Some(write) => Err(Violation::AcknowledgedWriteUnseen { dot: write.dot }),
            None => Ok(()),
        }
    }

    /// C: of replicas that do not rebuild.
    pub(crate) fn check_equal_clocks(replicas: &[Replica]) -> Result<(), Violation> {
        let sound = || replicas.iter().filter(|replica| !replica.is_rebuilding());
        for (n, a) in sound().enumerate() {
            for b in sound().skip(n + 1).filter(|b| a.clock == b.clock) {
                for key in 0..a.rows.len() {
                    if !live(&a.rows[key]).eq(live(&b.rows[key])) {
                        let replicas = (a.index, b.index);
                        return Err(Violation::EqualClocksDiffer { replicas, key });
                    }
                }
            }
        }
        Ok(())
    }

    /// A, L, and that all replicas answer, after everything has arrived.
    pub(crate) fn check_end(&self, replicas: &[Replica]) -> Result<(), Violation> {
        let survived = |dot: Dot| replicas.iter().any(|replica| replica.clock.contains(dot));
        let survivors: Vec<(Dot, &Write)> =
            self.written.iter().filter(|(dot, _)| survived(**dot)).map(|(d, w)| (*d, w)).collect();
        for replica in replicas {
            let index = replica.index;
            if replica.level() < replicas.len() || replica.loose.iter().any(|l| !l.is_empty()) {
                return Err(Violation::StillSilent { replica: index });
            }
            for key in 0..replica.rows.len() {
                let shown: Vec<Dot> = live(&replica.rows[key]).map(|entry| entry.dot).collect();
                let wanted = wanted(key, &survivors);
                if shown != wanted {
                    return Err(Violation::WrongSiblings { replica: index, key, shown, wanted });
                }
            }
        }
        let covered = |key: usize, dot: Dot| {
            survivors.iter().any(|(_, write)| write.key == key && write.context.contains(dot))
        };
        for (&replica, found) in &self.found {
            let gone = found.iter().find(|(key, dot)| {
                !survived(*dot) && !self.reissued.contains_key(dot) && !covered(*key, *dot)
            });
            if let Some(&(_, dot)) = gone {
                return Err(Violation::FoundAndLost { replica, dot });
            }
        }
        Ok(())
    }
}

/// The values that no surviving write had seen: the siblings.
fn wanted(key: usize, survivors: &[(Dot, &Write)]) -> Vec<Dot> {
    let of_key = || survivors.iter().filter(|(_, write)| write.key == key);
    let covered = |dot: Dot| of_key().any(|(by, w)| *by != dot && w.context.contains(dot));
    let live = of_key().filter(|(dot, write)| !write.marker && !covered(*dot));
    live.map(|(dot, _)| *dot).collect()
}
