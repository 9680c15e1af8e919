//! One engine, one repetition, one group of lines, in a process of its own: what it has in memory
//! is the engine's, and nobody's allocator was warmed up by somebody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::engine::{CACHE_BYTES, Engine, Kind, Settings};
use crate::lines::{self, COLD_LINE, DATA_LINES, SEQUENTIAL_LINE, SYNC_LINES, Size};
use crate::measure::{Outcome, Scalar, disk_bytes, resident_bytes, written_bytes};
use crate::work::{KEY_BYTES, random_key};

/// Lines that share a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Filled in random order, then read, changed, closed and opened again.
    Data,
    /// Filled in order.
    Sequential,
    /// Puts that wait for the disk.
    Sync,
}

impl Group {
    pub(crate) const ALL: [Self; 3] = [Self::Data, Self::Sequential, Self::Sync];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Sequential => "sequential",
            Self::Sync => "sync",
        }
    }

    pub(crate) fn has(self, line: &str) -> bool {
        match self {
            Self::Data => line == COLD_LINE || DATA_LINES.contains(&line),
            Self::Sequential => line == SEQUENTIAL_LINE,
            Self::Sync => SYNC_LINES.iter().any(|(name, _)| *name == line),
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Job {
    #[arg(long)]
    pub(crate) engine: Kind,
    #[arg(long)]
    pub(crate) group: Group,
    #[arg(long)]
    pub(crate) keys: u64,
    #[arg(long)]
    pub(crate) value: usize,
    #[arg(long, value_delimiter = ',')]
    pub(crate) lines: Vec<String>,
    #[arg(long)]
    pub(crate) dir: PathBuf,
}

/// Runs the job and prints its [`Outcome`] as one line of JSON.
pub(crate) fn run(job: &Job) -> Result<()> {
    println!("{}", serde_json::to_string(&outcome(job)?)?);
    Ok(())
}

pub(crate) fn outcome(job: &Job) -> Result<Outcome> {
    let wants = |line: &str| job.lines.iter().any(|wanted| wanted == line);
    let size = Size { keys: job.keys, value: job.value };
    let settings = Settings { cache_bytes: CACHE_BYTES, sync: job.group == Group::Sync };
    let engine = job.engine.open(&job.dir, settings)?;
    let mut outcome = Outcome::default();
    match job.group {
        Group::Data => data(job, &wants, engine, size, &mut outcome)?,
        Group::Sequential => {
            let figures = lines::sequential(&engine, size)?;
            outcome.lines.push((SEQUENTIAL_LINE.to_owned(), figures));
        }
        Group::Sync => {
            for (line, threads) in SYNC_LINES.iter().filter(|(line, _)| wants(line)) {
                let figures = lines::synced(&engine, *threads, size)?;
                outcome.lines.push(((*line).to_owned(), figures));
            }
        }
    }
    Ok(outcome)
}

fn data(
    job: &Job,
    wants: &impl Fn(&str) -> bool,
    engine: Arc<dyn Engine>,
    size: Size,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut scalar = |outcome: &mut Outcome, name: &str, value: f64| {
        outcome.scalars.push(Scalar { name: name.to_owned(), value });
    };
    let data = (size.keys * (KEY_BYTES + size.value) as u64) as f64;
    let mut written = 0.0;
    for line in DATA_LINES {
        // Without the data there is nothing to measure.
        if !wants(line) && line != "fill-random" {
            continue;
        }
        let figures = lines::data(&engine, line, size)?;
        outcome.lines.push((line.to_owned(), figures));
        match line {
            "fill-random" | "overwrite" => written += data,
            "read-hot" => scalar(outcome, "resident MiB", resident_bytes()? as f64 / MIB),
            _ => {}
        }
        if (line == "fill-random" && !wants("overwrite")) || line == "overwrite" {
            engine.flush()?;
            let amplified = written_bytes()? as f64 / written;
            scalar(outcome, "write amplification", amplified);
            scalar(outcome, "space amplification", disk_bytes(&job.dir)? as f64 / data);
        }
    }
    drop(engine);
    reopen(job, wants, size, outcome, &mut scalar)
}

const MIB: f64 = 1024.0 * 1024.0;

fn reopen(
    job: &Job,
    wants: &impl Fn(&str) -> bool,
    size: Size,
    outcome: &mut Outcome,
    scalar: &mut impl FnMut(&mut Outcome, &str, f64),
) -> Result<()> {
    let data = usize::try_from(size.keys)? * (KEY_BYTES + size.value);
    // Once with the usual cache, to see how long it takes; once with one that is too small.
    let begin = Instant::now();
    let engine = job.engine.open(&job.dir, Settings { cache_bytes: CACHE_BYTES, sync: false })?;
    let first = engine.get(&random_key(size.keys - 1), &mut |_value| {})?;
    scalar(outcome, "open after close, ms", begin.elapsed().as_secs_f64() * 1000.0);
    ensure!(first, "a key is gone after a clean close");
    drop(engine);
    if !wants(COLD_LINE) {
        return Ok(());
    }
    // What `delete` took is written again, so that every read finds its key.
    let small = Settings { cache_bytes: (data / 10).max(1 << 20), sync: false };
    let engine = job.engine.open(&job.dir, small)?;
    refill(&*engine, wants, size)?;
    let figures = lines::data(&engine, COLD_LINE, size)?;
    outcome.lines.push((COLD_LINE.to_owned(), figures));
    Ok(())
}

fn refill(engine: &dyn Engine, wants: &impl Fn(&str) -> bool, size: Size) -> Result<()> {
    if wants("delete") {
        let mut values = crate::work::Values::new(size.value);
        for id in 0..size.keys / 4 {
            let key = random_key(id);
            engine.put(&key, values.of(&key, id))?;
        }
    }
    engine.flush()
}

/// A directory for one job, removed with everything in it when dropped.
pub(crate) fn scratch(under: &Path) -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("meridian-bench-").tempdir_in(under)?)
}
