//! What is tried, and what has to hold whenever it is.

#![allow(clippy::missing_panics_doc, reason = "a model fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the number of interleavings is the caller's")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meridian_vfs::{CrashChoice, Fault, FaultFs, FaultRule, Fs, MemFs, Op};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread::{self, JoinHandle};

use crate::batch::WriteBatch;
use crate::commit::Commit;
use crate::commit::log::Log;
use crate::commit::visible::Visible;
use crate::error::Error;
use crate::key::Seqno;
use crate::options::SyncPolicy;
use crate::sync::{Condvar, Mutex, atomic_wait};
use crate::wal::format::BatchRecord;
use crate::wal::reader::{Damage, SegmentReader, Sink};
use crate::wal::segment;
use crate::wal::writer::WalWriter;

/// Interleavings of each model, unless `MERIDIAN_LSM_SCHEDULES` says otherwise.
const SCHEDULES: usize = 240;
const DIR: &str = "/wal";
/// Longer than any pause: whoever sleeps so long has to be woken.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn schedules() -> usize {
    let wanted = std::env::var("MERIDIAN_LSM_SCHEDULES").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(SCHEDULES)
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let schedules = schedules();
    let model = Arc::new(move || {
        atomic_wait::forget();
        model();
    });
    let random = model.clone();
    shuttle::check_random(move || random(), schedules / 2);
    // Few changes of threads, at the places that a uniform choice seldom hits.
    shuttle::check_pct(move || model(), schedules / 2, 3);
}

/// For models with pauses: only a fair choice ever lets the others in.
fn check_fairly(model: impl Fn() + Send + Sync + 'static) {
    let schedules = schedules();
    shuttle::check_random(
        move || {
            atomic_wait::forget();
            model();
        },
        schedules,
    );
}

/// A log and the disk below it.
struct World {
    log: Log,
    disk: MemFs,
    faults: FaultFs,
}

impl World {
    fn new(policy: SyncPolicy) -> Arc<Self> {
        let disk = MemFs::new();
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let faults = FaultFs::new(Arc::new(disk.clone()));
        let below: Arc<dyn Fs> = Arc::new(faults.clone());
        let wal = WalWriter::begin(below, Path::new(DIR), 1, 0, 0).unwrap();
        Arc::new(Self { log: Log::new(wal, policy, 1 << 30), disk, faults })
    }

    fn fails(&self, op: Op, nth: u64, sticky: bool, fault: Fault) {
        self.faults.inject(FaultRule { op, path: String::new(), nth, sticky, fault });
    }

    fn push(&self, operations: u32) -> Result<Commit, Error> {
        let mut queue = self.log.queue()?;
        let commit = queue.push(&WriteBatch::new(operations));
        self.log.unlock(queue)?;
        Ok(commit)
    }

    /// Pushes and waits; whatever is told has to be true.
    fn write(&self, operations: u32) -> Result<Commit, Error> {
        let commit = self.push(operations)?;
        self.log.wait(commit.last)?;
        if self.log.policy() == SyncPolicy::Always {
            let left = self.disk.crash_clone(CrashChoice::LoseUnsynced);
            assert!(last_in(&left) >= commit.last, "told what a power cut undoes");
        }
        Ok(commit)
    }

    /// What the WAL thread does, as in `workers`.
    fn run_thread(&self) {
        let log = &self.log;
        while !log.is_stopping() && log.poisoned().is_none() {
            log.sleep_until_work(FOR_EVER);
            let _told = if log.policy() == SyncPolicy::Always {
                log.lead()
            } else {
                log.write_pending().and_then(|()| match log.unsynced() {
                    Some(_) if log.policy() != SyncPolicy::Os => log.sync(),
                    _ => Ok(()),
                })
            };
        }
        let _told = log.thread_ends();
    }

    fn start(self: &Arc<Self>) -> JoinHandle<()> {
        assert!(self.log.thread_starts());
        let world = self.clone();
        thread::spawn(move || world.run_thread())
    }

