//! What one line of the table holds, and how it is taken.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;

/// Longest operation that a histogram tells from a longer one, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;

/// The figures of one line in one repetition. Latencies are in microseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Figures {
    /// Operations a second.
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) worst: f64,
}

/// Figures that are one number, such as bytes on disk for each byte of data.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Scalar {
    pub(crate) name: String,
    pub(crate) value: f64,
}

/// What a child reports.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) lines: Vec<(String, Figures)>,
    pub(crate) scalars: Vec<Scalar>,
}

/// One thread's operations: `operation(engine, i)` for each `i` it is given.
pub(crate) type Worker<'a> = Box<dyn FnMut(&dyn Engine, u64) -> Result<()> + Send + 'a>;

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(|cause| anyhow!("histogram: {cause:?}"))
}

fn drive(engine: &dyn Engine, count: u64, worker: &mut Worker<'_>) -> Result<Histogram<u64>> {
    let mut taken = histogram()?;
    let mut before = Instant::now();
    for i in 0..count {
        worker(engine, i)?;
        let now = Instant::now();
        taken.saturating_record(u64::try_from((now - before).as_nanos()).unwrap_or(LONGEST));
        before = now;
    }
    Ok(taken)
}

/// Runs `count` operations on each worker, each on a thread of its own.
pub(crate) fn measure(
    engine: &Arc<dyn Engine>,
    count: u64,
    mut workers: Vec<Worker<'_>>,
) -> Result<Figures> {
    let begin = Instant::now();
    let mut all = histogram()?;
    if let [worker] = workers.as_mut_slice() {
        all = drive(&**engine, count, worker)?;
    } else {
        std::thread::scope(|scope| {
            let mut threads = Vec::with_capacity(workers.len());
            for mut worker in workers {
                threads.push(scope.spawn(move || drive(&**engine, count, &mut worker)));
            }
            for thread in threads {
                let taken = thread.join().map_err(|_panic| anyhow!("a worker panicked"))??;
                all.add(taken).map_err(|cause| anyhow!("histogram: {cause:?}"))?;
            }
            anyhow::Ok(())
        })?;
    }
    let took = begin.elapsed().as_secs_f64();
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    Ok(Figures {
        rate: all.len() as f64 / took,
        p50: micros(all.value_at_quantile(0.5)),
        p99: micros(all.value_at_quantile(0.99)),
        p999: micros(all.value_at_quantile(0.999)),
        worst: micros(all.max()),
    })
}

/// Bytes that a directory takes on disk: allocated blocks, so that a sparse or preallocated file
/// counts as what it costs.
pub(crate) fn disk_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total +=
            if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(total)
}

/// Bytes that this process has had written to disk.
pub(crate) fn written_bytes() -> Result<u64> {
    field("/proc/self/io", "write_bytes:")
}

/// Bytes of memory that this process has, in pages that are there.
pub(crate) fn resident_bytes() -> Result<u64> {
    Ok(field("/proc/self/status", "RssAnon:")? * 1024)
}

fn field(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).ok_or_else(|| anyhow!("{file} has no {name}"))
}
