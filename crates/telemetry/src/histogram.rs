//! Times, counted without a lock.
//!
//! Log-linear buckets (eight to the octave, so a bucket is at most 12.5 % wide), kept once per
//! stripe; a thread counts in the stripe that it was given, so that two cores rarely write to one
//! cache line. The stock histogram of the metrics library takes a mutex for each observation.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Nanoseconds of the finest step: 2^7 = 128.
const STEP_BITS: u32 = 7;
/// Buckets to the octave: 2^3.
const SUB_BITS: u32 = 3;
/// Buckets in all; the last one holds everything from about two minutes on.
const BUCKETS: usize = 224;
/// Copies of the buckets. More than the threads that count at the same time would not help, and
/// each costs 1.8 KiB per histogram.
const STRIPES: usize = 8;
/// Every how many buckets a scrape gets a boundary: two to the octave.
const SCRAPED_EVERY: usize = 4;
/// First bucket that a scrape gets a boundary for: below lie less than 8 microseconds.
const SCRAPED_FROM: usize = 32;

/// A stripe on cache lines of its own.
#[repr(align(128))]
#[derive(Debug)]
struct Stripe {
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Stripe {
    fn default() -> Self {
        Self { nanos: AtomicU64::new(0), buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

/// A histogram of times.
#[derive(Debug)]
pub struct Histogram {
    stripes: Box<[Stripe]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Stripe::default()).collect() }
    }
}

fn my_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        mine.get()
    })
}

fn bucket_of(nanos: u64) -> usize {
    let steps = nanos >> STEP_BITS;
    let sub = 1 << SUB_BITS;
    if steps < sub {
        return usize::try_from(steps).unwrap_or(0);
    }
    let exponent = 63 - steps.leading_zeros();
    let octave = u64::from(exponent - SUB_BITS + 1) << SUB_BITS;
    let within = (steps >> (exponent - SUB_BITS)) & (sub - 1);
    usize::try_from(octave + within).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The first time, in nanoseconds, that is beyond a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    let sub = 1 << SUB_BITS;
    if next < sub {
        return next << STEP_BITS;
    }
    let octave = next >> SUB_BITS;
    (sub + (next & (sub - 1))) << (octave - 1) << STEP_BITS
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

impl Histogram {
    /// Counts one time. Two relaxed additions.
    pub fn observe(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let stripe = &self.stripes[my_stripe()];
        stripe.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
        stripe.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far. Observations made meanwhile may be in it or not.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut all = Snapshot { nanos: 0, buckets: vec![0; BUCKETS] };
        for stripe in &self.stripes {
            all.nanos = all.nanos.wrapping_add(stripe.nanos.load(Ordering::Relaxed));
            for (sum, bucket) in all.buckets.iter_mut().zip(&stripe.buckets) {
                *sum += bucket.load(Ordering::Relaxed);
            }
        }
        all
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshot = self.snapshot();
        let scraped = snapshot.scraped();
        let (sum, count) = (seconds(snapshot.nanos), snapshot.count());
        encoder.encode_histogram::<NoLabelSet>(sum, count, &scraped, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A histogram that its registry and the handles of those who count share.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedHistogram(pub(crate) Arc<Histogram>);

impl TypedMetric for SharedHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for SharedHistogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// What a histogram held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    nanos: u64,
    buckets: Vec<u64>,
}

impl Snapshot {
    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all times.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// The time that a share `q` (0 to 1) of the observations stayed within, as the upper end of
    /// its bucket; `None` of nothing.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = (count as f64 * q.clamp(0.0, 1.0)).max(1.0);
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen as f64 >= wanted {
                return Some(Duration::from_nanos(upper_bound(bucket)));
            }
        }
        Some(Duration::from_nanos(upper_bound(BUCKETS - 1)))
    }

    /// What was counted since an earlier snapshot of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self {
            nanos: self.nanos.wrapping_sub(earlier.nanos),
            buckets: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
        }
    }

    fn scraped(&self) -> Vec<(f64, u64)> {
        let mut out = Vec::with_capacity(BUCKETS / SCRAPED_EVERY + 1);
        let mut pending = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            pending += n;
            let last_of_group = (bucket + 1) % SCRAPED_EVERY == 0;
            if last_of_group && bucket + 1 >= SCRAPED_FROM && bucket + 1 < BUCKETS {
                out.push((seconds(upper_bound(bucket)), std::mem::take(&mut pending)));
            }
        }
        out.push((f64::INFINITY, pending));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_rise_without_gaps_and_stay_within_an_eighth() {
        let mut edge = 0;
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(edge), bucket);
            assert_eq!(bucket_of(upper_bound(bucket) - 1), bucket);
            let width = upper_bound(bucket) - edge;
            assert!(bucket < 8 || width * 8 <= edge, "bucket {bucket} is {width} wide at {edge}");
            edge = upper_bound(bucket);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_and_sums_come_back() {
        let histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.observe(Duration::from_micros(micros));
        }
        let all = histogram.snapshot();
        assert_eq!((all.count(), all.sum()), (1000, Duration::from_micros(500_500)));
        let within = |q: f64, low: u64, high: u64| {
            let at = all.quantile(q).unwrap();
            assert!(
                at >= Duration::from_micros(low) && at <= Duration::from_micros(high),
                "{at:?}"
            );
        };
        within(0.5, 500, 563);
        within(0.99, 990, 1114);
        within(0.0, 1, 2);
        within(1.0, 1000, 1125);
        assert_eq!(Histogram::default().snapshot().quantile(0.5), None);

        histogram.observe(Duration::from_secs(7));
        let later = histogram.snapshot().since(&all);
        assert_eq!((later.count(), later.sum()), (1, Duration::from_secs(7)));
    }

    #[test]
    fn what_is_scraped_adds_up() {
        let histogram = Histogram::default();
        for shift in 0..50 {
            histogram.observe(Duration::from_nanos(1 << shift));
        }
        let scraped = histogram.snapshot().scraped();
        assert_eq!(scraped.iter().map(|(_, n)| n).sum::<u64>(), 50);
        assert!(scraped.windows(2).all(|pair| pair[0].0 < pair[1].0));
        // 2^0 to 2^12 nanoseconds are below the first boundary of 8.192 microseconds.
        assert!((scraped[0].0 - 8.192e-6).abs() < 1e-12, "{}", scraped[0].0);
        assert_eq!(scraped[0].1, 13);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test needs threads to count from")]
    fn threads_do_not_lose_counts() {
        let histogram = Arc::new(Histogram::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let histogram = histogram.clone();
                std::thread::spawn(move || {
                    (0..10_000).for_each(|n| histogram.observe(Duration::from_nanos(n)));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(histogram.snapshot().count(), 40_000);
    }
}
