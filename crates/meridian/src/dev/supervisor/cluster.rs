//! The cluster while it runs: nodes, links, and the commands that change them.

use std::fs;

use meridian_chaos::LinkProxies;
use tokio::sync::{mpsc, oneshot};

use super::notice;
use super::start::wait_for_life;
use crate::dev::control::{Command, NodeStatus, Reply, Status};
use crate::dev::folder::Folder;
use crate::dev::ports::{Ports, local};
use crate::dev::process::{Ended, Order, Plan, Process};

/// One node, running or not.
pub(super) struct Node {
    pub(super) datacenter: String,
    pub(super) rack: String,
    pub(super) ports: Ports,
    pub(super) plan: Plan,
    pub(super) state: State,
}

pub(super) enum State {
    Running {
        process: Process,
        paused: bool,
        end_expected: bool,
        /// Who wants to know when it has ended.
        killers: Vec<oneshot::Sender<Reply>>,
    },
    Ended(String),
}

impl State {
    pub(super) fn running(process: Process) -> Self {
        Self::Running { process, paused: false, end_expected: false, killers: Vec::new() }
    }
}

pub(super) struct Cluster {
    pub(super) folder: Folder,
    pub(super) shape: String,
    pub(super) wan: bool,
    pub(super) ready: bool,
    pub(super) nodes: Vec<Node>,
    pub(super) links: LinkProxies,
    pub(super) ended: mpsc::Sender<Ended>,
}

impl Cluster {
    /// Carries out a command and answers; a start answers once the node does.
    pub(super) fn command(&mut self, command: Command, reply: oneshot::Sender<Reply>) {
        let result = match command {
            Command::Status => Ok(Reply::Status(self.status())),
            Command::Cut { from, to, one_way, wait } => match self.cut(&from, &to, one_way) {
                Ok(said) if wait => {
                    let sides = [(from.clone(), to.clone()), (to, from)];
                    return notice::answer(self.views(&sides), notice::Wanted::Gone, said, reply);
                }
                said => said.map(Reply::Done),
            },
            Command::Heal { between, wait } => match self.heal(between) {
                Ok(said) if wait => {
                    let open = self.links.status().into_iter().filter(|way| !way.conditions.cut);
                    let sides: Vec<_> = open.map(|way| (way.from, way.to)).collect();
                    return notice::answer(self.views(&sides), notice::Wanted::There, said, reply);
                }
                said => said.map(Reply::Done),
            },
            Command::Kill { node } => return self.kill(&node, reply),
            Command::Pause { node } => self.pause(&node, true),
            Command::Resume { node } => self.pause(&node, false),
            Command::Start { node } => match self.start(&node) {
                Ok(()) => return self.answer_when_up(&node, reply),
                Err(why) => Err(why),
            },
            Command::Stop => Err("stopping is the supervisor's own".to_owned()),
        };
        // A caller that left does not read the answer.
        let _ = reply.send(result.unwrap_or_else(Reply::Refused));
    }

    fn cut(&self, from: &str, to: &str, one_way: bool) -> Result<String, String> {
        let cut = match one_way {
            true => self.links.cut_one_way(from, to),
            false => self.links.cut(from, to),
        };
        cut.map_err(|error| error.to_string())?;
        let ways = if one_way { "→" } else { "↔" };
        Ok(format!("{from} {ways} {to} is cut; `meridian dev heal` joins them again"))
    }

    fn heal(&self, between: Option<(String, String)>) -> Result<String, String> {
        let Some((a, b)) = between else {
            self.links.heal();
            return Ok("all links are open".to_owned());
        };
        self.links.heal_between(&a, &b).map_err(|error| error.to_string())?;
        Ok(format!("{a} ↔ {b} is open"))
    }

    /// For each pair of datacenters: the running nodes of the first, and what they call the running
    /// nodes of the second.
    fn views(&self, sides: &[(String, String)]) -> Vec<notice::View> {
        let mut views = Vec::new();
        for (from, to) in sides {
            let others: Vec<String> =
                self.running_in(to).map(|node| node.plan.name.clone()).collect();
            views.extend(self.running_in(from).map(|node| notice::View {
                node: node.plan.name.clone(),
                rest: local(node.ports.rest),
                others: others.clone(),
            }));
        }
        views
    }

    fn running_in<'a>(&'a self, dc: &'a str) -> impl Iterator<Item = &'a Node> {
        let there = self.nodes.iter().filter(move |node| node.datacenter == dc);
        there.filter(|node| matches!(node.state, State::Running { paused: false, .. }))
    }

    /// Answers once the process has ended, so that a start may follow at once.
    fn kill(&mut self, name: &str, reply: oneshot::Sender<Reply>) {
        let refused = match self.node(name) {
            Ok(Node { state: State::Running { process, end_expected, killers, .. }, .. }) => {
                if process.order(Order::Kill) {
                    *end_expected = true;
                    return killers.push(reply);
                }
                format!("{name} takes no orders at the moment")
            }
            Ok(_) => format!("{name} does not run"),
            Err(why) => why,
        };
        // A caller that left does not read the answer.
        let _ = reply.send(Reply::Refused(refused));
    }

