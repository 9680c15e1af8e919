//! From a shape file's text to a valid [`Shape`]: what the file may say, then what that means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::Duration;

use meridian_types::{DcId, NodeId, Partitioner};
use serde::Deserialize;

use super::{Shape, ShapeError};
use crate::placement::{KeyspaceMap, KeyspaceMapError};
use crate::ring::VnodeCount;
use crate::topology::{Capacity, DcInfo, Link, NodeInfo, Topology, TopologyError};

/// The file. Numbers are as wide as TOML's, so that their range is checked, and explained, here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    about: String,
    #[serde(default)]
    partitioner: Partitioner,
    #[serde(default = "default_vnodes_per_node")]
    vnodes_per_node: i64,
    /// Replicas by the datacenter's name.
    replication: BTreeMap<String, i64>,
    datacenters: Vec<FileDc>,
    #[serde(default)]
    links: Vec<FileLink>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDc {
    name: String,
    nodes: Vec<FileNode>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    name: String,
    rack: String,
    #[serde(default = "default_capacity")]
    capacity: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLink {
    between: [String; 2],
    latency_ms: f64,
    #[serde(default)]
    jitter_ms: f64,
    #[serde(default)]
    loss_percent: f64,
}

fn default_vnodes_per_node() -> i64 {
    i64::from(VnodeCount::DEFAULT_PER_NODE)
}

fn default_capacity() -> f64 {
    1.0
}

pub(super) fn parse(text: &str) -> Result<Shape, ShapeError> {
    if text.len() > Shape::MAX_BYTES {
        return Err(ShapeError::TooLong { bytes: text.len() });
    }
    let file: File = toml::from_str(text)
        .map_err(|error| ShapeError::Syntax { message: error.to_string().trim_end().to_owned() })?;
    check_name("name", &file.name)?;
    let (dcs, nodes) = places(&file.datacenters)?;
    let links = file.links.iter().map(|l| link(l, &dcs)).collect::<Result<Vec<_>, _>>()?;
    let vnodes = vnodes(file.vnodes_per_node, nodes.len())?;
    let topology = Topology::new(file.partitioner, vnodes, dcs, nodes, links)
        .map_err(|error| in_topology(&error))?;
    let replication = replication(&file.replication, &topology)?;
    Ok(Shape { name: file.name, about: file.about, topology, replication })
}

fn invalid(key: impl Into<String>, value: impl Display, allowed: impl Into<String>) -> ShapeError {
    ShapeError::Invalid { key: key.into(), value: value.to_string(), allowed: allowed.into() }
}

/// Names stand in file names, metrics and tables on a terminal, so they are plain.
fn check_name(key: &str, name: &str) -> Result<(), ShapeError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > Shape::MAX_NAME || !name.chars().all(plain) {
        let allowed = format!("1 to {} of a-z, 0-9 and -", Shape::MAX_NAME);
        return Err(invalid(key, format_args!("{name:?}"), allowed));
    }
    Ok(())
}

fn places(file: &[FileDc]) -> Result<(Vec<DcInfo>, Vec<NodeInfo>), ShapeError> {
    if file.is_empty() || file.len() > Topology::MAX_DCS {
        let allowed = format!("1 to {} datacenters", Topology::MAX_DCS);
        return Err(invalid("datacenters", format_args!("a list of {}", file.len()), allowed));
    }
    let total: usize = file.iter().map(|dc| dc.nodes.len()).sum();
    if total > Topology::MAX_NODES {
        let allowed = format!("at most {} nodes in all", Topology::MAX_NODES);
        return Err(invalid("datacenters.nodes", format_args!("a list of {total}"), allowed));
    }
    let (mut dcs, mut nodes) = (Vec::new(), Vec::new());
    let mut node_names = BTreeSet::new();
    for (id, dc) in (0..).map(DcId).zip(file) {
        check_name("datacenters.name", &dc.name)?;
        if dcs.iter().any(|other: &DcInfo| other.name == dc.name) {
            return Err(invalid("datacenters.name", &dc.name, "each datacenter once"));
        }
        if dc.nodes.is_empty() {
            let key = format!("datacenters.{}.nodes", dc.name);
            return Err(invalid(key, "an empty list", "at least one node"));
        }
        for node in &dc.nodes {
            let id_of_node = NodeId(u32::try_from(nodes.len() + 1).unwrap_or(u32::MAX));
            if !node_names.insert(&node.name) {
                let key = format!("datacenters.{}.nodes.name", dc.name);
                return Err(invalid(key, &node.name, "each node once, in all datacenters"));
            }
            nodes.push(place(node, id_of_node, dc, id)?);
        }
        dcs.push(DcInfo { id, name: dc.name.clone() });
    }
    Ok((dcs, nodes))
}

