//! Which ports the nodes get, and who holds one that is taken.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How ports are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PortChoice {
    /// Counted from a base.
    Stable,
    /// Free ones, the same again at the next start where they are still free.
    Auto,
}

/// Where one node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) links: u16,
    pub(super) resp: u16,
    pub(super) rest: u16,
    pub(super) grpc: u16,
}

/// The base where none is given.
pub(super) const DEFAULT_BASE_PORT: u16 = 5_000;

/// Where free ports are looked for: below those that systems give to outgoing connections (from
/// 32,768 on Linux, from 49,152 elsewhere). A node that dials could take the port of one that has
/// not bound it yet, and a dialer could even meet itself.
const FREE_PORTS: Range<u16> = 10_240..32_768;
/// Ports between the places where two clusters begin to look.
const PORTS_A_CLUSTER: u16 = 64;

/// Distances from the base, so that a port says what it is.
const RESP: u32 = 2_000;
const REST: u32 = 3_000;
const GRPC: u32 = 4_000;

impl Ports {
    /// The ports of the node with this number, from 1.
    fn stable(base: u16, number: usize) -> Result<Self> {
        let at = |distance: u32| {
            let port = u32::try_from(number).ok().and_then(|n| n.checked_add(u32::from(base)));
            port.and_then(|port| u16::try_from(port + distance).ok()).with_context(|| {
                format!("node {number} has no port left above --base-port {base}; use a lower one")
            })
        };
        Ok(Self { links: at(0)?, resp: at(RESP)?, rest: at(REST)?, grpc: at(GRPC)? })
    }

    pub(super) fn every(self) -> [(&'static str, u16); 4] {
        let Self { links, resp, rest, grpc } = self;
        [("links", links), ("RESP", resp), ("REST", rest), ("gRPC", grpc)]
    }
}

/// Loopback, where all of a development cluster lives.
pub(super) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Ports for every node, all free at this moment. `before` are those of the last start.
pub(super) fn choose(
    choice: PortChoice,
    base: u16,
    names: &[String],
    before: &BTreeMap<String, Ports>,
) -> Result<BTreeMap<String, Ports>> {
    if choice == PortChoice::Auto {
        return free(names, before);
    }
    let mut chosen = BTreeMap::new();
    for (name, number) in names.iter().zip(1..) {
        let ports = Ports::stable(base, number)?;
        for (what, port) in ports.every() {
            if TcpListener::bind(local(port)).is_err() {
                return Err(taken(name, what, port));
            }
        }
        chosen.insert(name.clone(), ports);
    }
    Ok(chosen)
}

fn taken(node: &str, what: &str, port: u16) -> anyhow::Error {
    let holder = holder(port).unwrap_or_else(|| "another process".to_owned());
    anyhow!(
        "port {port} ({what} of {node}) is taken by {holder}; stop that, or use other ports: \
         --ports auto, or --base-port N"
    )
}

/// The ports to look at, in order. Clusters that start at the same time begin at places of their
/// own, so that none takes what another has found free and not bound yet.
fn candidates(pid: u32) -> impl Iterator<Item = u16> {
    let ports = FREE_PORTS.end - FREE_PORTS.start;
    let places = u32::from(ports / PORTS_A_CLUSTER);
    let place = u16::try_from(pid % places).unwrap_or(0);
    let first = FREE_PORTS.start + place * PORTS_A_CLUSTER;
    (first..FREE_PORTS.end).chain(FREE_PORTS.start..first)
}

fn free(names: &[String], before: &BTreeMap<String, Ports>) -> Result<BTreeMap<String, Ports>> {
    // All are held until the last one is found, so that none is given twice.
    let mut held = Vec::new();
    let known = names.iter().map(|name| before.get(name).copied()).collect::<Option<Vec<_>>>();
    if let Some(known) = known {
        let ports = known.iter().flat_map(|ports| ports.every());
        if ports
            .map(|(_, port)| TcpListener::bind(local(port)))
            .all(|bound| bound.map(|listener| held.push(listener)).is_ok())
        {
            return Ok(names.iter().cloned().zip(known).collect());
        }
    }
    let mut candidates = candidates(std::process::id());
    let mut next = || -> Result<u16> {
        let bound = candidates.find_map(|port| TcpListener::bind(local(port)).ok());
        let listener = bound.with_context(|| format!("no port of {FREE_PORTS:?} is free"))?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok(port)
    };
    let mut chosen = BTreeMap::new();
    for name in names {
        let ports = Ports { links: next()?, resp: next()?, rest: next()?, grpc: next()? };
        if chosen.insert(name.clone(), ports).is_some() {
            bail!("two nodes are called {name}");
        }
    }
    Ok(chosen)
}

/// The process that listens at a port, where the system tells: Linux shows sockets in /proc.
fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|path| {
        let sockets = fs::read_to_string(path).ok()?;
        sockets.lines().skip(1).find_map(|line| listening_inode(line, port))
    })?;
    let socket = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name();
        if !pid.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| target.to_string_lossy() == socket) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {})", command.trim(), pid.to_string_lossy()));
        }
    }
    None
}

/// Columns of /proc/net/tcp: number, local address, remote address, state, ..., inode (the tenth).
fn listening_inode(line: &str, port: u16) -> Option<String> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (_, hex) = columns.get(1)?.rsplit_once(':')?;
    let is_listening = *columns.get(3)? == "0A";
    let is_port = u16::from_str_radix(hex, 16).ok()? == port;
    (is_listening && is_port).then(|| columns.get(9).map(ToString::to_string))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (1..=n).map(|n| format!("us-{n}")).collect()
    }

    #[test]
    fn stable_ports_say_what_they_are() {
        let ports = Ports::stable(5_000, 3).unwrap();
        assert_eq!(ports, Ports { links: 5_003, resp: 7_003, rest: 8_003, grpc: 9_003 });
        assert!(Ports::stable(60_000, 2_000).is_err());
    }

    #[test]
    fn free_ports_are_distinct_and_come_again() {
        let first = choose(PortChoice::Auto, 5_000, &names(9), &BTreeMap::new()).unwrap();
        let mut all: Vec<u16> = first.values().flat_map(|p| p.every().map(|(_, n)| n)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 36);
        assert!(all.iter().all(|port| FREE_PORTS.contains(port)));
        assert_eq!(choose(PortChoice::Auto, 5_000, &names(9), &first).unwrap(), first);
        let _taken = TcpListener::bind(local(first["us-4"].rest)).unwrap();
        let again = choose(PortChoice::Auto, 5_000, &names(9), &first).unwrap();
        assert!(again.values().all(|p| p.rest != first["us-4"].rest));
    }

    #[test]
    fn every_port_is_looked_at_once_from_a_place_of_its_own() {
        for pid in [0, 1, 351, 352, u32::MAX] {
            let mut all: Vec<u16> = candidates(pid).collect();
            let next = candidates(pid.wrapping_add(1)).next();
            assert_ne!(all.first().copied(), next);
            all.sort_unstable();
            assert!(all.iter().copied().eq(FREE_PORTS));
        }
    }

    #[test]
    fn a_taken_port_names_its_holder() {
        let listener = TcpListener::bind(local(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = taken("us-1", "RESP", port).to_string();
        assert!(text.starts_with(&format!("port {port} (RESP of us-1) is taken by ")), "{text}");
        if cfg!(target_os = "linux") {
            assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
        }
    }
}
