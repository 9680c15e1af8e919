//! `meridian chaos`: runs simulated worlds that are made to go wrong.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use meridian_chaos::parallel::run_seeds;
use meridian_chaos::run::{Case, Checked, Outcome, Seeds, Verdict, Violation};
use meridian_chaos::scenario::{self, InvariantName, Scenario};
use meridian_chaos::schedule::Kept;
use meridian_chaos::shrink::{Shrunk, shrunk};
use meridian_chaos::sim::{Micros, Order, Trace};
use meridian_chaos::simulate::simulate;
use serde_json::{Value, json};

use super::figures::{self, FiguresArgs};
use super::output::{Failure, Output, table};

/// The scenario that is run where none is named.
const DEFAULT_SCENARIO: &str = "mixed";

/// How many failing or undecided seeds are listed one by one.
const LISTED: usize = 20;

#[derive(Debug, Args)]
pub(super) struct ChaosArgs {
    #[command(subcommand)]
    command: ChaosCommand,
}

#[derive(Debug, Subcommand)]
enum ChaosCommand {
    /// Runs a scenario in a simulated world, once for each seed. Exit codes: 0 all pass; 1 one
    /// fails; 2 too many of them could not be decided.
    Sim(SimArgs),
    /// Counts what healing costs: messages, bytes and simulated time. docs/healing.md has them.
    Figures(FiguresArgs),
}

#[derive(Debug, Args)]
struct SimArgs {
    /// A scenario that comes with the program (--list), or the path of a file.
    #[arg(long, default_value = DEFAULT_SCENARIO, value_name = "NAME|FILE")]
    scenario: String,
    /// The seeds: a number, or like 1..1000 with both ends included. Default: the scenario's own.
    #[arg(long)]
    seeds: Option<Seeds>,
    /// Only these faults of the schedule, each with the longest time that it may last if less than
    /// planned: `3,17:500ms`; or `none`.
    #[arg(long)]
    faults: Option<Kept>,
    /// Only so many of the clients.
    #[arg(long)]
    clients: Option<u32>,
    /// Clients stop, and no fault begins, after this time: `12s`.
    #[arg(long)]
    until: Option<Micros>,
    /// Seeds that run beside each other. Default: one for each core.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Writes everything that happens to a file. For a single seed.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Prints the faults of each seed, and runs nothing.
    #[arg(long)]
    schedule: bool,
    /// Lists the scenarios that come with the program.
    #[arg(long)]
    list: bool,
}

pub(super) fn run(args: ChaosArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        ChaosCommand::Sim(args) if args.list => list(output),
        ChaosCommand::Sim(args) => sim(&args, output),
        ChaosCommand::Figures(args) => figures::run(&args, output),
    }
}

fn list(output: Output) -> Result<(), Failure> {
    let scenarios =
        scenario::shipped().collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::new)?;
    let mut rows = table(["scenario", "what", "simulated", "seeds in CI"]);
    for Scenario { name, about, sim, heal, seeds_ci, .. } in &scenarios {
        rows.add_row([name, about, &format!("{sim} + {heal}"), &seeds_ci.to_string()]);
    }
    let of = |scenario: &Scenario| json!({ "name": scenario.name, "about": scenario.about });
    output.answer(&scenarios.iter().map(of).collect(), rows)
}

fn read_scenario(named: &str) -> Result<Scenario, Failure> {
    let path = Path::new(named);
    let read = if path.extension().is_some_and(|extension| extension == "toml") {
        let text = std::fs::read_to_string(path);
        Scenario::parse(&text.with_context(|| format!("reading {named}"))?)
    } else {
        scenario::named(named)
    };
    read.map_err(|error| Failure::Other(error.into()))
}

