//! `status` and `replicas`: the cluster as one node sees it, and a key as every replica has it.

use bytes::Bytes;
use clap::Args;
use meridian_service::{ClusterView, Get, NodeView, Outcome, ReplicaRow, Request};
use meridian_types::TableName;
use serde_json::{Value, json};

use super::connect::{ConnectArgs, LevelArgs};
use super::output::{Failure, Output, table};
use super::show;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub(super) struct ReplicasArgs {
    /// The table, like geo.cities.
    table: TableName,
    /// The key.
    key: String,
    #[command(flatten)]
    level: LevelArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn status(args: &StatusArgs, output: Output) -> Result<(), Failure> {
    let session = args.connect.open().await?;
    let view = session.ask(Request::Cluster, |outcome| match outcome {
        Outcome::Cluster(view) => Some(view),
        _ => None,
    });
    let view = view.await?;
    if output.json {
        return output.line(view_json(&view));
    }
    let mut rows =
        table(["node", "dc", "rack", "alive", "hints for it", "differ", "behind it", "rebuilding"]);
    for node in &view.nodes {
        let me = if node.id == view.answered_by { " (answers)" } else { "" };
        rows.add_row([
            format!("{}{me}", node.name),
            node.datacenter.clone(),
            node.rack.clone(),
            if node.alive { "yes" } else { "NO" }.to_owned(),
            node.hints.to_string(),
            node.differing_vnodes.to_string(),
            lag(node),
            node.unsound_vnodes.to_string(),
        ]);
    }
    output.line(rows)?;
    let alive = view.nodes.iter().filter(|node| node.alive).count();
    output.line(format_args!(
        "cluster {}: {alive} of {} nodes alive, default level {}",
        view.name,
        view.nodes.len(),
        view.default_consistency
    ))
}

/// What the answering node lacks of what another one has.
fn lag(node: &NodeView) -> String {
    match node.behind_dots {
        0 => String::new(),
        writes => format!("{writes} writes, {} ms", node.behind_ms),
    }
}

fn view_json(view: &ClusterView) -> Value {
    let nodes = view.nodes.iter().map(|node| {
        json!({
            "id": node.id,
            "name": node.name,
            "datacenter": node.datacenter,
            "rack": node.rack,
            "alive": node.alive,
            "incarnation": node.incarnation.map(|incarnation| format!("{:016x}", incarnation.0)),
            "hints": node.hints,
            "differing_vnodes": node.differing_vnodes,
            "unsound_vnodes": node.unsound_vnodes,
            "behind_dots": node.behind_dots,
            "behind_ms": node.behind_ms,
        })
    });
    json!({
        "name": view.name,
        "answered_by": view.answered_by,
        "default_consistency": view.default_consistency.name(),
        "datacenters": view.datacenters.iter().map(|dc| dc.name.as_str()).collect::<Vec<_>>(),
        "nodes": nodes.collect::<Vec<_>>(),
    })
}

pub(super) async fn replicas(args: &ReplicasArgs, output: Output) -> Result<(), Failure> {
    let session = args.connect.open().await?;
    let request = Request::Replicas(Get {
        table: args.table.clone(),
        key: Bytes::from(args.key.clone()),
        consistency: args.level.consistency,
        with_context: false,
    });
    let replicas = session.ask(request, |outcome| match outcome {
        Outcome::Replicas(replicas) => Some(replicas),
        _ => None,
    });
    let replicas = replicas.await?;
    if output.json {
        let all: Vec<Value> = replicas.iter().map(replica_json).collect();
        return output.line(json!({ "replicas": all, "agree": agree(&replicas) }));
    }
    let mut rows = table(["node", "dc", "stores", "vnode clock"]);
    for replica in &replicas {
        rows.add_row([
            replica.node.clone(),
            replica.datacenter.clone(),
            stored(replica),
            replica.clock_digest.map_or_else(|| "-".to_owned(), |digest| clock(digest)[..8].into()),
        ]);
    }
    output.line(rows)?;
    output.line(if agree(&replicas) { "all replicas agree" } else { "the replicas differ" })
}

fn stored(replica: &ReplicaRow) -> String {
    match &replica.values {
        Err(why) => format!("no answer: {why}"),
        Ok(values) if values.is_empty() => "nothing".to_owned(),
        Ok(values) => {
            let texts: Vec<String> = values.iter().map(|read| show::text(&read.value)).collect();
            texts.join("\n")
        }
    }
}

fn replica_json(replica: &ReplicaRow) -> Value {
    let (values, error) = match &replica.values {
        Ok(values) => (Some(show::values(values)), None),
        Err(why) => (None, Some(why)),
    };
    json!({
        "node": replica.node,
        "datacenter": replica.datacenter,
        "values": values,
        "error": error,
        "clock_digest": replica.clock_digest.map(clock),
    })
}

fn clock(digest: u128) -> String {
    format!("{digest:032x}")
}

/// Whether every replica answered, and all with the same values.
fn agree(replicas: &[ReplicaRow]) -> bool {
    let first = replicas.first().map(|replica| &replica.values);
    replicas.iter().all(|replica| replica.values.is_ok() && Some(&replica.values) == first)
}
