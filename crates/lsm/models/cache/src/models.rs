//! What is tried, and what has to hold whenever it is.

#![allow(clippy::missing_panics_doc, reason = "a model fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the number of interleavings is the caller's")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shuttle::thread::{self, JoinHandle};

use crate::table::block::{Block, Live};
use crate::table::cache::{BlockCache, CachedValue, Pinned};

/// Interleavings of each model, unless `MERIDIAN_LSM_SCHEDULES` says otherwise.
const SCHEDULES: usize = 240;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let wanted = std::env::var("MERIDIAN_LSM_SCHEDULES").ok().and_then(|text| text.parse().ok());
    let schedules: usize = wanted.unwrap_or(SCHEDULES);
    let model = Arc::new(model);
    let random = model.clone();
    shuttle::check_random(move || random(), schedules / 2);
    // Few changes of threads, at the places that a uniform choice seldom hits.
    shuttle::check_pct(move || model(), schedules / 2, 3);
}

/// How large a cache is, and what is put into it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Bytes that it may have.
    pub bound: u64,
    /// Of eight bytes each, in a block.
    pub words: usize,
    /// Threads.
    pub threads: u64,
    /// Blocks that each of them reads.
    pub reads: u64,
}

/// One shard, of which six blocks are too many.
pub const SMALL: Size = Size { bound: 8 << 10, words: 192, threads: 3, reads: 4 };
/// Several shards.
pub const SHARDED: Size = Size { bound: 512 << 10, words: 4 << 10, threads: 3, reads: 10 };

/// Counts in how many interleavings it came to something: a model in which it never does proves
/// nothing.
#[derive(Clone, Default)]
struct Seen(Arc<AtomicU64>);

impl Seen {
    fn note(&self, there: bool) {
        self.0.fetch_add(u64::from(there), Ordering::Relaxed);
    }

