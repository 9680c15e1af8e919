//! Faults as people read them.

use std::fmt;

use meridian_topology::Topology;
use meridian_types::NodeId;

use super::{DiskPart, Fault, Loss, NodeFault, WayFault, Ways};

impl Fault {
    /// The kind, as scenarios name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Node { what, .. } => what.kind(),
            Self::Ways { what, .. } => what.kind(),
        }
    }

    /// The fault in a line, with the names that a topology has for its nodes.
    #[must_use]
    pub fn text(&self, topology: &Topology) -> String {
        match self {
            Self::Node { node, what } => format!("{} {what}", name(topology, *node)),
            Self::Ways { ways, what } => format!("{} {what}", ways.text(topology)),
        }
    }
}

impl Ways {
    fn text(&self, topology: &Topology) -> String {
        let arrow = if self.both { "<->" } else { "->" };
        format!("{} {arrow} {}", names(topology, &self.from), names(topology, &self.to))
    }
}

/// The names of nodes; a whole datacenter's is said once.
fn names(topology: &Topology, nodes: &[NodeId]) -> String {
    let mut left = nodes.to_vec();
    let mut said = Vec::new();
    for dc in topology.dcs() {
        let within: Vec<_> = topology.nodes_in(dc.id).map(|node| node.id).collect();
        if within.len() > 1 && within.iter().all(|node| left.contains(node)) {
            left.retain(|node| !within.contains(node));
            said.push(dc.name.clone());
        }
    }
    said.extend(left.iter().map(|node| name(topology, *node)));
    said.join(",")
}

fn name(topology: &Topology, node: NodeId) -> String {
    topology.node(node).map_or_else(|| format!("node {node}"), |info| info.name.clone())
}

impl NodeFault {
    /// The kind, as scenarios name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::Kill {} => "kill",
            Self::CrashAtSync { .. } => "crash-at-sync",
            Self::Stop {} => "stop",
            Self::Leave {} => "leave",
            Self::Pause {} => "pause",
            Self::Wipe { .. } => "wipe",
            Self::Restore { .. } => "restore",
            Self::Rot { .. } => "rot",
            Self::FullDisk { .. } => "full-disk",
            Self::SlowDisk { .. } => "slow-disk",
            Self::ClockStep { .. } => "clock-step",
            Self::ClockDrift { .. } => "clock-drift",
        }
    }
}

impl fmt::Display for NodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Crash { loses } => write!(f, " ({loses})"),
            Self::CrashAtSync { nth, after } => {
                write!(f, " ({} sync {nth} from here)", if *after { "after" } else { "before" })
            }
            Self::Wipe { part } | Self::Restore { part } => write!(f, " ({part})"),
            Self::Rot { bits } => write!(f, " ({bits} bits)"),
            Self::FullDisk { bytes_left } => write!(f, " ({bytes_left} bytes left)"),
            Self::SlowDisk { by } => write!(f, " (by {by})"),
            Self::ClockStep { by_ms, returns } => {
                write!(f, " (by {by_ms:+} ms{})", if *returns { ", and back" } else { "" })
            }
            Self::ClockDrift { ppm } => write!(f, " ({ppm:+} ppm)"),
            Self::Kill {} | Self::Stop {} | Self::Leave {} | Self::Pause {} => Ok(()),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsynced => "loses what is not synced",
            Self::Nothing => "loses nothing",
            Self::Torn => "loses any part of what is not synced",
        })
    }
}

impl fmt::Display for DiskPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Metadata => "metadata",
            Self::Both => "data and metadata",
        })
    }
}

impl WayFault {
    /// The kind, as scenarios name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cut {} => "cut",
            Self::Slow { .. } => "slow",
            Self::Lossy { .. } => "lossy",
            Self::Narrow { .. } => "narrow",
            Self::Datagrams { .. } => "datagrams",
        }
    }
}

impl fmt::Display for WayFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Cut {} => Ok(()),
            Self::Slow { by, jitter } => write!(f, " (by {by}, ± {jitter})"),
            Self::Lossy { ppm } => write!(f, " ({ppm} ppm)"),
            Self::Narrow { bytes_per_second } => write!(f, " ({bytes_per_second} B/s)"),
            Self::Datagrams { lost_ppm, doubled_ppm, late_ppm, late_by } => write!(
                f,
                " (lost {lost_ppm}, doubled {doubled_ppm}, late {late_ppm} ppm by {late_by})"
            ),
        }
    }
}
