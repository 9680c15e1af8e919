//! `import`: JSON lines become rows, in bounded batches in flight; a failing row does not stop the
//! rest.

mod load;
mod read;

use std::fs::File;
use std::io::{BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use meridian_types::{ConflictPolicy, TableName, TableOptions};
use serde_json::json;
use tokio::sync::mpsc;

use super::connect::{ConnectArgs, LevelArgs, Session, is_unknown_table};
use super::output::{Failure, Output, say};
use super::schema;
use load::{Loader, Summary};
use read::{Piece, Reader};

/// Failed rows that are listed one by one; the rest is counted.
const LISTED: usize = 20;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// A file with one JSON object a line; `-` reads standard input.
    file: PathBuf,
    /// The table, like geo.cities. It is created where it is not there.
    #[arg(long)]
    table: TableName,
    /// The field that holds the key: a text or a number. The whole line is the value.
    #[arg(long, value_name = "FIELD")]
    key: String,
    /// Policy of a table that is created: lww takes the last import of a row, siblings keeps
    /// concurrent ones.
    #[arg(long, default_value = "lww", value_name = "POLICY")]
    create_table: ConflictPolicy,
    /// Batches in flight.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    concurrency: u16,
    /// Rows of a batch.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    #[command(flatten)]
    level: LevelArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn import(args: &ImportArgs, output: Output) -> Result<(), Failure> {
    let (input, bytes) = open(&args.file)?;
    let session = args.connect.open().await?;
    table(args, &session, output).await?;
    let bar = progress(bytes, output);
    let begun = Instant::now();
    let reader = Reader::new(BufReader::new(input), &args.key, usize::from(args.batch));
    let pieces = read_in_background(reader, usize::from(args.concurrency))?;
    let loader = Loader {
        session: &session,
        table: &args.table,
        level: args.level.consistency,
        in_flight: usize::from(args.concurrency),
        bar: &bar,
    };
    let (summary, stopped) = loader.load(pieces).await;
    bar.finish_and_clear();
    report(args, &summary, begun.elapsed().as_secs_f64(), output)?;
    match (stopped, summary.failed.len()) {
        (Some(failure), _) => Err(failure),
        (None, 0) => Ok(()),
        (None, failed) => Err(Failure::Partial(format!("{failed} rows were not stored"))),
    }
}

fn open(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let bytes = file.metadata().map_err(anyhow::Error::from)?.len();
    Ok((Box::new(file), Some(bytes)))
}

/// Makes sure that the table is there.
async fn table(args: &ImportArgs, session: &Session, output: Output) -> Result<(), Failure> {
    match schema::describe(session, &args.table).await {
        Ok(_) => return Ok(()),
        Err(failure) if is_unknown_table(&failure) => {}
        Err(failure) => return Err(failure),
    }
    let policy = args.create_table;
    let options = TableOptions { policy, ..TableOptions::default() };
    schema::create(session, &args.table, options, true, output).await?;
    output.note(format_args!("created table {} (policy {})", args.table, policy.name()));
    Ok(())
}

fn progress(bytes: Option<u64>, output: Output) -> ProgressBar {
    if output.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:40} {percent:>3}%  {msg}  {bytes}/{total_bytes}  {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {bytes}"),
    };
    // The templates are constants; one that were wrong would leave the default bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Reading and parsing have a thread of their own: input may block, and a batch is parsed while
/// others are under way.
fn read_in_background<R: Read + Send + 'static>(
    mut reader: Reader<BufReader<R>>,
    ahead: usize,
) -> Result<mpsc::Receiver<Piece>, Failure> {
    let (sender, receiver) = mpsc::channel(ahead);
    std::thread::Builder::new().name("read".to_owned()).spawn(move || {
        while let Some(piece) = reader.next_piece() {
            if sender.blocking_send(piece).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

fn report(
    args: &ImportArgs,
    summary: &Summary,
    seconds: f64,
    output: Output,
) -> Result<(), Failure> {
    let Summary { rows, bytes, failed } = summary;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = *rows as f64 / seconds.max(f64::EPSILON);
    if output.json {
        let failed: Vec<_> =
            failed.iter().map(|f| json!({ "line": f.line, "message": f.why })).collect();
        return output.line(json!({
            "table": args.table.as_str(),
            "consistency": args.level.consistency.name(),
            "rows": rows,
            "bytes": bytes,
            "seconds": seconds,
            "rows_per_second": rate,
            "errors": failed.len(),
            "failed": failed,
        }));
    }
    for one in failed.iter().take(LISTED) {
        say(format_args!("line {}: {}", one.line, one.why));
    }
    if failed.len() > LISTED {
        say(format_args!("... and {} more", failed.len() - LISTED));
    }
    output.line(format_args!(
        "{rows} rows into {} in {seconds:.1} s ({rate:.0} rows/s) at {}, {} errors",
        args.table,
        args.level.consistency,
        failed.len()
    ))
}
