use super::*;

const LEFT_MS: u64 = 2_000;

/// A node that answers so many bytes a second, tick by tick.
struct Driven {
    admission: Admission,
    now: Millis,
}

impl Driven {
    fn new() -> Self {
        let (admission, now) = (Admission::default(), Millis(1_000));
        admission.tick(now);
        Self { admission, now }
    }

    /// As many requests of 1 KiB as are let in.
    fn offer(&self, requests: u64) -> u64 {
        (0..requests).filter(|_| self.admission.admit(WEIGHT, LEFT_MS, self.now).is_ok()).count()
            as u64
    }

    fn answer(&self, requests: u64) {
        for _ in 0..requests.min(self.admission.waiting() / WEIGHT) {
            self.admission.ended(WEIGHT);
        }
    }

    /// A tick that comes so much too late.
    fn tick_late(&mut self, by_ms: u64) {
        self.now = self.now.plus(TICK_MS + by_ms);
        self.admission.tick(self.now);
    }
}

#[test]
fn an_idle_node_lets_a_burst_in() {
    let mut node = Driven::new();
    for _ in 0..20 {
        assert_eq!(node.offer(1), 1);
        node.answer(1);
        node.tick_late(0);
    }
    assert_eq!(node.offer(50_000), 50_000, "little was asked, which says nothing of what it can");
}

#[test]
fn what_waits_stays_within_half_of_what_a_request_has() {
    let mut node = Driven::new();
    // 10,000 a second are answered, 30,000 asked for.
    let (mut begun, mut answered) = (0, 0);
    for tick in 0..200 {
        begun += node.offer(1_500);
        let before = node.admission.waiting() / WEIGHT;
        node.answer(500);
        answered += before.min(500);
        node.tick_late(0);
        let waiting = node.admission.waiting() / WEIGHT;
        assert!(waiting <= 11_500, "{waiting} wait after {tick} ticks, of 10,000 in a second");
    }
    assert_eq!(answered, 100_000, "never idle");
    assert!(begun < 112_000);
}

#[test]
fn a_request_with_more_time_may_wait_longer() {
    let mut node = Driven::new();
    node.offer(5_000);
    for _ in 0..3 {
        node.tick_late(0);
        node.answer(100);
    }
    node.tick_late(0);
    let wait = Overloaded::Wait { at_most_ms: 500 };
    assert_eq!(node.admission.admit(WEIGHT, 1_000, node.now), Err(wait));
    assert_eq!(node.admission.admit(WEIGHT, 60_000, node.now), Ok(()));
    // The queue is short again: the figure is of another time.
    node.answer(4_500);
    node.tick_late(0);
    assert_eq!(node.admission.admit(WEIGHT, 1, node.now), Ok(()));
}

#[test]
fn a_moment_of_standing_still_refuses_nobody() {
    let mut node = Driven::new();
    node.tick_late(0);
    node.tick_late(3_000);
    assert_eq!((node.admission.lag_ms(node.now), node.offer(10)), (0, 10));
    node.tick_late(0);
    assert_eq!((node.admission.lag_ms(node.now), node.offer(10)), (0, 10));
}

#[test]
fn late_timers_refuse_what_would_be_too_late() {
    let mut node = Driven::new();
    node.tick_late(200);
    node.tick_late(300);
    assert_eq!(node.admission.lag_ms(node.now), 200);
    assert_eq!(node.admission.load_permille(node.now), 800);
    let admit = |left| node.admission.admit(WEIGHT, left, node.now);
    assert_eq!(admit(1_599), Err(Overloaded::Wait { at_most_ms: 799 }));
    assert_eq!(admit(1_600), Ok(()));
    node.tick_late(0);
    assert_eq!((node.admission.lag_ms(node.now), node.offer(1)), (0, 1));
}

#[test]
fn a_timer_that_is_overdue_counts_where_the_last_was_late() {
    let mut node = Driven::new();
    node.tick_late(0);
    let later = |node: &Driven, ms| node.admission.lag_ms(node.now.plus(TICK_MS + ms));
    assert_eq!(later(&node, 5_000), 0, "the process stood still");
    node.tick_late(100);
    assert_eq!([later(&node, 0), later(&node, 150), later(&node, 5_000)], [0, 150, 200]);
}

#[test]
fn bytes_are_bounded_whatever_the_time() {
    let node = Admission::default();
    assert_eq!(
        node.admit(2 * MAX_BYTES, LEFT_MS, Millis(1)),
        Ok(()),
        "the first, whatever it weighs"
    );
    assert_eq!(node.admit(1, LEFT_MS, Millis(1)), Err(Overloaded::Bytes));
    node.ended(2 * MAX_BYTES);
    assert_eq!(node.admit(MAX_BYTES - 1, LEFT_MS, Millis(1)), Ok(()));
    assert_eq!(node.admit(1, LEFT_MS, Millis(1)), Ok(()));
    assert_eq!(node.admit(1, LEFT_MS, Millis(1)), Err(Overloaded::Bytes));
    assert_eq!(node.waiting(), MAX_BYTES, "who is refused weighs nothing");
}
