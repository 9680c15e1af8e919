//! How long a disk takes.

use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::sim::{Draw, Micros};

/// How long each of a disk's operations takes, in microseconds: anything in the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskTiming {
    /// A sync of the log. Default 200 to 2,000: what solid state disks take, and those with others
    /// beside them.
    pub sync: RangeInclusive<u64>,
    /// A flush or a step of a compaction. Default 1,000 to 10,000.
    pub job: RangeInclusive<u64>,
    /// Any other work that waits for the disk: reads, metadata. Default 50 to 500.
    pub work: RangeInclusive<u64>,
}

impl Default for DiskTiming {
    fn default() -> Self {
        Self { sync: 200..=2_000, job: 1_000..=10_000, work: 50..=500 }
    }
}

/// How long a disk takes, by chance and by how slow it is. Clones are one.
#[derive(Clone, Debug)]
pub struct Pace {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    timing: DiskTiming,
    draw: Draw,
    slowness: u32,
    /// What everything takes besides.
    delay: Micros,
}

impl Pace {
    pub(super) fn new(timing: DiskTiming, draw: Draw) -> Self {
        Self {
            state: Arc::new(Mutex::new(State { timing, draw, slowness: 1, delay: Micros::ZERO })),
        }
    }

    /// Makes everything take so many times as long. 1 is as it was.
    pub fn set_slowness(&self, slowness: u32) {
        self.state.lock().slowness = slowness;
    }

    /// Makes everything take so much longer, besides what does so already.
    pub fn slow_down(&self, by: Micros) {
        let mut state = self.state.lock();
        state.delay = state.delay + by;
    }

    /// Ends what [`Self::slow_down`] began.
    pub fn speed_up(&self, by: Micros) {
        let mut state = self.state.lock();
        state.delay = state.delay - by;
    }

    /// How long the next sync takes.
    #[must_use]
    pub fn sync(&self) -> Micros {
        self.takes(|timing| &timing.sync)
    }

    /// How long the next job takes.
    #[must_use]
    pub fn job(&self) -> Micros {
        self.takes(|timing| &timing.job)
    }

    /// How long the next other work takes.
    #[must_use]
    pub fn work(&self) -> Micros {
        self.takes(|timing| &timing.work)
    }

    fn takes(&self, of: impl FnOnce(&DiskTiming) -> &RangeInclusive<u64>) -> Micros {
        let State { timing, draw, slowness, delay } = &mut *self.state.lock();
        let range = of(timing);
        let micros = draw.between(*range.start(), *range.end());
        Micros(micros.saturating_mul(u64::from(*slowness))) + *delay
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::NodeId;

    use super::*;
    use crate::sim::{Purpose, Streams};

    #[test]
    fn each_takes_what_it_may_and_a_slow_disk_as_many_times_as_long() {
        let draw = || Streams::new(1).draw(Purpose::Disk(NodeId(1)));
        let timing = DiskTiming { sync: 10..=20, job: 30..=40, work: 50..=60 };
        let (pace, slow) = (Pace::new(timing.clone(), draw()), Pace::new(timing, draw()));
        slow.clone().set_slowness(100);
        let all = |pace: &Pace| [pace.sync(), pace.job(), pace.work()];
        for _ in 0..100 {
            let (usual, slow) = (all(&pace), all(&slow));
            assert_eq!(slow, usual.map(|Micros(micros)| Micros(micros * 100)));
            for (Micros(took), least) in usual.into_iter().zip([10, 30, 50]) {
                assert!((least..=least + 10).contains(&took), "{took}");
            }
        }
        slow.set_slowness(1);
        assert_eq!(all(&slow), all(&pace));
        slow.slow_down(Micros(7));
        slow.slow_down(Micros(2));
        assert_eq!(all(&slow), all(&pace).map(|took| took + Micros(9)));
        slow.speed_up(Micros(7));
        slow.speed_up(Micros(2));
        assert_eq!(all(&slow), all(&pace));
    }
}
