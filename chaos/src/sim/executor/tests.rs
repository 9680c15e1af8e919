use std::future::{pending, poll_fn};

use futures::channel::oneshot;
use proptest::prelude::*;

use super::*;
use crate::sim::{Purpose, Streams};

const NODE: Owner = Owner::Node { id: NodeId(1), life: 0 };
const CLIENT: Owner = Owner::Client(1);

type Log = Arc<Mutex<Vec<u32>>>;

fn draw(seed: u64) -> Draw {
    Streams::new(seed).draw(Purpose::Tasks)
}

/// Gives way to the others once.
async fn give_way() {
    let mut given = false;
    poll_fn(|context| {
        if given {
            return Poll::Ready(());
        }
        given = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Notes that it was dropped.
struct Noting(Log, u32);

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.lock().push(self.1);
    }
}

/// What is noted by tasks that each give way a few times.
fn interleaving(order: Order, seed: u64) -> Vec<u32> {
    let mut executor = Executor::new(order);
    let log = Log::default();
    for number in 0..8 {
        let log = Arc::clone(&log);
        executor.spawn(NODE, async move {
            for _ in 0..3 {
                log.lock().push(number);
                give_way().await;
            }
        });
    }
    executor.run_ready(&mut draw(seed)).unwrap();
    assert_eq!(executor.tasks_of(NODE), 0);
    log.lock().clone()
}

#[test]
fn the_seed_decides_the_order() {
    assert_eq!(interleaving(Order::Seeded, 1), interleaving(Order::Seeded, 1));
    assert_ne!(interleaving(Order::Seeded, 1), interleaving(Order::Seeded, 2));
    assert_eq!(interleaving(Order::Fifo, 1), interleaving(Order::Fifo, 2));
    assert_ne!(interleaving(Order::Fifo, 1), interleaving(Order::Seeded, 1));
}

#[test]
fn a_killed_task_is_dropped_and_never_polled_again() {
    let mut executor = Executor::new(Order::Seeded);
    let log = Log::default();
    let (noting, polled) = (Noting(Arc::clone(&log), 7), Arc::clone(&log));
    let (wake, woken) = oneshot::channel::<()>();
    executor.spawn(NODE, async move {
        let _noting = noting;
        polled.lock().push(1);
        let _ = woken.await;
        polled.lock().push(2);
    });
    executor.run_ready(&mut draw(1)).unwrap();
    executor.kill(NODE);
    assert_eq!(*log.lock(), [1, 7]);
    assert!(wake.send(()).is_err(), "the receiver is gone with its task");
    assert_eq!(executor.run_ready(&mut draw(1)), Ok(0));
    let late = Arc::clone(&log);
    executor.spawn(NODE, async move { late.lock().push(3) });
    assert_eq!(executor.run_ready(&mut draw(1)), Ok(0), "the dead spawn nothing");
    assert_eq!(*log.lock(), [1, 7]);
}

#[test]
fn who_kills_itself_in_a_poll_ends_with_that_poll() {
    let mut executor = Executor::new(Order::Seeded);
    let (spawner, log) = (executor.spawner(), Log::default());
    let noting = Noting(Arc::clone(&log), 7);
    executor.spawn(NODE, async move {
        let _noting = noting;
        spawner.kill(NODE);
        assert!(spawner.is_dead(NODE));
        spawner.spawn(NODE, async { panic!("spawned by a dead owner") });
        give_way().await;
        panic!("polled after the kill");
    });
    assert_eq!(executor.run_ready(&mut draw(1)), Ok(1));
    assert_eq!(*log.lock(), [7]);
    assert_eq!(executor.tasks_of(NODE), 0);
}

#[test]
fn a_drop_may_spawn_for_others_and_kill_them() {
    let mut executor = Executor::new(Order::Seeded);
    let log = Log::default();
    struct Last(Spawner, Log);
    impl Drop for Last {
        fn drop(&mut self) {
            let log = Arc::clone(&self.1);
            self.0.spawn(Owner::World, async move { log.lock().push(5) });
            self.0.kill(CLIENT);
        }
    }
    let last = Last(executor.spawner(), Arc::clone(&log));
    executor.spawn(CLIENT, pending());
    executor.spawn(NODE, async move {
        let _last = last;
        pending::<()>().await;
    });
    executor.run_ready(&mut draw(1)).unwrap();
    executor.kill(NODE);
    assert_eq!(executor.tasks_of(CLIENT), 0);
    executor.run_ready(&mut draw(1)).unwrap();
    assert_eq!(*log.lock(), [5]);
}

#[test]
fn a_frozen_owner_does_nothing_until_it_is_thawed() {
    let mut executor = Executor::new(Order::Seeded);
    let log = Log::default();
    let (wake, woken) = oneshot::channel::<()>();
    let polled = Arc::clone(&log);
    executor.spawn(NODE, async move {
        let _ = woken.await;
        polled.lock().push(1);
    });
    executor.run_ready(&mut draw(1)).unwrap();
    executor.freeze(NODE);
    wake.send(()).unwrap();
    let others = Arc::clone(&log);
    executor.spawn(CLIENT, async move { others.lock().push(2) });
    assert_eq!(executor.run_ready(&mut draw(1)), Ok(1));
    assert_eq!(*log.lock(), [2]);
    assert!(executor.is_frozen(NODE));
    executor.thaw(NODE);
    assert_eq!(executor.run_ready(&mut draw(1)), Ok(1));
    assert_eq!(*log.lock(), [2, 1]);
}

#[test]
fn who_is_killed_while_frozen_stays_dead() {
    let mut executor = Executor::new(Order::Seeded);
    let log = Log::default();
    let noting = Noting(Arc::clone(&log), 7);
    executor.freeze(NODE);
    executor.spawn(NODE, async move {
        let _noting = noting;
        panic!("polled while frozen");
    });
    assert_eq!(executor.run_ready(&mut draw(1)), Ok(0));
    executor.kill(NODE);
    assert_eq!(*log.lock(), [7]);
    executor.thaw(NODE);
    assert_eq!(executor.run_ready(&mut draw(1)), Ok(0));
}

#[test]
fn tasks_without_end_are_noticed() {
    let mut executor = Executor::new(Order::Seeded);
    executor.spawn(CLIENT, async {
        loop {
            give_way().await;
        }
    });
    let livelock = Livelock { polls: MAX_POLLS_AT_ONCE, last: CLIENT };
    assert_eq!(executor.run_ready(&mut draw(1)), Err(livelock));
}

#[test]
fn an_executor_that_is_dropped_drops_everything() {
    let log = Log::default();
    let executor = Executor::new(Order::Seeded);
    let shared = Arc::downgrade(&executor.shared);
    let noting = Noting(Arc::clone(&log), 7);
    let spawner = executor.spawner();
    executor.spawn(NODE, async move {
        let _both = (noting, spawner);
        pending::<()>().await;
    });
    drop(executor);
    assert_eq!(*log.lock(), [7]);
    assert!(shared.upgrade().is_none());
}

proptest! {
    /// Slots are used again: a wake-up of a task that is gone must not reach its successor as a
    /// poll too many, and every living task is polled as often as it was woken.
    #[test]
    fn wakeups_reach_their_own_task_only(
        steps in proptest::collection::vec((0_u32..4, any::<bool>()), 1..60),
        seed in any::<u64>(),
    ) {
        let mut executor = Executor::new(Order::Seeded);
        let (mut draw, log) = (draw(seed), Log::default());
        let mut lives: BTreeMap<u32, (u32, Vec<Waker>)> = BTreeMap::new();
        let kept: Arc<Mutex<BTreeMap<Owner, Waker>>> = Arc::default();
        for (client, kill) in steps {
            let (life, old) = lives.entry(client).or_default();
            let owner = Owner::Node { id: NodeId(client), life: *life };
            let living = kept.lock().get(&owner).cloned();
            if kill {
                old.extend(kept.lock().remove(&owner));
                executor.kill(owner);
                *life += 1;
                for waker in old.iter() {
                    waker.wake_by_ref();
                }
                prop_assert_eq!(executor.run_ready(&mut draw), Ok(0));
            } else if let Some(waker) = living {
                waker.wake_by_ref();
                waker.wake();
                log.lock().clear();
                prop_assert_eq!(executor.run_ready(&mut draw), Ok(1));
                prop_assert_eq!(&*log.lock(), &[client]);
            } else {
                let (kept, log) = (Arc::clone(&kept), Arc::clone(&log));
                executor.spawn(owner, poll_fn(move |context| {
                    log.lock().push(client);
                    kept.lock().insert(owner, context.waker().clone());
                    Poll::Pending
                }));
                prop_assert_eq!(executor.run_ready(&mut draw), Ok(1));
            }
        }
    }
}
