//! Waiting for a time that moves.

use std::sync::Arc;

use futures::future::BoxFuture;
use meridian_types::Millis;

use crate::host::Host;

/// Wakes one task, with one sleep under way: a later time than the one it sleeps for costs a wake-up
/// that finds nothing to do, and no new sleep.
pub(crate) struct Alarm {
    host: Arc<dyn Host>,
    armed: Option<(Millis, BoxFuture<'static, ()>)>,
}

impl Alarm {
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, armed: None }
    }

    /// Waits for a time, or for ever. A time that has come is waited for a millisecond, so that a
    /// machine that asks for the past does not spin.
    ///
    /// May be dropped and called again, with another time.
    pub(crate) async fn until(&mut self, at: Option<Millis>) {
        let Some(at) = at else { return std::future::pending().await };
        let at = at.max(self.host.now().plus(1));
        loop {
            let armed = match &mut self.armed {
                Some((until, sleep)) if *until <= at => sleep,
                armed => &mut armed.insert((at, self.host.sleep(at))).1,
            };
            armed.as_mut().await;
            self.armed = None;
            if self.host.now() >= at {
                return;
            }
        }
    }
}
