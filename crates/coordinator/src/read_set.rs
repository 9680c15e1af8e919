//! Who was asked for a read, who answered, and who can still be asked.

use meridian_types::NodeId;
use smallvec::SmallVec;

use crate::message::ReadKind;
use crate::plan::ReadPlan;
use crate::tally::Tally;

/// The replicas of one read, nearest first.
#[derive(Clone, Debug)]
pub(crate) struct ReadSet {
    pub(crate) readers: SmallVec<[Reader; 9]>,
    /// Counts answers of the kinds that still serve.
    pub(crate) tally: Tally,
    /// The answers differ: digests serve no more.
    data_only: bool,
}

/// One replica that is, or may be, asked.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) node: NodeId,
    /// The datacenter's place in the tally.
    pub(crate) dc: u16,
    pub(crate) state: ReaderState,
    /// Its link went down, or took no message: it is asked for nothing more.
    pub(crate) lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReaderState {
    /// Not asked yet.
    Spare,
    Asked(ReadKind),
    Answered(ReadKind),
    Failed,
}

/// Whom to ask for what.
pub(crate) type Asks = SmallVec<[(NodeId, ReadKind); 4]>;

impl ReadSet {
    /// Asks the plan's contacts: the nearest for data, the others for digests.
    pub(crate) fn start(plan: &ReadPlan, asks: &mut Asks) -> Self {
        let readers = plan.replicas.iter().enumerate().map(|(at, replica)| {
            let kind = if at == 0 { ReadKind::Data } else { ReadKind::Digest };
            let asked = at < plan.contacts;
            if asked {
                asks.push((replica.node, kind));
            }
            let state = if asked { ReaderState::Asked(kind) } else { ReaderState::Spare };
            Reader { node: replica.node, dc: replica.dc, state, lost: false }
        });
        Self { readers: readers.collect(), tally: plan.tally.clone(), data_only: false }
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Reader> {
        self.readers.iter().find(|reader| reader.node == node)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Reader> {
        self.readers.iter_mut().find(|reader| reader.node == node)
    }

    /// An answer of this kind arrived; whether it was asked for.
    pub(crate) fn answered(&mut self, from: NodeId, kind: ReadKind) -> bool {
        let asked = self.asked_for(from) == Some(kind);
        let reader = self.readers.iter_mut().find(|reader| reader.node == from && asked);
        if let Some(reader) = reader {
            reader.state = ReaderState::Answered(kind);
            self.tally.ack(reader.dc.into());
        }
        asked
    }

    /// What a replica was asked for and has not answered.
    pub(crate) fn asked_for(&self, node: NodeId) -> Option<ReadKind> {
        match self.get(node)?.state {
            ReaderState::Asked(kind) => Some(kind),
            _ => None,
        }
    }

    /// A replica that was asked, or may have been, will not answer; whether that is news.
    pub(crate) fn failed(&mut self, node: NodeId) -> bool {
        let Some(reader) = self.readers.iter_mut().find(|reader| reader.node == node) else {
            return false;
        };
        if matches!(reader.state, ReaderState::Answered(_) | ReaderState::Failed) {
            return false;
        }
        reader.state = ReaderState::Failed;
        self.tally.fail(reader.dc.into());
        true
    }

    /// Asks as many spares as are needed besides the answers that came or may come.
    ///
    /// INVARIANT: of the answers that came or may come beyond the level's need, all are data
    /// (see [`Self::hedge`]); so when the last one that was asked for data fails, this asks a
    /// spare for data, or the level is unreachable.
    pub(crate) fn top_up(&mut self, asks: &mut Asks) {
        while let Some(at) = self.useful_spare(true) {
            let data_coming = self.has(ReaderState::Answered(ReadKind::Data))
                || self.has(ReaderState::Asked(ReadKind::Data));
            let kind =
                if data_coming && !self.data_only { ReadKind::Digest } else { ReadKind::Data };
            self.ask(at, kind, asks);
        }
    }

    /// Asks one spare that would help if those who are silent stay so.
    pub(crate) fn hedge(&mut self, asks: &mut Asks) {
        let Some(at) = self.useful_spare(false) else { return };
        let has_data = self.has(ReaderState::Answered(ReadKind::Data));
        let kind = if has_data && !self.data_only { ReadKind::Digest } else { ReadKind::Data };
        self.ask(at, kind, asks);
    }

    /// A replica is out of reach. What it answered before stands.
    pub(crate) fn lost(&mut self, node: NodeId) -> bool {
        if let Some(reader) = self.get_mut(node) {
            reader.lost = true;
        }
        self.failed(node)
    }

    /// The answers differ: asks everybody who answered with a digest for the data, or a spare
    /// where that one is out of reach by now. Digests count no more.
    pub(crate) fn ask_for_data(&mut self, asks: &mut Asks) {
        self.data_only = true;
        for reader in &mut self.readers {
            if reader.state != ReaderState::Answered(ReadKind::Digest) {
                continue;
            }
            self.tally.retract(reader.dc.into());
            if reader.lost {
                self.tally.fail(reader.dc.into());
                reader.state = ReaderState::Failed;
            } else {
                reader.state = ReaderState::Asked(ReadKind::Data);
                asks.push((reader.node, ReadKind::Data));
            }
        }
        self.top_up(asks);
    }

    /// Asks the nearest spare for the row beyond what the level needs; whether there was one.
    pub(crate) fn ask_another(&mut self, asks: &mut Asks) -> bool {
        let spare = |reader: &Reader| reader.state == ReaderState::Spare && !reader.lost;
        let Some(at) = self.readers.iter().position(spare) else { return false };
        self.ask(at, ReadKind::Data, asks);
        true
    }

    /// Whether anybody who was asked has not answered.
    pub(crate) fn is_waiting(&self) -> bool {
        self.readers.iter().any(|reader| matches!(reader.state, ReaderState::Asked(_)))
    }

    fn has(&self, state: ReaderState) -> bool {
        self.readers.iter().any(|reader| reader.state == state)
    }

    /// The nearest spare in a place where answers are missing. `count_asked`: those that were
    /// asked and are silent count as if they had answered.
    fn useful_spare(&self, count_asked: bool) -> Option<usize> {
        let counts = |reader: &Reader| match reader.state {
            ReaderState::Answered(_) => true,
            ReaderState::Asked(_) => count_asked,
            ReaderState::Spare | ReaderState::Failed => false,
        };
        nearest_useful(&self.readers, &self.tally, counts)
    }

    fn ask(&mut self, at: usize, kind: ReadKind, asks: &mut Asks) {
        self.readers[at].state = ReaderState::Asked(kind);
        asks.push((self.readers[at].node, kind));
    }
}

/// The nearest spare in a place where, of the readers that count, too few are.
pub(crate) fn nearest_useful(
    readers: &[Reader],
    tally: &Tally,
    counts: impl Fn(&Reader) -> bool,
) -> Option<usize> {
    let number = |dc: Option<u16>| {
        let in_place = |reader: &&Reader| dc.is_none_or(|dc| reader.dc == dc);
        readers.iter().filter(in_place).filter(|reader| counts(reader)).count()
    };
    let total_lacks = number(None) < usize::from(tally.total_required());
    readers.iter().position(|reader| {
        let required = tally.dcs()[usize::from(reader.dc)].required;
        reader.state == ReaderState::Spare
            && (total_lacks || number(Some(reader.dc)) < usize::from(required))
    })
}