    fn stop(&self, running: JoinHandle<()>) {
        self.log.ask_thread_to_stop();
        running.join().unwrap();
    }

    /// The seqnos in the log's files: in order and without holes, or it panics.
    fn in_the_log(&self) -> Seqno {
        last_in(&self.disk)
    }
}

fn last_in(disk: &MemFs) -> Seqno {
    let mut last = Last(0);
    for id in segment::list(disk, Path::new(DIR)).unwrap() {
        let reader = SegmentReader::open(disk, Path::new(DIR), id).unwrap();
        reader.replay(None, &mut last).unwrap();
    }
    last.0
}

struct Last(Seqno);

impl Sink for Last {
    fn batch(&mut self, _path: &Path, batch: BatchRecord<'_>, _offset: u64) -> Result<(), Error> {
        assert_eq!(batch.first, self.0 + 1, "out of order");
        self.0 += u64::from(batch.count);
        Ok(())
    }

    fn damaged(&mut self, damage: Damage<'_>) -> Result<(), Error> {
        panic!("{damage:?}");
    }
}

fn spawn_all<T: Send + 'static>(
    world: &Arc<World>,
    threads: u32,
    act: impl Fn(&World, u32) -> T + Send + Clone + 'static,
) -> Vec<JoinHandle<T>> {
    let start = |number| {
        let (world, act) = (world.clone(), act.clone());
        thread::spawn(move || act(&world, number))
    };
    (0..threads).map(start).collect()
}

fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Writers that wait share groups with each other and with the WAL thread; each is told when its
/// own group is durable, and nobody sleeps on.
pub fn groups(writers: u32, writes: u32) {
    check(move || {
        let world = World::new(SyncPolicy::Always);
        let running = world.start();
        join(spawn_all(&world, writers, move |world, number| {
            for _ in 0..writes {
                world.write(1 + number).unwrap();
            }
        }));
        world.stop(running);
        let wanted: u32 = (1..=writers).map(|operations| operations * writes).sum();
        assert_eq!(world.log.durable(), u64::from(wanted));
        assert_eq!(world.in_the_log(), u64::from(wanted));
    });
}

/// Counts, and lets somebody sleep until so many were counted.
#[derive(Default)]
struct Tally {
    count: Mutex<u64>,
    counted: Condvar,
}

impl Tally {
    fn add(&self) {
        *self.count.lock() += 1;
        self.counted.notify_all();
    }

    fn wait_for(&self, wanted: u64) {
        let mut count = self.count.lock();
        while *count < wanted {
            self.counted.wait(&mut count);
        }
        assert_eq!(*count, wanted, "called twice");
    }
}

fn push_with_a_call(world: &World, tally: &Arc<Tally>) {
    let commit = world.push(1).unwrap();
    let tally = tally.clone();
    let told = move |told: Result<(), Error>| {
        told.unwrap();
        tally.add();
    };
    world.log.on_settled(commit.last, Box::new(told));
}

/// Everybody who asked to be called is called once.
pub fn calls(writers: u32) {
    check(move || {
        let world = World::new(SyncPolicy::Always);
        let running = world.start();
        let tally = Arc::new(Tally::default());
        let called = tally.clone();
        let threads = spawn_all(&world, writers, move |world, number| {
            push_with_a_call(world, &called);
            if number == 0 {
                world.write(1).unwrap();
            }
        });
        tally.wait_for(u64::from(writers));
        join(threads);
        world.stop(running);
        tally.wait_for(u64::from(writers));
        assert_eq!(world.in_the_log(), u64::from(writers) + 1);
    });
}

/// The WAL thread comes and goes while writers wait, and one of them for a call.
pub fn thread_starts_and_stops(writers: u32, policy: SyncPolicy) {
    check(move || {
        let world = World::new(policy);
        let tally = Arc::new(Tally::default());
        let called = tally.clone();
        let threads = spawn_all(&world, writers, move |world, _| {
            world.write(1).unwrap();
            push_with_a_call(world, &called);
        });
        for _ in 0..2 {
            let running = world.start();
            thread::yield_now();
            world.stop(running);
        }
        join(threads);
        tally.wait_for(u64::from(writers));
        world.log.sync().unwrap();
        assert_eq!(world.in_the_log(), 2 * u64::from(writers));
    });
}

