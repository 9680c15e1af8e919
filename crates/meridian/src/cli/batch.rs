//! `batch`: many writes of one keyspace, all or none of them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use meridian_service::{AtomicBatch, Expiry, Outcome, PutItem, Request, TableWrite};
use meridian_types::TableName;
use serde::Deserialize;
use serde_json::json;

use super::connect::{ConnectArgs, LevelArgs};
use super::kv::new_write_id;
use super::output::{Failure, Output};
use super::show;

#[derive(Debug, Args)]
pub(super) struct BatchArgs {
    /// A file with one JSON object a line: `{"table": "geo.cities", "key": "k", "value": "v"}`,
    /// without a value to delete, with `"context"` as `get` printed it to replace what was read;
    /// `-` reads standard input.
    file: PathBuf,
    #[command(flatten)]
    level: LevelArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    table: TableName,
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    context: String,
}

pub(super) async fn batch(args: &BatchArgs, output: Output) -> Result<(), Failure> {
    let writes = read(&args.file)?;
    let session = args.connect.open().await?;
    let count = writes.len();
    let request = Request::AtomicBatch(AtomicBatch { writes, consistency: args.level.consistency });
    let done = session.ask(request, |outcome| match outcome {
        Outcome::Batch(batch) => Some(batch),
        _ => None,
    });
    let stamps: Vec<String> =
        done.await?.results.into_iter().flatten().map(|put| put.stamp.to_string()).collect();
    output.answer(&json!({ "written": count, "stamps": stamps }), format!("{count} written"))
}

fn read(path: &Path) -> Result<Vec<TableWrite>, Failure> {
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("{} cannot be read", path.display()))?)
    };
    let mut writes = Vec::new();
    for (number, line) in BufReader::new(input).lines().enumerate() {
        let line = line.with_context(|| format!("{} cannot be read", path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let Line { table, key, value, context } = serde_json::from_str(&line)
            .with_context(|| format!("{}, line {}", path.display(), number + 1))?;
        let item = PutItem {
            key: Bytes::from(key),
            value: value.map(Bytes::from),
            expiry: Expiry::TableDefault,
            context: show::parse_context(&context)?,
            write_id: Some(new_write_id()),
        };
        writes.push(TableWrite { table, item });
    }
    Ok(writes)
}