fn place(file: &FileNode, id: NodeId, dc: &FileDc, dc_id: DcId) -> Result<NodeInfo, ShapeError> {
    let key = |last: &str| format!("datacenters.{}.nodes.{}.{last}", dc.name, file.name);
    check_name(&format!("datacenters.{}.nodes.name", dc.name), &file.name)?;
    check_name(&key("rack"), &file.rack)?;
    let capacity = Capacity::try_from(file.capacity)
        .map_err(|error| invalid(key("capacity"), error.0, "0.001 to 1000"))?;
    Ok(NodeInfo { id, name: file.name.clone(), dc: dc_id, rack: file.rack.clone(), capacity })
}

fn link(file: &FileLink, dcs: &[DcInfo]) -> Result<(DcId, DcId, Link), ShapeError> {
    let [a, b] = &file.between;
    let find = |name: &String| {
        let names: Vec<&str> = dcs.iter().map(|dc| dc.name.as_str()).collect();
        let found = dcs.iter().find(|dc| dc.name == *name);
        found.map(|dc| dc.id).ok_or_else(|| invalid("links.between", name, names.join(", ")))
    };
    let (from, to) = (find(a)?, find(b)?);
    let key = |last: &str| format!("links.{a}-{b}.{last}");
    let millis = |last: &str, value: f64| {
        let most = Shape::MAX_LATENCY_MS;
        match (0.0..=f64::from(most)).contains(&value) {
            true => Ok(Duration::from_secs_f64(value / 1_000.0)),
            false => Err(invalid(key(last), value, format!("0 to {most}"))),
        }
    };
    if !(0.0..=100.0).contains(&file.loss_percent) {
        return Err(invalid(key("loss_percent"), file.loss_percent, "0 to 100"));
    }
    let latency = millis("latency_ms", file.latency_ms)?;
    let jitter = millis("jitter_ms", file.jitter_ms)?;
    if jitter > latency {
        let allowed = format!("at most latency_ms, {}", file.latency_ms);
        return Err(invalid(key("jitter_ms"), file.jitter_ms, allowed));
    }
    Ok((from, to, Link { latency, jitter, loss_percent: file.loss_percent }))
}

fn vnodes(per_node: i64, nodes: usize) -> Result<VnodeCount, ShapeError> {
    let most = Shape::MAX_VNODES_PER_NODE;
    let error = |allowed| invalid("vnodes_per_node", per_node, allowed);
    match u32::try_from(per_node) {
        Ok(per_node) if (1..=most).contains(&per_node) => VnodeCount::for_nodes(nodes, per_node)
            .map_err(|bad| error(format!("fewer: {bad}, and there are {nodes} nodes"))),
        _ => Err(error(format!("1 to {most}"))),
    }
}

fn replication(
    file: &BTreeMap<String, i64>,
    topology: &Topology,
) -> Result<KeyspaceMap, ShapeError> {
    let mut named = Vec::with_capacity(file.len());
    for (dc, &replicas) in file {
        let most = KeyspaceMap::MAX_REPLICAS;
        let replicas = u8::try_from(replicas).ok().filter(|n| (1..=most).contains(n));
        let Some(replicas) = replicas else {
            let allowed = format!("1 to {most}, and no more than the datacenter's nodes");
            return Err(invalid(format!("replication.{dc}"), file[dc], allowed));
        };
        named.push((dc.as_str(), replicas));
    }
    KeyspaceMap::from_names(topology, named).map_err(|error| match error {
        KeyspaceMapError::Empty { known } => {
            invalid("replication", "empty", format!("`dc = replicas` for some of {known}"))
        }
        KeyspaceMapError::UnknownDc { dc, known } => invalid("replication", dc, known),
        KeyspaceMapError::Replicas { dc, replicas, most } => {
            let allowed = format!("1 to {most}, for `{dc}` has {most} nodes");
            invalid(format!("replication.{dc}"), replicas, allowed)
        }
    })
}

/// What is left for the topology to find once the places are checked: links.
fn in_topology(error: &TopologyError) -> ShapeError {
    invalid("links.between", error, "two different datacenters, each pair once")
}
