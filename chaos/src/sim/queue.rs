//! What will happen, in the order in which it will.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Micros;

/// Events by time. Those of one time come in the order in which they were put in, so that nothing
/// depends on how the heap is laid out.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Planned<E>>>,
    next: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Micros,
    number: u64,
    event: E,
}

impl<E> Planned<E> {
    fn key(&self) -> (Micros, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }
}

impl<E> Queue<E> {
    /// Plans an event.
    pub fn push(&mut self, at: Micros, event: E) {
        self.heap.push(Reverse(Planned { at, number: self.next, event }));
        self.next += 1;
    }

    /// When the earliest event happens.
    #[must_use]
    pub fn next_at(&self) -> Option<Micros> {
        self.heap.peek().map(|Reverse(planned)| planned.at)
    }

    /// Takes the earliest event, with its time.
    pub fn pop(&mut self) -> Option<(Micros, E)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.event))
    }

    /// How many events are planned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing will happen any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn events_come_by_time_and_then_as_they_were_planned(
            times in proptest::collection::vec(0_u64..20, 0..200),
        ) {
            let mut queue = Queue::default();
            for (number, at) in times.iter().enumerate() {
                queue.push(Micros(*at), number);
            }
            let mut expected: Vec<_> = times.iter().copied().zip(0_usize..).collect();
            expected.sort_unstable();
            prop_assert_eq!(queue.len(), expected.len());
            prop_assert_eq!(queue.next_at().map(|at| at.0), expected.first().map(|e| e.0));
            let mut found = Vec::new();
            while let Some((at, number)) = queue.pop() {
                found.push((at.0, number));
            }
            prop_assert_eq!(found, expected);
            prop_assert!(queue.is_empty());
        }
    }
}
