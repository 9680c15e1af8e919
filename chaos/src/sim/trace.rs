//! What happened, as a hash of all of it and the last lines in full.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{Micros, Owner};

/// Lines that are kept: enough to see what led to a failure, at 48 bytes each.
const KEPT_LINES: usize = 20_000;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Micros,
    /// To whom.
    pub owner: Owner,
    /// What, as a word.
    pub what: &'static str,
    /// What else tells it from others: a hash of a message, a number.
    pub detail: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at: Micros(at), owner, what, detail } = self;
        write!(f, "{:>6}.{:06} {owner} {what} {detail:016x}", at / 1_000_000, at % 1_000_000)
    }
}

/// The trace of one run. Two runs that did the same have the same hash.
pub struct Trace {
    hash: Xxh3,
    noted: u64,
    kept: VecDeque<Line>,
    all: Option<Box<dyn Write + Send>>,
    failed: Option<io::Error>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: Xxh3::new(), noted: 0, kept: VecDeque::new(), all: None, failed: None }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("noted", &self.noted).finish_non_exhaustive()
    }
}

impl Trace {
    /// A trace that also writes every line to `all`.
    #[must_use]
    pub fn writing_to(all: Box<dyn Write + Send>) -> Self {
        Self { all: Some(all), ..Self::default() }
    }

    /// Notes what happened.
    pub fn note(&mut self, line: Line) {
        let (kind, id, life) = line.owner.parts();
        self.hash.update(&line.at.0.to_le_bytes());
        self.hash.update(&[kind]);
        self.hash.update(&id.to_le_bytes());
        self.hash.update(&life.to_le_bytes());
        // No word holds a zero, so lines that differ hash different bytes.
        self.hash.update(line.what.as_bytes());
        self.hash.update(&[0]);
        self.hash.update(&line.detail.to_le_bytes());
        self.noted += 1;
        if self.kept.len() == KEPT_LINES {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
        if let Some(all) = &mut self.all
            && let Err(why) = writeln!(all, "{line}")
        {
            self.all = None;
            self.failed = Some(why);
        }
    }

    /// Notes a message that was sent or received.
    pub fn note_message(&mut self, at: Micros, owner: Owner, what: &'static str, message: &[u8]) {
        self.note(Line { at, owner, what, detail: xxh3_64(message) });
    }

    /// The hash of all lines.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// How many lines were noted.
    #[must_use]
    pub fn noted(&self) -> u64 {
        self.noted
    }

    /// The last lines.
    pub fn last(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.kept.iter()
    }

    /// Ends the writing of lines.
    ///
    /// # Errors
    /// A line was not written; nor was any after it. The hash and the last lines are whole.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(why) = self.failed.take() {
            return Err(why);
        }
        self.all.take().map_or(Ok(()), |mut all| all.flush())
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::NodeId;

    use super::*;

    fn line(at: u64) -> Line {
        let owner = Owner::Node { id: NodeId(3), life: 1 };
        Line { at: Micros(at), owner, what: "sent", detail: 0xff }
    }

    fn hash_of(line: Line) -> u64 {
        let mut trace = Trace::default();
        trace.note(line);
        trace.hash()
    }

    #[test]
    fn every_part_of_a_line_counts() {
        let same = line(1_500_000);
        let other_owner = Owner::Node { id: NodeId(3), life: 2 };
        let others = [
            Line { at: Micros(1), ..same },
            Line { owner: other_owner, ..same },
            Line { owner: Owner::Client(3), ..same },
            Line { what: "lost", ..same },
            Line { detail: 0, ..same },
        ];
        assert_eq!(hash_of(same), hash_of(same));
        for other in others {
            assert_ne!(hash_of(same), hash_of(other), "{other}");
        }
        assert_eq!(same.to_string(), "     1.500000 node 3 life 1 sent 00000000000000ff");
    }

    #[test]
    fn the_last_lines_are_kept() {
        let mut trace = Trace::default();
        let noted = KEPT_LINES as u64 + 5;
        for at in 0..noted {
            trace.note(line(at));
        }
        assert_eq!(trace.noted(), noted);
        assert_eq!(trace.last().count(), KEPT_LINES);
        assert_eq!(trace.last().next(), Some(&line(5)));
        assert_eq!(trace.last().next_back(), Some(&line(noted - 1)));
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_trace_that_cannot_be_written_says_so_and_goes_on() {
        let mut trace = Trace::writing_to(Box::new(Full));
        trace.note(line(1));
        trace.note(line(2));
        assert_eq!(trace.finish().map_err(|e| e.kind()), Err(io::ErrorKind::StorageFull));
        assert_eq!(trace.noted(), 2);
        assert!(trace.finish().is_ok());
    }
}
