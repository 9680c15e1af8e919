//! From arguments to running processes, and how one knows that they are up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::join_all;
use meridian_chaos::{Conditions, LinkProxies, ProxySpec};
use meridian_topology::{Shape, Topology};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use super::Inbox;
use super::cluster::{Cluster, Node, State};
use crate::cli::output::Output;
use crate::dev::args::DevArgs;
use crate::dev::control::{self, Contact, WAITING_COMMANDS};
use crate::dev::folder::{Folder, random_token};
use crate::dev::health;
use crate::dev::ports::{Ports, local};
use crate::dev::process::{Plan, Process};

/// How long a node may take until it answers: a replay of its whole log fits.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(120);

/// How long all nodes may take to find each other after that, before they are shown as they are.
const WELL_PATIENCE: Duration = Duration::from_secs(10);

/// How often a node that does not answer yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Ends that wait for the supervisor.
const WAITING_ENDS: usize = 64;

/// The seed of jitter and loss: the same for every start, so that a run can be repeated.
const LINK_SEED: u64 = 0x006d_6572_6964_6961;

/// How the start went.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    /// Nodes that did not answer.
    pub(super) silent: Vec<String>,
    /// Nodes that answered that something is wrong, and what.
    pub(super) unwell: Vec<(String, String)>,
}

pub(super) async fn start(args: &DevArgs, output: Output) -> Result<(Cluster, Inbox)> {
    let mut folder = Folder::take(&args.data, args.fresh, args.shape.as_deref())?;
    let shape = folder.shape()?;
    let topology = shape.topology();
    let names: Vec<String> = topology.nodes().iter().map(|node| node.name.clone()).collect();
    let ports = folder.choose_ports(&names, args.ports, args.base_port)?;
    output.note(format_args!("starting {} ({}) ...", shape.name(), shape.about()));
    let links = links(&shape, &ports, args.wan).await?;
    let (ended_sender, ended) = mpsc::channel(WAITING_ENDS);
    let (asked_sender, asked) = mpsc::channel(WAITING_COMMANDS);
    if names.len() > 1 {
        use_small_pages();
    }
    let mut nodes = Vec::new();
    for node in topology.nodes() {
        let peers = peers(topology, &node.name, &ports, &links);
        let config = folder.write_config(&node.name, ports[&node.name], &peers)?;
        let mut arguments = vec!["server".to_owned(), "--stop-with-input".to_owned()];
        arguments.extend(["--config".to_owned(), config.display().to_string()]);
        arguments.extend(args.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
        let plan = Plan {
            name: node.name.clone(),
            program: std::env::current_exe().context("this program does not find itself")?,
            arguments,
            log: folder.node(&node.name).join("log"),
        };
        nodes.push(Node {
            datacenter: topology.dc_name(node.dc).unwrap_or_default().to_owned(),
            rack: node.rack.clone(),
            ports: ports[&node.name],
            state: State::Ended("not started".to_owned()),
            plan,
        });
    }
    let token = random_token()?;
    let (address, door) = control::open(token.clone(), asked_sender).await?;
    let contact = Contact {
        address,
        token,
        pid: std::process::id(),
        shape: shape.name().to_owned(),
        nodes: nodes.iter().map(Node::status).collect(),
    };
    folder.write_contact(&contact)?;
    for node in &mut nodes {
        let process = Process::start(&node.plan, ended_sender.clone())?;
        node.state = State::running(process);
    }
    let ready = watch_start(&nodes);
    let cluster = Cluster {
        folder,
        shape: shape.name().to_owned(),
        wan: args.wan,
        ready: false,
        nodes,
        links,
        ended: ended_sender,
    };
    Ok((cluster, Inbox { ended, asked, ready, door }))
}

/// Nodes that share a machine shall stay small: with huge pages an idle one takes 80 MB instead of
/// 41, for a tenth more requests a second. The processes that this one starts inherit it; where the
/// system knows no such setting, nothing changes.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "huge pages stay on: nodes take more memory");
    }
}

