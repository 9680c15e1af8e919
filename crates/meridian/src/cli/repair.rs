//! `repair`: what only an operator can decide about data that may be lost.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use meridian_service::{AcceptLoss, ClusterView, Outcome, Request};
use meridian_types::VnodeId;
use serde_json::json;

use super::connect::ConnectArgs;
use super::output::{Failure, Output, say};

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(subcommand)]
    command: RepairCommand,
}

#[derive(Debug, Subcommand)]
enum RepairCommand {
    /// Has one node answer reads as it is, although no replica is left that lost nothing.
    AcceptLoss(AcceptLossArgs),
}

#[derive(Debug, Args)]
struct AcceptLossArgs {
    /// The keyspace.
    #[arg(long)]
    keyspace: String,
    /// The vnodes, like 3,7; `all` are those that the node holds and is not sound for.
    #[arg(long, default_value = "all", value_parser = vnodes)]
    vnodes: Vnodes,
    /// Does not ask whether it is meant.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// None names all.
#[derive(Clone, Debug)]
struct Vnodes(Vec<VnodeId>);

fn vnodes(given: &str) -> Result<Vnodes, String> {
    if given == "all" {
        return Ok(Vnodes(Vec::new()));
    }
    let one = |vnode: &str| vnode.trim().parse().map(VnodeId);
    let vnodes: Result<_, _> = given.split(',').map(one).collect();
    vnodes.map(Vnodes).map_err(|why: std::num::ParseIntError| why.to_string())
}

pub(super) async fn repair(args: RepairArgs, output: Output) -> Result<(), Failure> {
    let RepairCommand::AcceptLoss(args) = args.command;
    let session = args.connect.open().await?;
    let cluster = session.ask(Request::Cluster, |outcome| match outcome {
        Outcome::Cluster(view) => Some(view),
        _ => None,
    });
    let node = answering(&cluster.await?)?;
    if !args.yes {
        confirm(&node, &args.keyspace)?;
    }
    let (keyspace, vnodes) = (args.keyspace, args.vnodes.0);
    let accept = AcceptLoss { node: node.clone(), keyspace: keyspace.clone(), vnodes };
    let accepted = session.ask(Request::AcceptLoss(accept), |outcome| match outcome {
        Outcome::LossAccepted { vnodes } => Some(vnodes),
        _ => None,
    });
    let vnodes = accepted.await?;
    if output.json {
        return output.line(json!({ "node": node, "keyspace": keyspace, "vnodes": vnodes }));
    }
    output.line(match vnodes {
        0 => format!("{node} has lost nothing of {keyspace} that it knows of; nothing was done"),
        n => format!("{node} answers reads of {n} vnodes of {keyspace} as they are from now on"),
    })
}

/// The node that answered: what it accepts is its own.
fn answering(view: &ClusterView) -> Result<String, Failure> {
    let node = view.nodes.iter().find(|node| node.id == view.answered_by);
    let node = node.ok_or_else(|| anyhow!("the node that answers is not in its own cluster"))?;
    Ok(node.name.clone())
}

fn confirm(node: &str, keyspace: &str) -> Result<(), Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(anyhow!("nobody is there to ask; say --yes if it is meant").into());
    }
    say(format_args!(
        "{node} will answer reads of {keyspace} with what it has. Acknowledged writes that no \
         replica has any more are lost for good, and others may come back as siblings of what \
         replaced them. Prefer a replica that comes back with its data: then nothing is lost.\n\
         Type the name of the keyspace to go on:"
    ));
    let mut typed = String::new();
    input.lock().read_line(&mut typed).context("standard input cannot be read")?;
    if typed.trim() == keyspace {
        return Ok(());
    }
    Err(anyhow!("nothing was done").into())
}
