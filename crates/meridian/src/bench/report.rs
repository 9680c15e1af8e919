//! The figures, as a table or as JSON.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::args::BenchArgs;
use super::door::Connector;
use super::load::{Figures, UNIT_NANOS};
use crate::cli::output::{Failure, Output, table};

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

pub(super) fn print(
    args: &BenchArgs,
    connector: &Connector,
    figures: &Figures,
    output: Output,
) -> Result<(), Failure> {
    let errors: u64 = figures.errors.values().sum();
    let answered = figures.gets.len() + figures.puts.len();
    let rate = per_second(answered, figures.seconds);
    if output.json {
        return output.line(for_programs(args, connector, figures));
    }
    let mut rows = table([
        "",
        "requests",
        "per second",
        "mean",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "max",
    ]);
    for (name, histogram) in [("get", &figures.gets), ("put", &figures.puts)] {
        if histogram.is_empty() {
            continue;
        }
        let mut row = vec![
            name.to_owned(),
            histogram.len().to_string(),
            format!("{:.0}", per_second(histogram.len(), figures.seconds)),
            millis(histogram.mean()),
        ];
        let at = |(_, q): &(&str, f64)| millis(units(histogram.value_at_quantile(*q)));
        row.extend(QUANTILES.iter().map(at));
        row.push(millis(units(histogram.max())));
        rows.add_row(row);
    }
    output.line(rows)?;
    output.line(format_args!(
        "{rate:.0} requests/s on {} ({}, {} clients, pipeline {}), {:.1} s, latencies in ms",
        args.door.name(),
        mode(args),
        args.clients,
        args.pipeline,
        figures.seconds,
    ))?;
    if figures.unsent > 0 {
        output.line(format_args!(
            "the rate was not reached: {} requests were due and not sent",
            figures.unsent
        ))?;
    }
    for (name, count) in &figures.errors {
        output.line(format_args!("{count} requests failed: {name}"))?;
    }
    match errors {
        0 => Ok(()),
        errors => Err(Failure::Partial(format!("{errors} requests failed"))),
    }
}

fn for_programs(args: &BenchArgs, connector: &Connector, figures: &Figures) -> Value {
    let answered = figures.gets.len() + figures.puts.len();
    json!({
        "door": args.door.name(),
        "mode": mode(args),
        "clients": args.clients,
        "pipeline": args.pipeline,
        "target_rate": args.rate,
        "keys": args.keys,
        "value_bytes": args.value_bytes,
        "consistency": args.consistency.map(|level| level.name()),
        "addresses": connector.addresses(),
        "seconds": figures.seconds,
        "requests": answered,
        "requests_per_second": per_second(answered, figures.seconds),
        "get": latencies(&figures.gets, figures.seconds),
        "put": latencies(&figures.puts, figures.seconds),
        "unsent": figures.unsent,
        "errors": figures.errors.values().sum::<u64>(),
        "errors_by_name": figures.errors,
    })
}

fn mode(args: &BenchArgs) -> String {
    args.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("open loop at {rate}/s"))
}

fn latencies(histogram: &Histogram<u32>, seconds: f64) -> Value {
    let mut object = json!({
        "requests": histogram.len(),
        "requests_per_second": per_second(histogram.len(), seconds),
        "mean_ms": to_millis(histogram.mean()),
        "max_ms": to_millis(units(histogram.max())),
    });
    for (name, quantile) in QUANTILES {
        let value = to_millis(units(histogram.value_at_quantile(quantile)));
        object[format!("{name}_ms")] = Value::from(value);
    }
    object
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(f64::EPSILON)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn units(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "the unit is a small constant")]
fn to_millis(units: f64) -> f64 {
    units * UNIT_NANOS as f64 / 1e6
}

fn millis(units: f64) -> String {
    format!("{:.3}", to_millis(units))
}
