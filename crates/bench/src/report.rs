//! The plan of a run, the rounds through all engines, the medians, and the table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::child::{Group, Job, scratch};
use crate::engine::Kind;
use crate::lines;
use crate::measure::{Figures, Outcome};

#[derive(Args, Clone, Debug)]
pub(crate) struct Plan {
    /// The peers to measure beside `lsm`.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "fjall,sled,redb")]
    against: Vec<Kind>,
    /// Only `lsm`.
    #[arg(long, conflicts_with = "against")]
    alone: bool,
    /// Keys.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value: usize,
    /// Repetitions; the table shows their medians.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// 100,000 keys, once.
    #[arg(long)]
    quick: bool,
    /// Only these lines.
    #[arg(long, value_delimiter = ',')]
    lines: Vec<String>,
    /// Print the figures of all repetitions as JSON.
    #[arg(long)]
    json: bool,
    /// Where the stores go; the disk that is measured.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// The repetitions of one engine.
#[derive(Debug, Default, Serialize)]
struct Taken {
    lines: BTreeMap<String, Vec<Figures>>,
    scalars: BTreeMap<String, Vec<f64>>,
}

type Results = BTreeMap<Kind, Taken>;

pub(crate) fn run(plan: &Plan) -> Result<()> {
    let plan = plan.clone().effective()?;
    let results = plan.measure()?;
    if plan.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
        return Ok(());
    }
    println!(
        "{} keys of {} bytes with values of {} bytes, medians of {} runs; ratio: lsm to the best \
         peer, above 1 is better than it\n",
        plan.keys,
        crate::work::KEY_BYTES,
        plan.value,
        plan.runs
    );
    println!("{}\n", plan.rates(&results));
    println!("{}\n", plan.latencies(&results));
    println!("{}", plan.scalars(&results));
    Ok(())
}

impl Plan {
    fn effective(mut self) -> Result<Self> {
        if self.quick {
            (self.keys, self.runs) = (100_000, 1);
        }
        ensure!(self.keys >= 100 && self.runs >= 1, "at least 100 keys and one run");
        for line in &self.lines {
            ensure!(lines::all().any(|known| known == line), "there is no line {line}");
        }
        if self.lines.is_empty() {
            self.lines = lines::all().map(str::to_owned).collect();
        }
        Ok(self)
    }

    fn engines(&self) -> Vec<Kind> {
        let mut engines = vec![Kind::Lsm];
        if !self.alone {
            engines.extend(self.against.iter().filter(|kind| **kind != Kind::Lsm));
        }
        engines
    }

