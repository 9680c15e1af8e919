//! Many seeds at once: one thread each, as many threads as asked for.
//!
//! A simulated world is one thread and shares nothing with another one, so seeds need no agreement
//! but on who takes the next.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::run::Seeds;

/// Runs `run` for every seed on `jobs` threads and tells `each` what came of it, on this thread, in
/// the order in which they end. `each` may stop it: seeds that have begun are then finished and not
/// told.
///
/// # Panics
/// Where `run` does: a seed that makes it panic is a finding, and hiding it would be none.
pub fn run_seeds<T: Send>(
    seeds: Seeds,
    jobs: NonZeroUsize,
    run: impl Fn(u64) -> T + Sync,
    mut each: impl FnMut(u64, T) -> ControlFlow<()>,
) {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = |done: mpsc::Sender<(u64, T)>| {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= seeds.count() {
                return;
            }
            let seed = seeds.first + at;
            if done.send((seed, run(seed))).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        let (done, ended) = mpsc::channel();
        for _ in 0..jobs.get() {
            let done = done.clone();
            scope.spawn(|| work(done));
        }
        drop(done);
        for (seed, outcome) in ended {
            if each(seed, outcome).is_break() {
                stop.store(true, Ordering::Relaxed);
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

    #[test]
    fn every_seed_is_run_once() {
        let mut ran = Vec::new();
        run_seeds(
            Seeds { first: 5, last: 104 },
            JOBS,
            |seed| seed * 2,
            |seed, twice| {
                assert_eq!(twice, seed * 2);
                ran.push(seed);
                ControlFlow::Continue(())
            },
        );
        ran.sort_unstable();
        assert_eq!(ran, (5..=104).collect::<Vec<_>>());
    }

    #[test]
    fn it_stops_when_told_so() {
        let runs = AtomicU64::new(0);
        let mut told = 0;
        let count = |_| runs.fetch_add(1, Ordering::Relaxed);
        run_seeds(Seeds { first: 0, last: u64::MAX - 1 }, JOBS, count, |_, _| {
            told += 1;
            if told == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(told, 10);
        assert!(runs.load(Ordering::Relaxed) >= 10);
    }

    #[test]
    fn the_last_seed_that_there_is_does_not_overflow() {
        let mut ran = Vec::new();
        let seeds = Seeds { first: u64::MAX, last: u64::MAX };
        run_seeds(
            seeds,
            JOBS,
            |seed| seed,
            |seed, _| {
                ran.push(seed);
                ControlFlow::Continue(())
            },
        );
        assert_eq!(ran, [u64::MAX]);
    }
}
