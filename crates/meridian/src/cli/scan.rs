//! `scan`: the rows of a table, page by page, in the order of the ring.

use bytes::Bytes;
use clap::Args;
use meridian_service::{Outcome, Request, Scan, ScanRow};
use meridian_types::TableName;
use serde_json::{Map, Value};

use super::connect::{ConnectArgs, LevelArgs};
use super::output::{Failure, Output};
use super::show;

/// Rows of one page.
const PAGE: usize = 500;

/// Most characters of a value that people are shown.
const SHOWN: usize = 100;

#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    /// The table, like geo.cities.
    table: TableName,
    /// Only keys that start with this.
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Most rows.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// All rows.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Keys alone, without values.
    #[arg(long)]
    keys: bool,
    #[command(flatten)]
    level: LevelArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn scan(args: &ScanArgs, output: Output) -> Result<(), Failure> {
    let session = args.connect.open().await?;
    let mut left = if args.all { usize::MAX } else { args.limit };
    let (mut cursor, mut rows) = (None, 0);
    while left > 0 {
        let request = Request::Scan(Scan {
            table: args.table.clone(),
            cursor,
            limit: left.min(PAGE),
            prefix: Bytes::from(args.prefix.clone()),
            with_values: !args.keys,
            consistency: args.level.consistency,
        });
        let page = session.ask(request, |outcome| match outcome {
            Outcome::Page(page) => Some(page),
            _ => None,
        });
        let page = page.await?;
        for row in &page.rows {
            row_line(row, args.keys, output)?;
        }
        rows += page.rows.len();
        left = left.saturating_sub(page.rows.len());
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let more = if cursor.is_some() { ", there are more (--limit, --all)" } else { "" };
    output.note(format_args!("{rows} rows{more}"));
    Ok(())
}

fn row_line(row: &ScanRow, keys_only: bool, output: Output) -> Result<(), Failure> {
    if output.json {
        let mut object = Map::new();
        show::put_bytes(&mut object, "key", &row.key);
        if !keys_only {
            object.insert("values".to_owned(), show::values(&row.values).into());
        }
        return output.line(Value::from(object));
    }
    let key = show::text(&row.key);
    if keys_only {
        return output.line(key);
    }
    for (read, number) in row.values.iter().zip(1..) {
        let value = shorten(show::text(&read.value));
        match row.values.len() {
            1 => output.line(format_args!("{key}  {value}"))?,
            several => output.line(format_args!("{key} ({number} of {several})  {value}"))?,
        }
    }
    Ok(())
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(super::shorten("ü".repeat(100)), "ü".repeat(100));
        assert_eq!(super::shorten("ü".repeat(101)), format!("{}...", "ü".repeat(100)));
    }
}
