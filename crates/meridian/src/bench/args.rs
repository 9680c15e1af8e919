//! What a benchmark may be told.

use std::time::Duration;

use clap::{Args, ValueEnum};
use meridian_types::{ConsistencyLevel, Limits, TableName};

use crate::cli::connect::{ConnectArgs, duration};
use crate::cli::output::Failure;

/// Which door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Door {
    Resp,
    Rest,
    Grpc,
}

impl Door {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Resp => "RESP",
            Self::Rest => "REST",
            Self::Grpc => "gRPC",
        }
    }
}

/// How keys are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    /// All alike.
    Uniform,
    /// A few are hot (--theta).
    Zipf,
}

/// See `meridian bench --help`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The door. RESP also drives any other server that speaks it.
    #[arg(long, value_enum, default_value_t = Door::Resp)]
    pub(super) door: Door,
    /// The table. Default: database 0 on RESP, bench.kv (created, lww) elsewhere.
    #[arg(long)]
    pub(super) table: Option<TableName>,
    /// Connections, spread over the addresses.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) clients: u32,
    /// Requests that a connection sends before it waits (RESP only).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub(super) pipeline: u32,
    /// Open loop: requests a second in all. Without it, closed loop.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rate: Option<u64>,
    /// Of a hundred requests, how many are gets; the others are puts.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) gets: u8,
    /// How many keys there are.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(super) keys: u64,
    /// How keys are drawn.
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub(super) distribution: Distribution,
    /// Skew of zipf: above 0, below 1.
    #[arg(long, default_value_t = 0.99)]
    pub(super) theta: f64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    pub(super) value_bytes: usize,
    /// How long to measure: 10s, 1m.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,
    /// Measures this many requests instead of a duration.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests: Option<u64>,
    /// Load before the measurement, not counted: 1s, 500ms.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(super) warmup: Duration,
    /// Consistency level. Default: the cluster's on RESP, local-quorum elsewhere.
    #[arg(long, value_name = "LEVEL")]
    pub(super) consistency: Option<ConsistencyLevel>,
    /// Writes every key once, first.
    #[arg(long)]
    pub(super) fill: bool,
    /// Seed of keys and of the mix.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Threads that generate load. Default: one per core.
    #[arg(long)]
    pub(super) threads: Option<usize>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

impl BenchArgs {
    /// What no single argument can say.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let refuse = |why: &str| Err(Failure::No(why.to_owned()));
        if self.pipeline > 1 && self.door != Door::Resp {
            return refuse("--pipeline needs --door resp; use more --clients on other doors");
        }
        if !(self.theta > 0.0 && self.theta < 1.0) {
            return refuse("--theta must be above 0 and below 1");
        }
        if self.value_bytes > Limits::DEFAULT.value_bytes {
            return refuse("--value-bytes is more than a value may have");
        }
        if self.threads == Some(0) {
            return refuse("--threads must be at least 1");
        }
        Ok(())
    }

    /// Level of doors that need one in every request.
    pub(super) fn level(&self) -> ConsistencyLevel {
        self.consistency.unwrap_or_default()
    }
}
