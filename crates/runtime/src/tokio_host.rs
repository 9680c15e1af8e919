//! The real world: tokio's tasks and timers, the system's clocks and chance.
//!
//! The only place of the runtime that asks what time it is, or starts anything on tokio.
#![expect(clippy::disallowed_methods, reason = "this is what the rest of the crate uses instead")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use meridian_types::Millis;
use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::error::StartError;
use crate::host::Host;

/// A node's host on a tokio runtime. [`Host::now`] counts from when it was made.
#[derive(Debug)]
pub struct TokioHost {
    /// Tasks are also started from threads of the storage engine, which are not tokio's.
    runtime: Handle,
    started: Instant,
    random: Mutex<ChaCha8Rng>,
}

impl TokioHost {
    /// A host on the present runtime.
    ///
    /// # Errors
    /// There is no runtime, or the system gives no random numbers.
    pub fn new() -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(StartError::NoRuntime)?;
        let mut seed = <ChaCha8Rng as SeedableRng>::Seed::default();
        getrandom::fill(&mut seed).map_err(StartError::Randomness)?;
        let random = Mutex::new(ChaCha8Rng::from_seed(seed));
        Ok(Self { runtime, started: Instant::now(), random })
    }
}

impl Host for TokioHost {
    fn wall(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn random(&self) -> u64 {
        self.random.lock().next_u64()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.runtime.spawn(task));
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) {
        drop(self.runtime.spawn_blocking(work));
    }

    fn sleep(&self, until: Millis) -> BoxFuture<'static, ()> {
        let until = self.started + Duration::from_millis(until.0);
        // Made where it is polled: a timer can be made on a runtime only.
        Box::pin(async move { tokio::time::sleep_until(until).await })
    }
}