    /// Round robin: repetition by repetition, group by group, engine by engine.
    fn measure(&self) -> Result<Results> {
        let mut results = Results::new();
        let groups = Group::ALL.into_iter().filter(|g| self.lines.iter().any(|l| g.has(l)));
        let groups: Vec<Group> = groups.collect();
        let engines = self.engines();
        let bar = ProgressBar::new((self.runs * groups.len() * engines.len()) as u64);
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed}")?);
        for run in 0..self.runs {
            for group in &groups {
                for engine in &engines {
                    bar.set_message(format!("{} {} {}", run + 1, group.name(), engine.name()));
                    bar.tick();
                    let outcome = self.in_a_child(*engine, *group)?;
                    results.entry(*engine).or_default().add(outcome);
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        Ok(results)
    }

    fn in_a_child(&self, engine: Kind, group: Group) -> Result<Outcome> {
        let under = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = scratch(&under)?;
        let job = Job {
            engine,
            group,
            keys: self.keys,
            value: self.value,
            lines: self.lines.clone(),
            dir: dir.path().join("store"),
        };
        let output = Command::new(std::env::current_exe()?)
            .args(["child", "--engine", engine.name(), "--group", group.name()])
            .args(["--keys", &job.keys.to_string(), "--value", &job.value.to_string()])
            .args(["--lines", &job.lines.join(",")])
            .arg("--dir")
            .arg(&job.dir)
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "{} failed in {}", engine.name(), group.name());
        serde_json::from_slice(&output.stdout).context("what the child printed")
    }

    fn header(&self, first: &str) -> Vec<String> {
        let engines = self.engines();
        let names = engines.iter().map(|kind| kind.name().to_owned());
        let ratio = (engines.len() > 1).then(|| "ratio".to_owned());
        std::iter::once(first.to_owned()).chain(names).chain(ratio).collect()
    }

    fn row(&self, results: &Results, label: &str, of: &dyn Fn(&Taken) -> Option<f64>) -> Row {
        let all = self.engines().into_iter().map(|kind| results.get(&kind).and_then(of));
        Row { label: label.to_owned(), values: all.collect() }
    }

    fn rates(&self, results: &Results) -> Table {
        let mut table = markdown(self.header("kops/s"));
        for line in lines::all().filter(|line| self.lines.iter().any(|l| l == line)) {
            let rate = |taken: &Taken| taken.median(line, |figures| figures.rate / 1000.0);
            table.add_row(self.row(results, line, &rate).cells(true));
        }
        table
    }

    fn latencies(&self, results: &Results) -> Table {
        let mut table = markdown(self.header("µs"));
        type Pick = fn(&Figures) -> f64;
        let picks: [(&str, Pick); 4] =
            [("p50", |f| f.p50), ("p99", |f| f.p99), ("p99.9", |f| f.p999), ("worst", |f| f.worst)];
        for line in lines::all().filter(|line| self.lines.iter().any(|l| l == line)) {
            for (name, pick) in picks {
                let of = |taken: &Taken| taken.median(line, pick);
                let row = self.row(results, &format!("{line} {name}"), &of);
                table.add_row(row.cells(false));
            }
        }
        table
    }

    fn scalars(&self, results: &Results) -> Table {
        let mut table = markdown(self.header("the rest"));
        let names: std::collections::BTreeSet<&String> =
            results.values().flat_map(|taken| taken.scalars.keys()).collect();
        for name in names {
            let of = |taken: &Taken| taken.scalars.get(name).and_then(|all| median(all.clone()));
            table.add_row(self.row(results, name, &of).cells(false));
        }
        table
    }
}

impl Taken {
    fn add(&mut self, outcome: Outcome) {
        for (line, figures) in outcome.lines {
            self.lines.entry(line).or_default().push(figures);
        }
        for scalar in outcome.scalars {
            self.scalars.entry(scalar.name).or_default().push(scalar.value);
        }
    }

    fn median(&self, line: &str, pick: impl Fn(&Figures) -> f64) -> Option<f64> {
        median(self.lines.get(line)?.iter().map(pick).collect())
    }
}

fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let high = all.get(all.len() / 2)?;
    let low = all.get(all.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*low, *high))
}

/// One line of a table: `lsm` first, then its peers.
struct Row {
    label: String,
    values: Vec<Option<f64>>,
}

impl Row {
    /// How `lsm` compares with the best peer; above 1 is better.
    fn ratio(&self, more_is_better: bool) -> Option<f64> {
        let own = self.values.first().copied().flatten()?;
        let peers = self.values.iter().skip(1).copied().flatten();
        if more_is_better {
            peers.max_by(f64::total_cmp).map(|best| own / best)
        } else {
            peers.min_by(f64::total_cmp).map(|best| best / own)
        }
    }

    fn cells(&self, more_is_better: bool) -> Vec<String> {
        let figures = self.values.iter().map(|value| value.map_or("-".to_owned(), short));
        let mut cells: Vec<String> = std::iter::once(self.label.clone()).chain(figures).collect();
        if self.values.len() > 1 {
            let ratio = self.ratio(more_is_better);
            cells.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
        }
        cells
    }
}

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn markdown(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No times here: that every engine answers right is what the lines check.
    #[test]
    fn every_engine_gives_right_answers() {
        for engine in [Kind::Lsm, Kind::Fjall, Kind::Sled, Kind::Redb] {
            for group in Group::ALL {
                let dir = scratch(&std::env::temp_dir()).unwrap();
                let lines: Vec<String> = lines::all().map(str::to_owned).collect();
                let dir = dir.path().join("store");
                let job = Job { engine, group, keys: 2000, value: 100, lines, dir };
                let outcome = crate::child::outcome(&job).unwrap();
                let expected = lines::all().filter(|line| group.has(line)).count();
                assert_eq!(outcome.lines.len(), expected, "{engine:?} {group:?}");
            }
        }
    }

    #[test]
    fn the_ratio_is_to_the_best_peer() {
        let row = |values: &[f64]| Row {
            label: String::new(),
            values: values.iter().copied().map(Some).collect(),
        };
        assert_eq!(row(&[6.0, 2.0, 3.0]).ratio(true), Some(2.0));
        assert_eq!(row(&[6.0, 2.0, 3.0]).ratio(false), Some(2.0 / 6.0));
        assert_eq!(row(&[6.0]).ratio(true), None);
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
    }
}
