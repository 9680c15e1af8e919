//! Since when nothing was heard.

use std::time::Duration;

use tokio::time::Instant;

/// Tells a link that is silent from a process that was not running.
#[derive(Clone, Debug)]
pub(crate) struct Silence {
    limit: Duration,
    /// How late this process's own timer may be before its silence proves nothing: what was heard
    /// meanwhile waits unread. Also how long it then gets to read it.
    grace: Duration,
    due: Instant,
}

impl Silence {
    pub(crate) fn new(limit: Duration, keep_alive: Duration, now: Instant) -> Self {
        Self { limit, grace: keep_alive, due: now + limit }
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.due = now + self.limit;
    }

    /// When to ask [`Self::is_too_long`] next.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Whether the link is silent for too long.
    pub(crate) fn is_too_long(&mut self, now: Instant) -> bool {
        if now < self.due {
            return false;
        }
        if now - self.due > self.grace {
            self.due = now + self.grace;
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);
    const KEEP_ALIVE: Duration = Duration::from_millis(500);

    #[test]
    fn silence_lasts_from_what_was_heard_last() {
        let start = Instant::now();
        let mut silence = Silence::new(LIMIT, KEEP_ALIVE, start);
        silence.heard(start + KEEP_ALIVE);
        assert!(!silence.is_too_long(start + LIMIT));
        assert!(silence.is_too_long(start + LIMIT + KEEP_ALIVE));
    }

    #[test]
    fn a_process_that_was_paused_reads_before_it_judges() {
        let start = Instant::now();
        let mut silence = Silence::new(LIMIT, KEEP_ALIVE, start);
        let awake = start + 10 * LIMIT;
        assert!(!silence.is_too_long(awake));
        assert!(!silence.is_too_long(awake + KEEP_ALIVE / 2));
        assert!(silence.is_too_long(awake + KEEP_ALIVE));
    }
}
