//! What everybody should see, from everything that was written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use meridian_crdt::{Context, Delta, Dot, Entry, Row};
use meridian_types::Millis;

use super::history::History;
use super::replica::Replica;

struct Write {
    key: usize,
    marker: bool,
    context: Context,
}

/// All that was written, and what was promised.
#[derive(Default)]
pub(crate) struct Oracle {
    written: BTreeMap<Dot, Write>,
    acknowledged: Vec<(usize, Dot)>,
    /// Writes that only one replica durably knew when its tables were lost.
    fragile: BTreeSet<Dot>,
}

/// A broken promise; the letter is the model's name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Rule 3.
    MintedTwice { dot: Dot },
    /// B: a quorum read saw neither an acknowledged quorum write nor what covers it.
    AcknowledgedWriteUnseen { dot: Dot },
    /// C: two sound replicas with equal clocks show different rows.
    EqualClocksDiffer { replicas: (usize, usize), key: usize },
    /// A and D: after everything has arrived, a replica does not show the oracle's siblings.
    WrongSiblings { replica: usize, key: usize, shown: Vec<Dot>, wanted: Vec<Dot> },
    /// L: with damaged replicas, a live value is gone.
    Lost { replica: usize, key: usize, dots: Vec<Dot> },
    /// D: with damaged replicas, a value is back that somebody else durably knew as overwritten.
    CameBack { replica: usize, key: usize, dot: Dot },
    /// A: with damaged replicas, they do not agree in the end.
    Disagree { replicas: (usize, usize), key: usize },
    /// A row's context outlived a clock without gaps.
    ContextLeft { replica: usize, key: usize },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

fn shown(row: &Row) -> Vec<Dot> {
    row.visible(Millis(0)).map(|entry| entry.dot).collect()
}

/// The visible entries with their values, without allocating: two replicas are compared after
/// every step.
fn visible(row: &Row) -> impl Iterator<Item = &Entry> {
    row.visible(Millis(0))
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

    pub(crate) fn acknowledge(&mut self, dot: Dot) {
        self.acknowledged.push((self.written[&dot].key, dot));
    }

    /// To be called before replica `at` loses tables.
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

    /// B.
    pub(crate) fn check_majority_read(
        &self,
        key: usize,
        row: &Row,
        coverage: &Context,
    ) -> Result<(), Violation> {
        let unseen = self
            .acknowledged
            .iter()
            .find(|(of, dot)| *of == key && row.entry(*dot).is_none() && !coverage.contains(*dot));
        match unseen {
            Some(&(_, dot)) => Err(Violation::AcknowledgedWriteUnseen { dot }),
            None => Ok(()),
        }
    }

    /// C. What only lost tables had known may make the difference, until the verification digests
    /// find it (rule 10): a value that nobody else durably knew as overwritten.
    pub(crate) fn check_equal_clocks(&self, replicas: &[Replica]) -> Result<(), Violation> {
        for (n, a) in replicas.iter().enumerate() {
            for b in &replicas[n + 1..] {
                if a.is_rebuilding() || b.is_rebuilding() || a.clock != b.clock {
                    continue;
                }
                for key in 0..a.rows.len() {
                    if !self.show_the_same(&a.rows[key], &b.rows[key]) {
                        let replicas = (a.index, b.index);
                        return Err(Violation::EqualClocksDiffer { replicas, key });
                    }
                }
            }
        }
        Ok(())
    }

    fn show_the_same(&self, a: &Row, b: &Row) -> bool {
        let excused = |entry: &&Entry, other: &Row| {
            other.entry(entry.dot).is_some() || self.only_lost_tables_knew_it_overwritten(entry.dot)
        };
        visible(a).eq(visible(b))
            || visible(a).all(|entry| excused(&entry, b))
                && visible(b).all(|entry| excused(&entry, a))
    }

    fn only_lost_tables_knew_it_overwritten(&self, dot: Dot) -> bool {
        let key = self.written[&dot].key;
        let mut by = self
            .written
            .iter()
            .filter(|(by, write)| **by != dot && write.key == key && write.context.contains(dot))
            .peekable();
        by.peek().is_some() && by.all(|(by, _)| self.fragile.contains(by))
    }

    /// A, D, L and what is left of metadata, after everything has arrived.
    pub(crate) fn check_end(
        &self,
        history: &History,
        replicas: &[Replica],
    ) -> Result<(), Violation> {
        let alive = |dot: Dot| replicas.iter().any(|replica| replica.clock.contains(dot));
        let survived: Vec<(Dot, &Write)> =
            self.written.iter().filter(|(dot, _)| alive(**dot)).map(|(d, w)| (*d, w)).collect();
        for key in 0..history.keys {
            let of_key: Vec<(Dot, &Write)> =
                survived.iter().filter(|(_, write)| write.key == key).copied().collect();
            for replica in replicas {
                if history.damage {
                    self.check_damaged(key, &of_key, replica, &replicas[0])?;
                } else {
                    Self::check_sound(key, &of_key, replica)?;
                }
            }
        }
        let left = |replica: &&Replica| {
            let contiguous = replica.clock.dots().actors().all(|(_, c)| c.base() == c.highest());
            contiguous && replica.rows.iter().any(|row| !row.context().is_empty())
        };
        match replicas.iter().find(left) {
            Some(replica) if !history.crashes => {
                let key = replica.rows.iter().position(|row| !row.context().is_empty());
                Err(Violation::ContextLeft { replica: replica.index, key: key.unwrap_or_default() })
            }
            _ => Ok(()),
        }
    }

    fn check_sound(key: usize, of_key: &[(Dot, &Write)], at: &Replica) -> Result<(), Violation> {
        let (shown, wanted) = (shown(&at.rows[key]), wanted(of_key));
        match shown == wanted {
            true => Ok(()),
            false => Err(Violation::WrongSiblings { replica: at.index, key, shown, wanted }),
        }
    }

    /// Nothing live is lost; what is back was overwritten only by writes that the lost tables
    /// alone had known; and all agree.
    fn check_damaged(
        &self,
        key: usize,
        of_key: &[(Dot, &Write)],
        at: &Replica,
        first: &Replica,
    ) -> Result<(), Violation> {
        let (shown, wanted) = (shown(&at.rows[key]), wanted(of_key));
        let replica = at.index;
        let lost: Vec<Dot> = wanted
            .iter()
            .copied()
            .filter(|dot| !shown.contains(dot) && !self.fragile.contains(dot))
            .collect();
        if !lost.is_empty() {
            return Err(Violation::Lost { replica, key, dots: lost });
        }
        for &dot in shown.iter().filter(|dot| !wanted.contains(dot)) {
            let mut coverers = of_key.iter().filter(|(_, write)| write.context.contains(dot));
            if !coverers.all(|(by, _)| self.fragile.contains(by)) {
                return Err(Violation::CameBack { replica, key, dot });
            }
        }
        if !visible(&at.rows[key]).eq(visible(&first.rows[key])) {
            return Err(Violation::Disagree { replicas: (first.index, replica), key });
        }
        Ok(())
    }
}

/// The values that no surviving write had seen: the siblings.
fn wanted(of_key: &[(Dot, &Write)]) -> Vec<Dot> {
    let covered = |dot: Dot| of_key.iter().any(|(by, w)| *by != dot && w.context.contains(dot));
    let live = of_key.iter().filter(|(dot, write)| !write.marker && !covered(*dot));
    live.map(|(dot, _)| *dot).collect()
}
