//! Reading the log back into memtables; and what of it is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use meridian_vfs::Fs;

use super::Recovery;
use crate::batch::decode_op;
use crate::coding::Decoder;
use crate::error::Error;
use crate::key::Seqno;
use crate::options::OnDamage;
use crate::tree::Tree;
use crate::version::state::State;
use crate::wal::format::BatchRecord;
use crate::wal::reader::{Damage, Head, SegmentReader, Sink};
use crate::wal::segment;

/// A part of the log that was durable and cannot be read. The writes between `after` and `before`
/// may be missing, all of them or those that were in memory only; everything else is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// The damaged (or missing) segment. A damaged one is kept, see [`Recovery::set_aside`].
    pub file: PathBuf,
    /// Where the damage begins, in bytes.
    pub from: u64,
    /// Where the log goes on; as `from` where a file is missing.
    pub to: u64,
    /// The last write before the damage; 0 if that is not known.
    pub after: Seqno,
    /// The first write behind the damage; `None` if there is none.
    pub before: Option<Seqno>,
    /// What was found.
    pub what: String,
}

impl LostRange {
    /// Whether the damage hit no write: the log's own records, or bytes that held nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before == Some(self.after + 1)
    }
}

impl std::fmt::Display for LostRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, from, to, after, before, what } = self;
        write!(f, "{} lost bytes {from} to {to} ({what}): writes after {after}", file.display())?;
        match before {
            Some(before) => write!(f, " and before {before}"),
            None => write!(f, " to the end"),
        }
    }
}

/// The log as found: where it ends and which segment comes next.
pub(super) struct LogEnd {
    pub(super) next_segment: u64,
    pub(super) previous_len: u64,
    pub(super) last: Seqno,
}

/// Replays every segment that the manifest still needs.
pub(super) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    state: &State,
    trees: &BTreeMap<String, Tree>,
    on_damage: OnDamage,
    recovery: &mut Recovery,
) -> Result<LogEnd, Error> {
    let by_id: BTreeMap<u32, &Tree> = trees.values().map(|tree| (tree.id(), tree)).collect();
    let mut target = Replay { state, trees: by_id, last: None, segment: 0, on_damage, recovery };
    let (readers, mut end) = target.open_segments(fs, dir)?;
    for at in 0..readers.len() {
        let (id, reader) = &readers[at];
        let next = readers.get(at + 1).filter(|(next, _)| *next == id + 1);
        let claimed = match next.map(|(_, next)| next.head()) {
            Some(Head::Sound(header)) => Some(header.previous_len),
            _ => None,
        };
        target.missing_before(dir, at.checked_sub(1).map(|before| readers[before].0), *id)?;
        target.segment = *id;
        let last = at + 1 == readers.len();
        if reader.head() == Head::Absent && !last {
            let (path, what) = (reader.path(), "the segment's header is damaged");
            target.damaged(Damage { path, from: 0, to: reader.used(), what })?;
        }
        let found = reader.replay(claimed, &mut target)?;
        end.next_segment = id + 1;
        end.previous_len = found.valid;
        target.recovery.torn_tail_bytes = found.torn;
        target.recovery.clean_shutdown = found.closed && found.torn == 0;
        target.recovery.torn_file = (found.torn > 0).then(|| reader.path().to_path_buf());
    }
    end.last = end.last.max(target.last.unwrap_or(0));
    if let Some((segment, bytes)) = state.closed
        && (end.next_segment, end.previous_len) != (segment + 1, bytes)
    {
        let path = segment::path(dir, segment);
        if end.next_segment == segment + 1 {
            let from = end.previous_len;
            let what = format!("the log ended at {bytes} when the database was closed");
            target.damaged(Damage { path: &path, from, to: bytes.max(from), what: &what })?;
        } else {
            target.missing(&path)?;
        }
        target.recovery.torn_tail_bytes = 0;
        target.recovery.torn_file = None;
        end.next_segment = end.next_segment.max(segment + 1);
    }
    if !target.recovery.lost.is_empty() {
        target.recovery.clean_shutdown = false;
        // Tables may hold writes that the log lost: none of their numbers is given out again.
        end.last = end.last.max(highest(state));
    }
    if let Some((_, last)) = readers.last() {
        // A killed process leaves bytes that only the operating system has; from now on the log
        // vouches for them.
        last.sync()?;
    }
    Ok(end)
}

/// The highest seqno that the manifest knows of.
fn highest(state: &State) -> Seqno {
    let of_tree = |tree: &crate::version::state::TreeState| {
        tree.tables.values().map(|table| table.max_seqno).max().unwrap_or(0).max(tree.flushed)
    };
    state.trees.values().map(of_tree).max().unwrap_or(0).max(state.last_seqno)
}

