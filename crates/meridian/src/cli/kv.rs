//! `get`, `put`, `del`: one key.

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use meridian_service::{
    Condition, Delete, Expiry, Get, GetOutcome, Outcome, Put, PutItem, PutOutcome, Request,
};
use meridian_types::{Millis, TableName, WriteId};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::connect::{ConnectArgs, LevelArgs, duration};
use super::output::{Failure, Output};
use super::show;

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The table, like geo.cities.
    table: TableName,
    /// The key.
    key: String,
    #[command(flatten)]
    level: LevelArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// The table, like geo.cities.
    table: TableName,
    /// The key.
    key: String,
    /// The value; `-` reads it from standard input.
    value: String,
    /// What was read of this key, as `get` printed it: the write replaces that and nothing else.
    #[arg(long, default_value = "", hide_default_value = true)]
    context: String,
    /// Reads the key first, at the same level, and replaces what is read: `get` and `--context` in
    /// one step.
    #[arg(long, conflicts_with = "context")]
    replace: bool,
    /// How long the value is visible: 500ms, 2s, 1m, 3h, 1d.
    #[arg(long, value_parser = duration)]
    ttl: Option<std::time::Duration>,
    /// Only if the key has no value.
    #[arg(long, conflicts_with = "if_present")]
    if_absent: bool,
    /// Only if the key has a value.
    #[arg(long)]
    if_present: bool,
    #[command(flatten)]
    level: LevelArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub(super) struct DelArgs {
    /// The table, like geo.cities.
    table: TableName,
    /// The key.
    key: String,
    /// What was read of this key, as `get` printed it: only that is deleted.
    #[arg(long, default_value = "", hide_default_value = true)]
    context: String,
    #[command(flatten)]
    level: LevelArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn get(args: &GetArgs, output: Output) -> Result<(), Failure> {
    let session = args.connect.open().await?;
    let got = session.ask(get_of(&args.table, &args.key, &args.level), got).await?;
    if output.json {
        output.line(for_programs(args, &got))?;
    } else {
        for_people(args, &got, output)?;
    }
    match got.values.len() {
        0 => Err(Failure::No(format!("`{}` has no value in {}", args.key, args.table))),
        _ => Ok(()),
    }
}

fn get_of(table: &TableName, key: &str, level: &LevelArgs) -> Request {
    Request::Get(Get {
        table: table.clone(),
        key: Bytes::from(key.to_owned()),
        consistency: level.consistency,
        with_context: true,
    })
}

fn got(outcome: Outcome) -> Option<GetOutcome> {
    match outcome {
        Outcome::Got(got) => Some(got),
        _ => None,
    }
}

fn for_programs(args: &GetArgs, got: &GetOutcome) -> Value {
    json!({
        "table": args.table.as_str(),
        "key": args.key,
        "values": show::values(&got.values),
        "context": got.context.as_ref().map(show::context),
    })
}

fn for_people(args: &GetArgs, got: &GetOutcome, output: Output) -> Result<(), Failure> {
    let context = got.context.as_ref().map(show::context);
    match got.values.as_slice() {
        [] => {}
        [only] => {
            output.line(show::text(&only.value))?;
            output.note(show::when(only));
        }
        several => {
            output.line(format_args!("{} concurrent values:", several.len()))?;
            for (read, number) in several.iter().zip(1..) {
                let (value, when) = (show::text(&read.value), show::when(read));
                output.line(format_args!("{number}  {value}  ({when})"))?;
            }
            output.note(format_args!(
                "a put with this context replaces them: meridian put {} {} VALUE --context ...",
                args.table, args.key
            ));
        }
    }
    if let Some(context) = context {
        output.note(format_args!("context: {context}"));
    }
    Ok(())
}

pub(super) async fn put(args: &PutArgs, output: Output) -> Result<(), Failure> {
    let condition = match (args.if_absent, args.if_present) {
        (true, _) => Some(Condition::Absent),
        (_, true) => Some(Condition::Present),
        _ => None,
    };
    let session = args.connect.open().await?;
    let context = if args.replace {
        session.ask(get_of(&args.table, &args.key, &args.level), got).await?.context
    } else {
        show::parse_context(&args.context)?
    };
    let item = PutItem {
        key: Bytes::from(args.key.clone()),
        value: Some(value(&args.value)?),
        expiry: match args.ttl {
            Some(ttl) => {
                Expiry::At(now()?.plus(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)))
            }
            None => Expiry::TableDefault,
        },
        context,
        write_id: Some(new_write_id()),
    };
    let request = Request::Put(Put {
        table: args.table.clone(),
        item,
        condition,
        consistency: args.level.consistency,
        with_context: true,
    });
    let put = session.ask(request, written).await?;
    if output.json {
        output.line(written_json(&put))?;
    } else if put.applied {
        output.line("stored")?;
        if let Some(context) = &put.context {
            output.note(format_args!("context: {}", show::context(context)));
        }
    }
    match (put.applied, condition) {
        (false, Some(Condition::Present)) => {
            Err(Failure::No(format!("nothing was written: `{}` has no value", args.key)))
        }
        (false, _) => Err(Failure::No(format!("nothing was written: `{}` has a value", args.key))),
        (true, _) => Ok(()),
    }
}

pub(super) async fn del(args: &DelArgs, output: Output) -> Result<(), Failure> {
    let session = args.connect.open().await?;
    let request = Request::Delete(Delete {
        table: args.table.clone(),
        key: Bytes::from(args.key.clone()),
        context: show::parse_context(&args.context)?,
        write_id: Some(new_write_id()),
        consistency: args.level.consistency,
        report_existed: true,
    });
    let deleted = session.ask(request, written).await?;
    let said = match deleted.existed {
        Some(false) => "deleted; there was no value",
        _ => "deleted",
    };
    output.answer(&written_json(&deleted), said)
}

fn written(outcome: Outcome) -> Option<PutOutcome> {
    match outcome {
        Outcome::Put(put) => Some(put),
        _ => None,
    }
}

fn written_json(put: &PutOutcome) -> Value {
    let mut object = Map::new();
    object.insert("applied".to_owned(), put.applied.into());
    object.insert("existed".to_owned(), put.existed.into());
    object.insert("stamp".to_owned(), put.stamp.to_string().into());
    object.insert("context".to_owned(), json!(put.context.as_ref().map(show::context)));
    Value::from(object)
}

fn value(text: &str) -> Result<Bytes, Failure> {
    if text != "-" {
        return Ok(Bytes::from(text.to_owned()));
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("standard input cannot be read")?;
    Ok(Bytes::from(bytes))
}

/// A new write's name: the same in every retry, so that the write is stored once.
pub(crate) fn new_write_id() -> WriteId {
    WriteId(Uuid::now_v7())
}

fn now() -> Result<Millis, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.context("this machine's clock stands before 1970")?;
    Ok(Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}
