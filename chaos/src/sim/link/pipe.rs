//! What is under way on one stream.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::{Draw, Micros};
use super::{LinkTiming, Way};

/// The time of what is held by a cut.
const NEVER: Micros = Micros(u64::MAX);

#[derive(Clone, Debug)]
pub(super) enum Item {
    /// The first ping: tells the target that it was accepted in turn.
    Proof,
    Message(Bytes),
    /// The dialer closed the stream.
    End,
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.len(),
            Self::Proof | Self::End => 0,
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// When it leaves the queue.
    leaves: Micros,
    arrives: Micros,
    item: Item,
}

/// A line of items, by arrival.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    entries: VecDeque<Entry>,
    /// Until when the stream is busy with what was given to it.
    busy: Micros,
    /// When the last of those in order arrives.
    last: Micros,
    stalled: bool,
    /// Those that may not have left the queue: when they do, and their bytes.
    queued: VecDeque<(Micros, usize)>,
    queued_bytes: usize,
    planned: Option<Micros>,
    /// Of the planned arrival; others are outdated.
    pub(super) number: u32,
    /// Messages that chance made late, lost or double.
    pub(super) disturbed: u64,
}

impl Pipe {
    /// Whether the queue has no room for a message.
    pub(super) fn is_full(&mut self, now: Micros, bytes: usize, timing: &LinkTiming) -> bool {
        while let Some(&(leaves, bytes)) = self.queued.front() {
            if leaves > now {
                break;
            }
            self.queued.pop_front();
            self.queued_bytes -= bytes;
        }
        let full = self.queued.len() >= timing.queue_messages
            || self.queued_bytes.saturating_add(bytes) > timing.queue_bytes;
        full && !self.queued.is_empty()
    }

    /// Takes an item.
    pub(super) fn push(&mut self, now: Micros, item: Item, on: &On<'_>, draw: &mut Draw) {
        let bytes = item.bytes();
        let (leaves, arrives) =
            if self.stalled { (NEVER, NEVER) } else { self.pass(now, bytes, on, draw) };
        if leaves > now {
            self.queued.push_back((leaves, bytes));
            self.queued_bytes += bytes;
        }
        self.insert(Entry { leaves, arrives, item });
    }

    /// Takes a message that may be lost, doubled or late; false where it is lost.
    pub(super) fn push_datagram(
        &mut self,
        now: Micros,
        message: Bytes,
        on: &On<'_>,
        draw: &mut Draw,
    ) -> bool {
        let odds = on.way.datagrams;
        if draw.chance(odds.lost_ppm) {
            self.disturbed += 1;
            return false;
        }
        let doubled = draw.chance(odds.doubled_ppm);
        self.disturbed += u64::from(doubled);
        let copies = 1 + usize::from(doubled);
        for _ in 0..copies {
            if draw.chance(odds.late_ppm) && !self.stalled {
                let late = Micros(draw.between(1, odds.late_by.0.max(1)));
                let arrives = now + on.way.delay(draw).0 + late;
                self.disturbed += 1;
                let entry = Entry { leaves: now, arrives, item: Item::Message(message.clone()) };
                self.insert(entry);
            } else {
                self.push(now, Item::Message(message.clone()), on, draw);
            }
        }
        true
    }

    fn insert(&mut self, entry: Entry) {
        let at = self.entries.partition_point(|before| before.arrives <= entry.arrives);
        // The proof that the stream lives stays ahead of all messages.
        let proof = self.entries.front().is_some_and(|first| matches!(first.item, Item::Proof));
        self.entries.insert(at.max(usize::from(proof)), entry);
    }

    /// When something of `bytes` leaves the queue, and arrives.
    fn pass(
        &mut self,
        now: Micros,
        bytes: usize,
        on: &On<'_>,
        draw: &mut Draw,
    ) -> (Micros, Micros) {
        let leaves = self.busy.max(now);
        self.busy = leaves + on.takes(bytes);
        // Only what arrives late without holding up others is behind `last`.
        let (delay, met_a_loss) = on.way.delay(draw);
        self.disturbed += u64::from(met_a_loss);
        self.last = self.last.max(self.busy + delay);
        (leaves, self.last)
    }