fn sim(args: &SimArgs, output: Output) -> Result<(), Failure> {
    let scenario = Arc::new(read_scenario(&args.scenario)?);
    let seeds = match args.seeds {
        Some(seeds) => seeds,
        None => Seeds { first: 1, last: u64::from(scenario.seeds_ci.max(1)) },
    };
    let whole = Case {
        kept: args.faults.clone(),
        clients: args.clients,
        until: args.until,
        ..Case::whole(Arc::clone(&scenario), &args.scenario, seeds.first)
    };
    if args.schedule {
        return show_schedules(&whole, seeds, output);
    }
    if args.trace.is_some() && seeds.count() > 1 {
        return Err(Failure::No("--trace is for a single seed".to_owned()));
    }
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok());
    let jobs = jobs.unwrap_or(NonZeroUsize::MIN);
    let bar = progress(seeds, output);
    let mut tally = Tally::default();
    let of = |seed| Case { seed, ..whole.clone() };
    let one = |seed| -> Result<Outcome, Failure> {
        let trace = match &args.trace {
            Some(path) => Trace::writing_to(Box::new(BufWriter::new(File::create(path)?))),
            None => Trace::default(),
        };
        Ok(judged(&of(seed), trace))
    };
    let mut broken = None;
    run_seeds(seeds, jobs, one, |seed, outcome| match outcome {
        Ok(outcome) => {
            tally.count(seed, outcome);
            bar.set_message(format!(
                "{} failed, {} unknown",
                tally.failed.len(),
                tally.unknown.len()
            ));
            bar.inc(1);
            ControlFlow::Continue(())
        }
        Err(failure) => {
            broken = Some(failure);
            ControlFlow::Break(())
        }
    });
    bar.finish_and_clear();
    if let Some(failure) = broken {
        return Err(failure);
    }
    let smallest = match tally.failed.first_key_value() {
        None => None,
        Some((&seed, (violation, _))) => {
            output.note(format_args!("seed {seed} fails; looking for a smaller history like it"));
            let run = |case: &Case| judged(case, Trace::default()).verdict;
            let small = shrunk(&of(seed), violation.clone(), run);
            Some(small.map_err(|error| Failure::Other(error.into()))?)
        }
    };
    report(&scenario, seeds, &tally, smallest.as_ref(), output)
}

fn judged(case: &Case, trace: Trace) -> Outcome {
    simulate(case, Order::Seeded, trace)
}

fn show_schedules(whole: &Case, seeds: Seeds, output: Output) -> Result<(), Failure> {
    for seed in seeds.first..=seeds.last {
        let schedule = Case { seed, ..whole.clone() }.schedule().map_err(anyhow::Error::new)?;
        let text = schedule.text(whole.scenario.shape.topology());
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        output.answer(
            &json!({ "seed": seed, "faults": lines }),
            format_args!("seed {seed}\n{text}"),
        )?;
    }
    Ok(())
}

fn progress(seeds: Seeds, output: Output) -> ProgressBar {
    if output.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(seeds.count());
    // The template is a constant; one that were wrong would leave the default bar.
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds  {msg}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

/// What came of all seeds so far.
#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: BTreeMap<u64, (Violation, Outcome)>,
    unknown: BTreeMap<u64, String>,
    checked: BTreeMap<InvariantName, Checked>,
    /// Of a single seed: the hash of its trace.
    trace_hash: u64,
}

