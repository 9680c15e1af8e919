//! The clients, and what they saw.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::args::BenchArgs;
use super::door::{Connection, Connector};
use super::keys::{Op, Requests, hot};
use crate::cli::output::Failure;

/// Latencies are recorded in this many nanoseconds.
pub(super) const UNIT_NANOS: u64 = 100;

/// Keys that one client writes at a time while filling.
const FILL_BATCH: usize = 64;

/// What one or all clients saw.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// Latencies of answered requests, in [`UNIT_NANOS`].
    pub(super) gets: Histogram<u32>,
    pub(super) puts: Histogram<u32>,
    /// Refused or failed requests by name; they are in no histogram.
    pub(super) errors: BTreeMap<String, u64>,
    /// Requests that were due and not sent, because those before them took too long (open loop).
    pub(super) unsent: u64,
    /// The measured time.
    pub(super) seconds: f64,
}

impl Figures {
    fn new() -> Result<Self, Failure> {
        // Three digits; the histograms grow with what they see.
        let empty = || Histogram::new(3).map_err(|error| Failure::Other(error.into()));
        Ok(Self {
            gets: empty()?,
            puts: empty()?,
            errors: BTreeMap::new(),
            unsent: 0,
            seconds: 0.0,
        })
    }

    fn record(&mut self, op: Op, latency: Duration) {
        let units = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX) / UNIT_NANOS;
        let histogram = match op {
            Op::Get(_) => &mut self.gets,
            Op::Put(_) => &mut self.puts,
        };
        // It resizes itself; what it cannot grow to counts as the most that it holds.
        if histogram.record(units).is_err() {
            histogram.saturating_record(units);
        }
    }

    fn add(&mut self, other: Self) -> Result<(), Failure> {
        for (mine, theirs) in [(&mut self.gets, other.gets), (&mut self.puts, other.puts)] {
            mine.add(theirs).map_err(|error| Failure::Other(error.into()))?;
        }
        self.unsent += other.unsent;
        for (name, count) in other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        Ok(())
    }
}

/// When the measurement begins and ends, for all clients.
#[derive(Clone)]
struct Window {
    warm: Instant,
    end: Option<Instant>,
    /// Requests that may still be measured, where their number is given.
    left: Option<Arc<AtomicU64>>,
}

impl Window {
    /// Whether another batch of this size may be sent at `now`.
    fn is_open(&self, now: Instant, batch: u64) -> bool {
        if self.end.is_some_and(|end| now >= end) {
            return false;
        }
        match &self.left {
            Some(left) if now >= self.warm => left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(batch.min(n)))
                .is_ok_and(|before| before > 0),
            _ => true,
        }
    }
}

/// Runs the load.
pub(super) async fn run(args: &BenchArgs, connector: &Connector) -> Result<Figures, Failure> {
    let hot = hot(args);
    let mut connections = Vec::new();
    for number in 0..args.clients {
        connections.push(connector.connect(args, number).await?);
    }
    let begin = Instant::now();
    let warm = begin + args.warmup;
    let window = Window {
        warm,
        end: args.requests.is_none().then(|| warm + args.duration),
        left: args.requests.map(|requests| Arc::new(AtomicU64::new(requests))),
    };
    let mut clients = JoinSet::new();
    for (connection, number) in connections.into_iter().zip(0u32..) {
        let client = Client {
            connection,
            requests: Requests::new(args, u64::from(number), hot),
            window: window.clone(),
            pipeline: args.pipeline as usize,
            due: args.rate.map(|rate| Due::new(rate, args, number, begin)),
            figures: Figures::new()?,
        };
        clients.spawn(client.run());
    }
    let mut all = Figures::new()?;
    while let Some(client) = clients.join_next().await {
        all.add(client.map_err(anyhow::Error::from)??)?;
    }
    all.seconds = window.warm.elapsed().as_secs_f64();
    Ok(all)
}

/// When an open-loop client's batches are due: evenly, and the clients staggered.
#[derive(Clone, Copy, Debug)]
struct Due {
    first: Instant,
    every: Duration,
    number: u32,
}

impl Due {
    fn new(rate: u64, args: &BenchArgs, client: u32, begin: Instant) -> Self {
        let batches = u128::from(rate) * 1_000;
        let in_all = u128::from(args.clients) * u128::from(args.pipeline) * 1_000_000_000_000;
        let nanos = u64::try_from(in_all / batches).unwrap_or(u64::MAX);
        let every = Duration::from_nanos(nanos);
        Self { first: begin + every / args.clients * client, every, number: 0 }
    }

    /// As [`Self::next`]; what was left undone while warming up is not made up for afterwards.
    fn next_after_warm_up(&mut self, now: Instant, warm: Instant) -> Instant {
        let mut due = self.next();
        while now >= warm && due < warm {
            due = self.next();
        }
        due
    }

    fn next(&mut self) -> Instant {
        let due = self.first + self.every * self.number;
        self.number = self.number.saturating_add(1);
        due
    }
}