/// A proxy for every datacenter in front of every node of the others, so that any link can be cut.
async fn links(shape: &Shape, ports: &BTreeMap<String, Ports>, wan: bool) -> Result<LinkProxies> {
    let topology = shape.topology();
    let mut specs = Vec::new();
    for from in topology.dcs() {
        for node in topology.nodes().iter().filter(|node| node.dc != from.id) {
            specs.push(ProxySpec {
                from: from.name.clone(),
                to: topology.dc_name(node.dc).unwrap_or_default().to_owned(),
                node: node.name.clone(),
                listen: local(0),
                target: local(ports[&node.name].links),
            });
        }
    }
    let conditions = |from: &str, to: &str| {
        let ends = topology.dc_id(from).zip(topology.dc_id(to));
        match ends.and_then(|(from, to)| topology.link(from, to)) {
            Some(link) if wan => Conditions::from(link),
            _ => Conditions::default(),
        }
    };
    Ok(LinkProxies::start(specs, conditions, LINK_SEED).await?)
}

/// Where a node dials every other one: directly in its datacenter, through a proxy beyond.
fn peers(
    topology: &Topology,
    name: &str,
    ports: &BTreeMap<String, Ports>,
    links: &LinkProxies,
) -> BTreeMap<String, String> {
    let dc = topology.node_named(name).and_then(|node| topology.dc_name(node.dc));
    let others = topology.nodes().iter().filter(|node| node.name != name);
    others
        .map(|node| {
            let direct = || local(ports[&node.name].links);
            let address = dc.and_then(|dc| links.address(dc, &node.name)).unwrap_or_else(direct);
            (node.name.clone(), address.to_string())
        })
        .collect()
}

fn watch_start(nodes: &[Node]) -> oneshot::Receiver<Readiness> {
    let watched: Vec<_> = nodes
        .iter()
        .filter_map(|node| match &node.state {
            State::Running { process, .. } => {
                Some((node.plan.name.clone(), local(node.ports.rest), process.ended.clone()))
            }
            State::Ended(_) => None,
        })
        .collect();
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        // Nobody receives where the supervisor gave up already.
        let _ = sender.send(readiness(watched).await);
    });
    receiver
}

async fn readiness(nodes: Vec<(String, SocketAddr, watch::Receiver<bool>)>) -> Readiness {
    let mut readiness = Readiness::default();
    let lives = join_all(nodes.iter().map(|(_, rest, ended)| wait_for_life(*rest, ended.clone())));
    for ((name, ..), lives) in nodes.iter().zip(lives.await) {
        if !lives {
            readiness.silent.push(name.clone());
        }
    }
    if readiness.silent.is_empty() {
        let well = join_all(nodes.iter().map(|(_, rest, _)| wait_for_health(*rest)));
        for ((name, ..), why) in nodes.iter().zip(well.await) {
            readiness.unwell.extend(why.map(|why| (name.clone(), why)));
        }
    }
    readiness
}

/// Until the node answers (true), or it ended or took too long (false).
pub(super) async fn wait_for_life(rest: SocketAddr, mut ended: watch::Receiver<bool>) -> bool {
    let deadline = Instant::now() + START_PATIENCE;
    while Instant::now() < deadline && !*ended.borrow() {
        if health::ask(rest, "/health/live").await.is_some_and(|health| health.lives()) {
            return true;
        }
        tokio::select! {
            () = sleep(ASK_AGAIN) => {}
            _ = ended.changed() => {}
        }
    }
    false
}

/// Until the node says that all is well (none), or what it says when it took too long.
async fn wait_for_health(rest: SocketAddr) -> Option<String> {
    let deadline = Instant::now() + WELL_PATIENCE;
    loop {
        let complaint = match health::ask(rest, "/health").await {
            Some(health) => health.complaint()?,
            None => "no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            return Some(complaint);
        }
        sleep(ASK_AGAIN).await;
    }
}
