//! `meridian chaos figures`: what healing costs, counted in simulated worlds.

use clap::{Args, ValueEnum};
use meridian_chaos::figures::{self, Figure, FigureError};
use meridian_chaos::sim::Micros;
use serde_json::{Map, Value, json};

use super::output::{Failure, Output, table};

#[derive(Debug, Args)]
pub(super) struct FiguresArgs {
    /// Only these figures. Default: all of them.
    #[arg(value_enum)]
    only: Vec<Wanted>,
    /// Keys of the recovery. A million takes a gigabyte of memory and a minute.
    #[arg(long, default_value_t = 20_000)]
    keys: u64,
    /// Keys of them that differ.
    #[arg(long, default_value_t = 100)]
    differing: u64,
    /// How long the datacenter is cut off.
    #[arg(long, default_value = "10m")]
    cut: Micros,
    /// How long the node is away.
    #[arg(long, default_value = "60m")]
    away: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// What replicas say to each other while nothing differs.
    InSync,
    /// A few rows of many differ after a heal.
    Recovery,
    /// A datacenter is cut off under load.
    Cut,
    /// Hints of a long absence.
    Hints,
}

pub(super) fn run(args: &FiguresArgs, output: Output) -> Result<(), Failure> {
    for wanted in Wanted::value_variants() {
        if !args.only.is_empty() && !args.only.contains(wanted) {
            continue;
        }
        let figure = find(*wanted, args).map_err(|error| Failure::Other(error.into()))?;
        let mut rows = table([figure.name, ""]);
        for (name, value) in &figure.values {
            rows.add_row([name.clone(), shown(*value)]);
        }
        let person = format!("{}\n{rows}", figure.about);
        output.answer(&as_json(&figure), person)?;
    }
    Ok(())
}

fn find(wanted: Wanted, args: &FiguresArgs) -> Result<Figure, FigureError> {
    match wanted {
        Wanted::InSync => figures::in_sync(),
        Wanted::Recovery => figures::recovery(args.keys, args.differing),
        Wanted::Cut => figures::cut(args.cut),
        Wanted::Hints => figures::hints(args.away),
    }
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.2}") }
}

fn as_json(figure: &Figure) -> Value {
    let values: Map<_, _> =
        figure.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({ "figure": figure.name, "about": figure.about, "values": values })
}