    fn ever(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// A cache and the blocks that are in memory.
struct World {
    cache: Arc<BlockCache>,
    live: Live,
    size: Size,
    /// What the cache counts for an entry beside its bytes.
    overhead: u64,
}

impl World {
    fn new(size: Size) -> Arc<Self> {
        let (cache, live) = (Arc::new(BlockCache::new(size.bound)), Live::default());
        let block = Block::read(0, 0, 2, &live);
        let bytes = block.bytes() as u64;
        cache.insert(0, 0, block);
        let overhead = cache.stats().bytes - bytes;
        assert!(overhead > 0);
        Arc::new(Self { cache, live, size, overhead })
    }

    /// As `Table::block`; and whether it was in the cache.
    fn load(&self, file: u64, offset: u64) -> (Block, bool) {
        let found = self.cache.get(file, offset);
        let was_there = found.is_some();
        let block = found.unwrap_or_else(|| {
            let block = Block::read(file, offset, self.size.words, &self.live);
            self.cache.insert(file, offset, block.clone());
            block
        });
        assert!(block.is_of(file, offset), "the block of another place");
        (block, was_there)
    }

    /// Bytes that blocks may have together.
    fn room(&self) -> u64 {
        let bound = self.size.bound;
        bound.saturating_sub(self.cache.stats().pinned).max(bound / 8)
    }

    /// Nobody is at work, nor holds a block.
    fn is_settled(&self, pinned: u64) {
        let stats = self.cache.stats();
        assert_eq!((stats.pinned, stats.capacity), (pinned, self.size.bound));
        assert!(stats.bytes <= self.room(), "{stats:?}");
        let (blocks, bytes) = self.live.now();
        assert_eq!(bytes + blocks * self.overhead, stats.bytes, "in memory, and not counted");
        // What the cache takes for its room is what is left, to the word.
        let left = self.room() - stats.bytes;
        let scratch = Live::default();
        let probe = |bytes: u64| {
            let words = usize::try_from(bytes / 8).unwrap();
            self.cache.has_room(&Block::read(0, 0, words, &scratch))
        };
        assert!(left < self.overhead || probe(left - self.overhead), "less room than there is");
        assert!(!probe((left + 16).saturating_sub(self.overhead) + 16), "more room than there is");
    }

    /// The cache goes: nothing is left of it.
    fn ends(self: Arc<Self>) {
        let live = self.live.clone();
        let world = Arc::into_inner(self).expect("all threads have ended");
        assert_eq!(Arc::strong_count(&world.cache), 1, "somebody keeps it");
        drop(world);
        assert_eq!(live.now(), (0, 0), "leaked");
    }
}

fn spawn_all<T: Send + 'static>(
    world: &Arc<World>,
    act: impl Fn(&World, u64) -> T + Send + Clone + 'static,
) -> Vec<JoinHandle<T>> {
    let start = |number| {
        let (world, act) = (world.clone(), act.clone());
        thread::spawn(move || act(&world, number))
    };
    (1..=world.size.threads).map(start).collect()
}

fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Threads read blocks of two files at the same offsets, more than there is room for, some of them
/// twice, and keep what they read: everybody has what was asked for, even when it was pushed out.
pub fn reads(size: Size) {
    let (pushed_out, found) = (Seen::default(), Seen::default());
    let (outcomes, hits) = (pushed_out.clone(), found.clone());
    check(move || {
        let world = World::new(size);
        let held = join(spawn_all(&world, |world, number| {
            let offset = |read: u64| (read * 5 + number) % (world.size.reads + 2);
            let read = |at: u64| (1 + at % 2, offset(at));
            let places: Vec<_> = (0..world.size.reads).map(read).collect();
            let load = |&(file, at): &(u64, u64)| ((file, at), world.load(file, at).0);
            places.iter().map(load).collect::<Vec<_>>()
        }));
        let held: Vec<_> = held.into_iter().flatten().collect();
        for ((file, offset), block) in &held {
            assert!(block.is_of(*file, *offset), "what is held changed");
            outcomes.note(world.cache.peek(*file, *offset).is_none());
        }
        let stats = world.cache.stats();
        assert_eq!(stats.hits + stats.misses, size.threads * size.reads, "a read is not counted");
        hits.note(stats.hits > 0);
        drop(held);
        world.is_settled(0);
        world.ends();
    });
    assert!(pushed_out.ever() && found.ever(), "nothing was pushed out, or found");
}

/// Threads read one block at once: they have the same, and it is kept once.
pub fn one_block(threads: u64) {
    let read_twice = Seen::default();
    let outcomes = read_twice.clone();
    check(move || {
        let world = World::new(Size { threads, ..SMALL });
        let before = world.cache.stats().bytes;
        let held = join(spawn_all(&world, |world, _| world.load(7, 4096)));
        let misses = held.iter().filter(|(_, was_there)| !was_there).count() as u64;
        outcomes.note(misses > 1);
        let stats = world.cache.stats();
        assert_eq!((stats.hits, stats.misses), (threads - misses, misses));
        let (kept, was_there) = world.load(7, 4096);
        assert!(was_there, "it was not kept");
        assert_eq!(world.cache.stats().bytes - before, kept.bytes() as u64 + world.overhead);
        drop((held, kept));
        world.is_settled(0);
        world.ends();
    });
    assert!(read_twice.ever(), "no two ever read it");
}

/// Tables are opened, read and dropped while others are: what they pinned is given back, and takes
/// room from the blocks meanwhile, however much it is.
pub fn tables_come_and_go(size: Size) {
    let bound = size.bound;
    check(move || {
        let world = World::new(size);
        let pins = join(spawn_all(&world, move |world, number| {
            // The second ones would fill the cache together.
            let first = world.cache.pin(bound / 16);
            drop(world.load(number, 0));
            let second = world.cache.pin(bound / 2);
            drop(world.load(number, 1));
            assert_eq!((first.bytes(), second.bytes()), (bound / 16, bound / 2));
            // Either is dropped first.
            let kept: Pinned = if number % 2 == 0 { first } else { second };
            drop(world.load(number, 2));
            kept
        }));
        let pinned: u64 = pins.iter().map(Pinned::bytes).sum();
        world.is_settled(pinned);
        drop(pins);
        world.is_settled(0);
        // What the tables left is pushed out by those who are asked for.
        for offset in (0..4).flat_map(|_| 0..2 * size.reads) {
            (0..2).for_each(|_| drop(world.load(99, offset)));
        }
        let mut left = (1..=size.threads).flat_map(|file| [(file, 0), (file, 1), (file, 2)]);
        assert!(left.all(|(file, at)| world.cache.peek(file, at).is_none()), "they stay for ever");
        world.is_settled(0);
        world.ends();
    });
}

/// Parts of indexes and filters ask whether they may stay, and go: they have a quarter together,
/// never more, and all of it is given back.
pub fn what_may_stay(threads: u64) {
    let (refused, granted) = (Seen::default(), Seen::default());
    let (no, yes) = (refused.clone(), granted.clone());
    check(move || {
        let world = World::new(Size { threads, ..SMALL });
        let most = world.size.bound / 4;
        let part = most / threads;
        let (no, yes) = (no.clone(), yes.clone());
        let tables = join(spawn_all(&world, move |world, number| {
            let table = world.cache.pin(0);
            let mut bytes = 0;
            for round in 0..3 {
                let grown = table.grow(part);
                assert!(world.cache.stats().pinned <= most, "more than may stay");
                bytes += if grown { part } else { 0 };
                if round == 1 && grown && number % 2 == 0 {
                    table.shrink(part);
                    bytes -= part;
                }
                (if grown { &yes } else { &no }).note(true);
            }
            assert_eq!(table.bytes(), bytes);
            drop(world.load(number, 0));
            table
        }));
        let pinned = tables.iter().map(Pinned::bytes).sum();
        world.is_settled(pinned);
        let rest = world.cache.pin(0);
        assert!(rest.grow(most - pinned) && !rest.grow(1), "not the quarter");
        drop((tables, rest));
        world.is_settled(0);
        world.ends();
    });
    assert!(refused.ever() && granted.ever(), "nobody was refused, or granted");
}

/// Values of blob files beside blocks: neither is taken for the other, and both count.
pub fn values(threads: u64) {
    let found = Seen::default();
    let outcomes = found.clone();
    check(move || {
        let world = World::new(Size { threads, ..SMALL });
        let before = world.cache.stats().bytes;
        let outcomes = outcomes.clone();
        join(spawn_all(&world, move |world, number| {
            for offset in 0..3 {
                let text = [100, u8::try_from(offset).unwrap()];
                let value = || Bytes::copy_from_slice(&text);
                let kept = CachedValue { value: value(), key: offset, held: 64 };
                world.cache.insert_value(100, offset, kept, number % 2 == 0);
                drop(world.load(number, offset));
                let found = world.cache.get_value(100, offset);
                outcomes.note(found.is_some());
                if let Some(found) = found {
                    assert_eq!((found.value, found.key), (value(), offset));
                }
                assert!(world.cache.get_value(number, offset).is_none(), "a block for a value");
                assert!(world.cache.get(100, offset).is_none(), "a value for a block");
            }
        }));
        let stats = world.cache.stats();
        assert!(stats.bytes <= world.room() && stats.bytes > before, "{stats:?}");
        // Larger than a value may be.
        let large = u32::try_from(world.size.bound / 8).unwrap();
        let kept = CachedValue { value: Bytes::new(), key: 0, held: large };
        world.cache.insert_value(101, 0, kept, false);
        assert!(world.cache.peek_value(101, 0).is_none(), "too large a value");
        world.ends();
    });
    assert!(found.ever(), "no value was found");
}