impl Tally {
    fn count(&mut self, seed: u64, outcome: Outcome) {
        self.trace_hash = outcome.trace_hash;
        for (invariant, checked) in &outcome.checked {
            let sum = self.checked.entry(*invariant).or_default();
            sum.times += checked.times;
            sum.excused += checked.excused;
        }
        match &outcome.verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Unknown(why) => drop(self.unknown.insert(seed, why.clone())),
            Verdict::Fail(violation) => {
                drop(self.failed.insert(seed, (violation.clone(), outcome)));
            }
        }
    }

    /// The verdict over all seeds; 0, 1 and 2 as exit codes.
    fn end(&self, scenario: &Scenario, seeds: Seeds) -> Result<(), Failure> {
        let wanted = |violation: &Violation| Some(violation.invariant) == scenario.expect.violation;
        let others = self.failed.values().filter(|(violation, _)| !wanted(violation)).count();
        if others > 0 {
            return Err(Failure::Partial(format!("{others} of {} seeds fail", seeds.count())));
        }
        if let Some(invariant) = scenario.expect.violation.filter(|_| self.failed.is_empty()) {
            let what = format!("{invariant} was expected to fail, and holds for every seed");
            return Err(Failure::Partial(what));
        }
        for (invariant, Checked { times, excused }) in &self.checked {
            if excused * 1_000 > times * u64::from(scenario.expect.excused_max_permille) {
                let what = format!("{invariant}: {excused} of {times} were excused");
                return Err(Failure::Partial(what));
            }
        }
        let unknown = self.unknown.len() as u64;
        if unknown * 100 > seeds.count() * u64::from(scenario.expect.unknown_max_percent) {
            let what = format!("{unknown} of {} seeds could not be decided", seeds.count());
            return Err(Failure::Undecided(what));
        }
        Ok(())
    }
}

fn report(
    scenario: &Scenario,
    seeds: Seeds,
    tally: &Tally,
    smallest: Option<&Shrunk>,
    output: Output,
) -> Result<(), Failure> {
    if output.json {
        output.line(as_json(scenario, tally, smallest))?;
    } else {
        as_text(scenario, tally, smallest, output)?;
    }
    if seeds.count() == 1 && !output.json {
        output.line(format_args!("trace {:016x}", tally.trace_hash))?;
    }
    tally.end(scenario, seeds)
}

fn as_json(scenario: &Scenario, tally: &Tally, smallest: Option<&Shrunk>) -> Value {
    let failed: Vec<_> = tally
        .failed
        .iter()
        .map(|(seed, (violation, _))| {
            json!({ "seed": seed, "invariant": violation.invariant.name(), "what": violation.what })
        })
        .collect();
    let unknown: Vec<_> =
        tally.unknown.iter().map(|(seed, why)| json!({ "seed": seed, "why": why })).collect();
    let checked: BTreeMap<_, _> = tally
        .checked
        .iter()
        .map(|(name, c)| (name.name(), json!({ "times": c.times, "excused": c.excused })))
        .collect();
    json!({
        "scenario": scenario.name,
        "passed": tally.passed,
        "failed": failed,
        "unknown": unknown,
        "checked": checked,
        "replay": smallest.map(|small| small.case.replay()),
    })
}

fn as_text(
    scenario: &Scenario,
    tally: &Tally,
    smallest: Option<&Shrunk>,
    output: Output,
) -> Result<(), Failure> {
    let mut rows = table(["invariant", "checked", "excused"]);
    for (invariant, Checked { times, excused }) in &tally.checked {
        rows.add_row([invariant.name().to_owned(), times.to_string(), excused.to_string()]);
    }
    output.line(rows)?;
    let (failed, unknown) = (tally.failed.len(), tally.unknown.len());
    let Scenario { name, .. } = scenario;
    output.line(format_args!(
        "{name}: {} passed, {failed} failed, {unknown} unknown",
        tally.passed
    ))?;
    for (seed, (violation, _)) in tally.failed.iter().take(LISTED) {
        output.line(format_args!("seed {seed}: {violation}"))?;
    }
    for (seed, why) in tally.unknown.iter().take(LISTED) {
        output.line(format_args!("seed {seed}: unknown: {why}"))?;
    }
    let Some(small) = smallest else { return Ok(()) };
    if let Some((_, (_, outcome))) = tally.failed.first_key_value() {
        output.line(format_args!("\nthe end of its trace:\n{}", outcome.last_lines.join("\n")))?;
    }
    let schedule = small.case.schedule().map_err(anyhow::Error::new)?;
    let faults = schedule.text(scenario.shape.topology());
    output.line(format_args!(
        "\nthe smallest history like it ({} runs): {}\n{faults}\n{}",
        small.runs,
        small.violation,
        small.case.replay()
    ))
}