    fn pause(&mut self, name: &str, pause: bool) -> Result<Reply, String> {
        let node = self.node(name)?;
        let State::Running { process, paused, .. } = &mut node.state else {
            return Err(format!("{name} does not run"));
        };
        if !process.order(if pause { Order::Pause } else { Order::Resume }) {
            return Err(format!("{name} takes no orders at the moment"));
        }
        *paused = pause;
        let now = if pause { "is paused" } else { "goes on" };
        Ok(Reply::Done(format!("{name} {now}")))
    }

    fn start(&mut self, name: &str) -> Result<(), String> {
        let ended = self.ended.clone();
        let node = self.node(name)?;
        if matches!(node.state, State::Running { .. }) {
            return Err(format!("{name} runs already"));
        }
        let process = Process::start(&node.plan, ended).map_err(|error| format!("{error:#}"))?;
        node.state = State::running(process);
        Ok(())
    }

    fn answer_when_up(&mut self, name: &str, reply: oneshot::Sender<Reply>) {
        let Ok(Node { state: State::Running { process, .. }, ports, .. }) = self.node(name) else {
            return;
        };
        let (name, rest, ended) = (name.to_owned(), local(ports.rest), process.ended.clone());
        tokio::spawn(async move {
            let answer = match wait_for_life(rest, ended).await {
                true => Reply::Done(format!("{name} is up")),
                false => Reply::Refused(format!("{name} did not come up; see its log")),
            };
            let _ = reply.send(answer);
        });
    }

    fn node(&mut self, name: &str) -> Result<&mut Node, String> {
        let names: Vec<_> = self.nodes.iter().map(|node| node.plan.name.clone()).collect();
        let node = self.nodes.iter_mut().find(|node| node.plan.name == name);
        node.ok_or_else(|| format!("there is no node `{name}`; there are {}", names.join(", ")))
    }

    /// Takes note of a node's end; whether somebody had asked for it.
    pub(super) fn ended(&mut self, ended: &Ended) -> bool {
        let Ok(node) = self.node(&ended.name) else { return false };
        let expected = matches!(node.state, State::Running { end_expected: true, .. });
        let before = std::mem::replace(&mut node.state, State::Ended(ended.how.clone()));
        if let State::Running { killers, .. } = before {
            let name = &ended.name;
            let text = format!("{name} is killed; `meridian dev start {name}` starts it again");
            for killer in killers {
                // A caller that left does not read the answer.
                let _ = killer.send(Reply::Done(text.clone()));
            }
        }
        expected
    }

    pub(super) fn any_running(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.state, State::Running { .. }))
    }

    /// Asks every node to stop; a paused one goes on first, for it could not hear otherwise.
    pub(super) fn terminate_all(&mut self) {
        for node in &mut self.nodes {
            if let State::Running { process, end_expected, .. } = &mut node.state {
                *end_expected = true;
                // One that takes no orders is killed at the deadline.
                let _ = process.order(Order::Resume) && process.order(Order::Terminate);
            }
        }
    }

    /// Kills every node that still runs; their names.
    pub(super) fn kill_all(&self) -> Vec<String> {
        let running = self.nodes.iter().filter_map(|node| match &node.state {
            State::Running { process, .. } => Some((node.plan.name.clone(), process)),
            State::Ended(_) => None,
        });
        running
            .map(|(name, process)| {
                // One that has ended meanwhile needs no order.
                let _ = process.order(Order::Kill);
                name
            })
            .collect()
    }

    pub(super) fn status(&self) -> Status {
        Status {
            folder: self.folder.path().to_owned(),
            shape: self.shape.clone(),
            wan: self.wan,
            ready: self.ready,
            nodes: self.nodes.iter().map(Node::status).collect(),
            links: self.links.status(),
        }
    }
}

impl Node {
    pub(super) fn status(&self) -> NodeStatus {
        let (state, pid) = match &self.state {
            State::Running { process, paused: true, .. } => {
                ("paused".to_owned(), Some(process.pid))
            }
            State::Running { process, .. } => ("running".to_owned(), Some(process.pid)),
            State::Ended(how) => (how.clone(), None),
        };
        let Ports { links, resp, rest, grpc } = self.ports;
        NodeStatus {
            name: self.plan.name.clone(),
            datacenter: self.datacenter.clone(),
            rack: self.rack.clone(),
            state,
            pid,
            resident_bytes: pid.and_then(resident_bytes),
            resp: local(resp),
            rest: local(rest),
            grpc: local(grpc),
            links: local(links),
        }
    }
}

/// Memory of a process, where the system tells (Linux: /proc).
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
