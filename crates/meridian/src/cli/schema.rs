//! `table` and `keyspace`: what there is, and what is created.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use meridian_service::{CreateKeyspace, CreateTable, Outcome, Request, TableView};
use meridian_types::{
    Compaction, Compression, ConflictPolicy, KeyspaceDef, TableDef, TableName, TableOptions,
};
use serde_json::{Value, json};

use super::connect::{ConnectArgs, Session, duration};
use super::output::{Failure, Output, table};

#[derive(Debug, Args)]
pub(super) struct TableArgs {
    #[command(subcommand)]
    command: TableCommand,
}

#[derive(Debug, Subcommand)]
enum TableCommand {
    /// Creates a table, and its keyspace where that is not there.
    Create {
        /// Its name, like geo.cities.
        name: TableName,
        /// How concurrent writes become one: siblings keeps all, lww the last.
        #[arg(long, default_value = "siblings")]
        policy: ConflictPolicy,
        /// How long values without a TTL of their own are visible.
        #[arg(long, value_parser = duration)]
        ttl: Option<Duration>,
        /// none, lz4, snappy or zstd.
        #[arg(long, default_value = "lz4")]
        compression: Compression,
        /// leveled, size_tiered, time_window or hybrid.
        #[arg(long, default_value = "leveled")]
        compaction: Compaction,
        /// A table of that name is fine, whatever its options.
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Lists keyspaces and tables.
    List(ConnectArgs),
    /// Describes one table.
    Describe {
        /// Its name.
        name: TableName,
        #[command(flatten)]
        connect: ConnectArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct KeyspaceArgs {
    #[command(subcommand)]
    command: KeyspaceCommand,
}

#[derive(Debug, Subcommand)]
enum KeyspaceCommand {
    /// Creates a keyspace.
    Create {
        /// Its name.
        name: String,
        /// Replicas by datacenter: us=3,eu=3. Default: as the cluster's shape says.
        #[arg(long, value_delimiter = ',', value_parser = replicas)]
        replication: Vec<(String, u8)>,
        /// A keyspace of that name is fine.
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        connect: ConnectArgs,
    },
}

fn replicas(text: &str) -> Result<(String, u8), String> {
    let parts = text.split_once('=').and_then(|(dc, n)| Some((dc.to_owned(), n.parse().ok()?)));
    parts.ok_or_else(|| format!("`{text}` is no datacenter=replicas, like us=3"))
}

pub(super) async fn keyspace(args: KeyspaceArgs, output: Output) -> Result<(), Failure> {
    let KeyspaceCommand::Create { name, replication, if_not_exists, connect } = args.command;
    let session = connect.open().await?;
    let replication = replication.into_iter().collect();
    let new = create_keyspace(&session, &name, replication, if_not_exists).await?;
    created(&format!("keyspace {name}"), new, output)
}

pub(super) async fn tables(args: TableArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        TableCommand::Create {
            name,
            policy,
            ttl,
            compression,
            compaction,
            if_not_exists,
            connect,
        } => {
            let session = connect.open().await?;
            let millis = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let options =
                TableOptions { policy, default_ttl_ms: ttl.map(millis), compression, compaction };
            let new = create(&session, &name, options, if_not_exists, output).await?;
            created(&format!("table {name} ({})", policy.name()), new, output)
        }
        TableCommand::List(connect) => {
            let session = connect.open().await?;
            let (keyspaces, tables) = session
                .ask(Request::ListTables, |outcome| match outcome {
                    Outcome::Tables { keyspaces, tables } => Some((keyspaces, tables)),
                    _ => None,
                })
                .await?;
            list(&keyspaces, &tables, output)
        }
        TableCommand::Describe { name, connect } => {
            let session = connect.open().await?;
            let view = describe(&session, &name).await?;
            description(&view, output)
        }
    }
}

/// Creates a table, and its keyspace where that is not there; whether the table is new.
pub(crate) async fn create(
    session: &Session,
    name: &TableName,
    options: TableOptions,
    if_not_exists: bool,
    output: Output,
) -> Result<bool, Failure> {
    if create_keyspace(session, name.keyspace(), BTreeMap::new(), true).await? {
        output.note(format_args!(
            "created keyspace {} with the cluster's default replication",
            name.keyspace()
        ));
    }
    let name = name.clone();
    let request = Request::CreateTable(CreateTable { name, options, if_not_exists });
    session.ask(request, is_new).await
}

/// A table's description.
pub(super) async fn describe(session: &Session, name: &TableName) -> Result<TableView, Failure> {
    let request = Request::DescribeTable(name.clone());
    let view = session.ask(request, |outcome| match outcome {
        Outcome::Table(view) => Some(view),
        _ => None,
    });
    view.await
}

async fn create_keyspace(
    session: &Session,
    name: &str,
    replication: BTreeMap<String, u8>,
    if_not_exists: bool,
) -> Result<bool, Failure> {
    let name = name.to_owned();
    let request = Request::CreateKeyspace(CreateKeyspace { name, replication, if_not_exists });
    session.ask(request, is_new).await
}

fn is_new(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Created { new } => Some(new),
        _ => None,
    }
}

fn created(what: &str, new: bool, output: Output) -> Result<(), Failure> {
    let said = if new { "created" } else { "there already:" };
    output.answer(&json!({ "new": new }), format_args!("{said} {what}"))
}

fn replication_text(replication: &BTreeMap<String, u8>) -> String {
    let parts: Vec<String> = replication.iter().map(|(dc, n)| format!("{dc}={n}")).collect();
    parts.join(",")
}

fn list(keyspaces: &[KeyspaceDef], tables: &[TableDef], output: Output) -> Result<(), Failure> {
    if output.json {
        return output.line(json!({ "keyspaces": keyspaces, "tables": tables }));
    }
    let mut rows = table(["table", "policy", "replication", "ttl", "compression", "compaction"]);
    for keyspace in keyspaces {
        let replication = replication_text(&keyspace.replication);
        let mut mine = tables.iter().filter(|table| table.keyspace == keyspace.id).peekable();
        if mine.peek().is_none() {
            let name = format!("{} (no tables)", keyspace.name);
            rows.add_row([&name, "", &replication, "", "", ""]);
        }
        for table in mine {
            let TableOptions { policy, default_ttl_ms, compression, compaction } = &table.options;
            rows.add_row([
                table.name.as_str(),
                policy.name(),
                &replication,
                &ttl_text(*default_ttl_ms),
                compression.name(),
                compaction.name(),
            ]);
        }
    }
    output.line(rows)
}

fn ttl_text(millis: Option<u64>) -> String {
    millis.map_or_else(|| "-".to_owned(), |millis| format!("{:?}", Duration::from_millis(millis)))
}

fn description(view: &TableView, output: Output) -> Result<(), Failure> {
    let TableView { def, replication, estimated_rows, disk_bytes } = view;
    if output.json {
        let mut value = serde_json::to_value(def).map_err(anyhow::Error::from)?;
        value["replication"] = json!(replication);
        value["estimated_rows"] = Value::from(*estimated_rows);
        value["disk_bytes"] = Value::from(*disk_bytes);
        return output.line(value);
    }
    let mut rows = table([def.name.as_str(), ""]);
    rows.add_row(["policy", def.options.policy.name()]);
    rows.add_row(["replication", &replication_text(replication)]);
    rows.add_row(["default TTL", &ttl_text(def.options.default_ttl_ms)]);
    rows.add_row(["compression", def.options.compression.name()]);
    rows.add_row(["compaction", def.options.compaction.name()]);
    rows.add_row(["rows on this node, estimated", &estimated_rows.to_string()]);
    rows.add_row(["bytes on this node's disk", &disk_bytes.to_string()]);
    output.line(rows)
}