struct Client {
    connection: Connection,
    requests: Requests,
    window: Window,
    pipeline: usize,
    due: Option<Due>,
    figures: Figures,
}

impl Client {
    async fn run(mut self) -> Result<Figures, Failure> {
        let (mut ops, mut answers) = (Vec::with_capacity(self.pipeline), Vec::new());
        loop {
            let start = self.start().await;
            if !self.window.is_open(Instant::now(), self.pipeline as u64) {
                self.figures.unsent = self.unsent(start);
                return Ok(self.figures);
            }
            ops.clear();
            ops.extend((0..self.pipeline).map(|_| self.requests.next()));
            self.connection.run(&ops, &mut answers).await?;
            let end = Instant::now();
            if start < self.window.warm {
                continue;
            }
            for (op, answer) in ops.iter().zip(answers.drain(..)) {
                match answer {
                    Ok(()) => self.figures.record(*op, end - start),
                    Err(name) => *self.figures.errors.entry(name).or_default() += 1,
                }
            }
        }
    }

    /// Requests of the measured time that this one, due at `start`, and those after it are.
    fn unsent(&self, start: Instant) -> u64 {
        let (Some(due), Some(end)) = (&self.due, self.window.end) else { return 0 };
        match end.checked_duration_since(start) {
            Some(late) if !late.is_zero() => {
                let batches = late.as_nanos().div_ceil(due.every.as_nanos().max(1));
                u64::try_from(batches).unwrap_or(u64::MAX).saturating_mul(self.pipeline as u64)
            }
            _ => 0,
        }
    }

    /// When the next batch counts from.
    async fn start(&mut self) -> Instant {
        let Some(due) = &mut self.due else { return Instant::now() };
        let due = due.next_after_warm_up(Instant::now(), self.window.warm);
        if due <= Instant::now() {
            // The client was kept busy: what is late is the server's doing.
            return due;
        }
        sleep_until(due).await;
        Instant::now()
    }
}

/// Writes every key once.
pub(super) async fn fill(args: &BenchArgs, connector: &Connector) -> Result<(), Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..args.clients {
        let mut connection = connector.connect(args, number).await?;
        let (next, keys) = (Arc::clone(&next), args.keys);
        clients.spawn(async move {
            let mut answers = Vec::new();
            loop {
                let first = next.fetch_add(FILL_BATCH as u64, Ordering::Relaxed);
                if first >= keys {
                    return Ok::<_, Failure>(());
                }
                let last = keys.min(first + FILL_BATCH as u64);
                let ops: Vec<Op> = (first..last).map(Op::Put).collect();
                connection.run(&ops, &mut answers).await?;
                if let Some(Err(why)) = answers.iter().find(|answer| answer.is_err()) {
                    return Err(Failure::No(format!("a key could not be written: {why}")));
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.map_err(anyhow::Error::from)??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_requests_is_given_out_once() {
        let now = Instant::now();
        let left = Some(Arc::new(AtomicU64::new(10)));
        let window = Window { warm: now, end: None, left };
        let open = (0..10).filter(|_| window.is_open(now, 4)).count();
        assert_eq!(open, 3, "4 + 4 + the last 2 as part of a batch");
        let ended = Window { end: Some(now), left: None, ..window };
        assert!(!ended.is_open(now, 1));
    }

    #[test]
    fn warming_up_uses_up_no_requests() {
        let now = Instant::now();
        let left = Arc::new(AtomicU64::new(1));
        let warm = now + Duration::from_secs(1);
        let window = Window { warm, end: None, left: Some(Arc::clone(&left)) };
        assert!(window.is_open(now, 1) && window.is_open(now, 1));
        assert!(window.is_open(warm, 1) && !window.is_open(warm, 1));
    }

    #[test]
    fn an_open_loop_is_due_at_fixed_times() {
        let begin = Instant::now();
        let mut due = Due { first: begin, every: Duration::from_millis(3), number: 0 };
        let times: Vec<_> = (0..3).map(|_| due.next() - begin).collect();
        assert_eq!(times, [0, 3, 6].map(Duration::from_millis));
        let warm = begin + Duration::from_millis(20);
        assert_eq!(due.next_after_warm_up(warm, warm) - begin, Duration::from_millis(21));
        assert_eq!(due.next_after_warm_up(begin, warm) - begin, Duration::from_millis(24));
    }

    #[test]
    fn latencies_are_what_was_recorded() {
        let mut figures = Figures::new().unwrap();
        for millis in 1..=1_000 {
            figures.record(Op::Get(0), Duration::from_millis(millis));
        }
        figures.record(Op::Put(0), Duration::from_secs(100));
        let mut all = Figures::new().unwrap();
        all.add(figures).unwrap();
        let close = |units: u64, millis: u64| {
            let expected = millis * 1_000_000 / UNIT_NANOS;
            assert!(units.abs_diff(expected) <= expected / 500, "{units} for {expected}");
        };
        close(all.gets.value_at_quantile(0.5), 500);
        close(all.gets.max(), 1_000);
        close(all.puts.max(), 100_000);
    }
}