    /// The way is cut: what has not arrived is held.
    pub(super) fn stall(&mut self, now: Micros) {
        self.stalled = true;
        for entry in self.entries.iter_mut().filter(|entry| entry.arrives > now) {
            entry.arrives = NEVER;
            if entry.leaves > now {
                entry.leaves = NEVER;
            }
        }
        for queued in self.queued.iter_mut().filter(|(leaves, _)| *leaves > now) {
            queued.0 = NEVER;
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// The way is open again: what was held sets out now.
    pub(super) fn resume(&mut self, now: Micros, on: &On<'_>, draw: &mut Draw) {
        self.stalled = false;
        self.busy = now;
        self.queued.clear();
        self.queued_bytes = 0;
        let arrived = self.entries.partition_point(|entry| entry.arrives <= now);
        for entry in self.entries.split_off(arrived) {
            self.push(now, entry.item, on, draw);
        }
    }

    /// The dialer closes: what waits in its queue is lost, of what is under way a suffix may be.
    /// Returns how many messages are lost.
    pub(super) fn close(&mut self, now: Micros, on: &On<'_>, draw: &mut Draw) -> u64 {
        let arrived = self.entries.iter().take_while(|entry| entry.arrives <= now).count();
        let left = self.entries.iter().take_while(|entry| entry.leaves <= now).count();
        let kept = arrived + draw.index(left.saturating_sub(arrived) + 1);
        let lost = messages(self.entries.drain(kept..));
        self.forget_queue();
        self.last = self.entries.back().map_or(now, |entry| entry.arrives);
        let ends = self.last.max(now + on.way.latency);
        let arrives = if self.stalled { NEVER } else { ends };
        self.entries.push_back(Entry { leaves: now, arrives, item: Item::End });
        lost
    }

    /// The dialer's machine stops: what it had not sent is lost, and nothing says so.
    pub(super) fn abandon(&mut self, now: Micros) -> u64 {
        let left = self.entries.iter().take_while(|entry| entry.leaves <= now).count();
        self.forget_queue();
        messages(self.entries.drain(left..))
    }

    /// Nothing is under way any more. Returns how many messages are lost.
    pub(super) fn clear(&mut self) -> u64 {
        self.stalled = false;
        self.busy = Micros::ZERO;
        self.last = Micros::ZERO;
        self.forget_queue();
        messages(self.entries.drain(..))
    }

    fn forget_queue(&mut self) {
        self.queued.clear();
        self.queued_bytes = 0;
    }

    /// Takes what has arrived first.
    pub(super) fn arrived(&mut self, now: Micros) -> Option<Item> {
        self.planned = None;
        let first = self.entries.front()?;
        if first.arrives > now {
            return None;
        }
        self.entries.pop_front().map(|entry| entry.item)
    }

    /// The next arrival, where it is not what was planned last.
    pub(super) fn plan(&mut self) -> Option<Micros> {
        let next = self.entries.front().map(|entry| entry.arrives).filter(|at| *at != NEVER);
        if next == self.planned {
            return None;
        }
        self.planned = next;
        self.number = self.number.wrapping_add(1);
        next
    }
}

fn messages(lost: impl Iterator<Item = Entry>) -> u64 {
    lost.filter(|entry| matches!(entry.item, Item::Message(_))).count() as u64
}

/// What a pipe lies on.
#[derive(Debug)]
pub(super) struct On<'a> {
    /// The way to the target.
    pub(super) way: &'a Way,
    /// The latency there and back.
    pub(super) round_trip: Micros,
    /// Bytes in a round trip.
    pub(super) window: u64,
}

impl On<'_> {
    /// How long the stream is busy with some bytes.
    fn takes(&self, bytes: usize) -> Micros {
        let bytes = bytes as u128;
        let by_rate = (bytes * 1_000_000).checked_div(self.way.bytes_per_second.into());
        let by_window = bytes * u128::from(self.round_trip.0) / u128::from(self.window.max(1));
        Micros(u64::try_from(by_rate.unwrap_or(0).max(by_window)).unwrap_or(u64::MAX))
    }
}