/// Where replayed batches go.
struct Replay<'a> {
    state: &'a State,
    trees: BTreeMap<u32, &'a Tree>,
    last: Option<Seqno>,
    segment: u64,
    on_damage: OnDamage,
    recovery: &'a mut Recovery,
}

impl Replay<'_> {
    /// The segments from the manifest's floor on.
    fn open_segments(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
    ) -> Result<(Vec<(u64, SegmentReader)>, LogEnd), Error> {
        let floor = self.state.wal_floor;
        let ids: BTreeSet<u64> =
            segment::list(fs, dir)?.into_iter().filter(|id| *id >= floor).collect();
        let mut readers: Vec<(u64, SegmentReader)> = Vec::new();
        for id in ids {
            readers.push((id, SegmentReader::open(fs, dir, id)?));
        }
        let mut end =
            LogEnd { next_segment: floor.max(1), previous_len: 0, last: self.state.last_seqno };
        if readers.last().is_some_and(|last| last.1.head() == Head::Absent)
            && let Some((id, never_begun)) = readers.pop()
        {
            if id == floor {
                let (path, what) = (never_begun.path(), "the segment's header is damaged");
                self.damaged(Damage { path, from: 0, to: never_begun.used(), what })?;
                end.next_segment = id + 1;
            }
        } else if readers.is_empty() && floor > 0 {
            self.missing(&segment::path(dir, floor))?;
            end.next_segment = floor + 1;
        }
        Ok((readers, end))
    }

    /// Notes the segments that should stand between two, or before the first.
    fn missing_before(&mut self, dir: &Path, before: Option<u64>, id: u64) -> Result<(), Error> {
        let first = before.map_or(self.state.wal_floor.max(1), |before| before + 1);
        // One is enough to say: the range of writes is that of all of them.
        if first < id { self.missing(&segment::path(dir, first)) } else { Ok(()) }
    }

    fn missing(&mut self, path: &Path) -> Result<(), Error> {
        let what = "the segment is missing and the log needs it";
        self.damaged(Damage { path, from: 0, to: 0, what })
    }

    /// Checks that a batch follows the one before it, or that what is between them is known to be
    /// lost.
    fn follows(&mut self, path: &Path, first: Seqno, offset: u64) -> Result<(), Error> {
        let follows = match self.last {
            Some(last) => first == last + 1,
            None => first >= 1 && first <= self.state.last_seqno + 1,
        };
        let backwards = first == 0 || self.last.is_some_and(|last| first <= last);
        if !follows && !backwards && self.on_damage != OnDamage::Refuse {
            let open_end = self.recovery.lost.iter().any(|lost| lost.before.is_none());
            if !open_end {
                let what = "the writes before are missing";
                self.damaged(Damage { path, from: offset, to: offset, what })?;
            }
        } else if !follows {
            let what = format!("batch {first} does not follow {:?}", self.last);
            return Err(Error::corruption(path, offset, what));
        }
        for lost in self.recovery.lost.iter_mut().filter(|lost| lost.before.is_none()) {
            lost.before = Some(first);
        }
        Ok(())
    }
}

impl Sink for Replay<'_> {
    fn batch(&mut self, path: &Path, batch: BatchRecord<'_>, offset: u64) -> Result<(), Error> {
        let corrupt = |what: String| Error::corruption(path, offset, what);
        if batch.count == 0 {
            return Err(corrupt("a batch holds nothing".to_owned()));
        }
        self.follows(path, batch.first, offset)?;
        let mut decoder = Decoder::new(batch.ops);
        for at in 0..u64::from(batch.count) {
            let op = decode_op(&mut decoder)
                .map_err(|_malformed| corrupt("an operation cannot be decoded".to_owned()))?;
            let seqno = batch.first + at;
            self.last = Some(seqno);
            let Some(tree) = self.trees.get(&op.tree) else {
                if op.tree < self.state.next_tree {
                    continue;
                }
                return Err(corrupt(format!("tree {} was never created", op.tree)));
            };
            if self.state.trees.get(&op.tree).is_some_and(|known| seqno <= known.flushed) {
                continue;
            }
            let active = &tree.view().active;
            active.note_segment(self.segment);
            active.insert(op.key, seqno, op.kind, op.value);
            self.recovery.replayed_operations += 1;
        }
        if !decoder.is_empty() {
            return Err(corrupt("a batch is longer than its operations".to_owned()));
        }
        self.recovery.replayed_batches += 1;
        Ok(())
    }

    fn damaged(&mut self, damage: Damage<'_>) -> Result<(), Error> {
        let Damage { path, from, to, what } = damage;
        if self.on_damage == OnDamage::Refuse {
            return Err(Error::corruption(path, from, what));
        }
        let (after, what) = (self.last.unwrap_or(0), what.to_owned());
        let lost = LostRange { file: path.to_path_buf(), from, to, after, before: None, what };
        self.recovery.lost.push(lost);
        Ok(())
    }
}