/// A sync fails: whoever was told that its write is durable was told the truth, everybody else is
/// told of the failure, and nobody sleeps on.
pub fn sync_fails(writers: u32) {
    check(move || {
        let world = World::new(SyncPolicy::Always);
        world.fails(Op::Sync, 2, true, Fault::Error(std::io::ErrorKind::Other));
        let running = world.start();
        let called = Arc::new(AtomicU64::new(0));
        let counted = called.clone();
        let told = join(spawn_all(&world, writers, move |world, number| {
            if number == 0 {
                let Ok(commit) = world.push(1) else { return Some(0) };
                let counted = counted.clone();
                let told = move |_| {
                    counted.fetch_add(1, Ordering::SeqCst);
                };
                world.log.on_settled(commit.last, Box::new(told));
                return None;
            }
            let mut last = 0;
            for _ in 0..2 {
                match world.write(1) {
                    Ok(commit) => last = commit.last,
                    Err(cause) => {
                        assert!(matches!(cause, Error::Poisoned { .. }), "{cause}");
                        break;
                    }
                }
            }
            Some(last)
        }));
        world.stop(running);
        let calls = told.iter().filter(|told| told.is_none()).count();
        assert_eq!(called.load(Ordering::SeqCst), calls as u64);
        let highest = told.into_iter().flatten().max().unwrap_or(0);
        assert!(highest <= world.log.durable(), "told what is not so");
        assert!(world.in_the_log() >= world.log.durable());
    });
}

/// The disk is full for a while: writers are told, and later writes go on where it stopped.
pub fn full_disk(writers: u32) {
    check_fairly(move || {
        let world = World::new(SyncPolicy::Always);
        world.fails(Op::Append, 1, true, Fault::PartialAppend(5));
        let running = world.start();
        let told = join(spawn_all(&world, writers, |world, number| {
            let told = world.write(1);
            if number == 0 {
                world.faults.heal();
            }
            matches!(told, Ok(_) | Err(Error::Full { .. }))
        }));
        assert!(told.into_iter().all(|told| told));
        world.faults.heal();
        // Each refusal comes of an attempt to write; there are no more of them than writers.
        let written = loop {
            match world.write(1) {
                Ok(commit) => break commit,
                Err(cause) => assert!(matches!(cause, Error::Full { .. }), "{cause}"),
            }
            thread::yield_now();
        };
        world.stop(running);
        assert!(world.log.durable() >= written.last);
        assert_eq!(world.in_the_log(), world.log.durable());
    });
}

/// Batches become visible in the order of their seqnos, whoever is first with its insertions.
pub fn visible_in_order(writers: u64) {
    check(move || {
        let visible = Arc::new(Visible::default());
        let inserted: Arc<Vec<AtomicU64>> =
            Arc::new((0..=writers).map(|_| AtomicU64::new(0)).collect());
        let write = |number: u64| {
            let (visible, inserted) = (visible.clone(), inserted.clone());
            thread::spawn(move || {
                inserted[usize::try_from(number).unwrap()].store(1, Ordering::SeqCst);
                visible.publish(number, number, &|| Ok(())).unwrap();
                assert!(visible.get() >= number, "told too early");
            })
        };
        let threads: Vec<_> = (1..=writers).map(write).collect();
        let (seen, there) = (visible.clone(), inserted.clone());
        let reader = thread::spawn(move || {
            let now = usize::try_from(seen.get()).unwrap();
            assert!(there[1..=now].iter().all(|there| there.load(Ordering::SeqCst) == 1), "a hole");
            // Whoever waits helps those who wait: without one, they have to be seen by the writers.
            if writers > 2 {
                seen.wait(writers, &|| Ok(())).unwrap();
            }
        });
        join(threads);
        reader.join().unwrap();
        assert_eq!(visible.get(), writers);
    });
}
