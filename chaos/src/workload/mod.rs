//! What clients do to a simulated cluster.
//!
//! A client is a task that calls nodes through the same [`Service`](meridian_service::Service) as
//! the doors do. Every value that it writes names its write, and what it was told of contexts is
//! told on as the sets of dots that they are, so that checks need not ask the system.
//!
//! Knows: requests, answers, what a client may know. Must not know: what goes wrong, what must hold.

mod answer;
mod client;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_runtime::Node;
use meridian_types::NodeId;
use parking_lot::Mutex;

use crate::scenario::Scenario;
use crate::sim::{Agenda, Micros, Owner, Purpose, Spawner, Streams};
use crate::world::{Cluster, Record};

use client::Client;

/// Where nodes that run can be called.
#[derive(Default)]
pub(crate) struct Doors {
    open: Mutex<BTreeMap<NodeId, (Owner, Arc<Node>)>>,
    /// Who refused a request since somebody asked.
    refused: Mutex<BTreeSet<Owner>>,
}

impl Doors {
    pub(crate) fn open(&self, id: NodeId, owner: Owner, node: Arc<Node>) {
        self.open.lock().insert(id, (owner, node));
    }

    pub(crate) fn close(&self, id: NodeId) {
        let door = self.open.lock().remove(&id);
        drop(door);
    }

    /// Whose doors refused a request since this was last asked.
    pub(crate) fn take_refused(&self) -> BTreeSet<Owner> {
        std::mem::take(&mut self.refused.lock())
    }

    fn refused(&self, owner: Owner) {
        self.refused.lock().insert(owner);
    }

    fn of(&self, id: NodeId) -> Option<(Owner, Arc<Node>)> {
        self.open.lock().get(&id).cloned()
    }
}

/// What all clients share.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) agenda: Arc<Agenda>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) record: Arc<Record>,
    pub(crate) spawner: Spawner,
}

impl Clients {
    /// Starts every client of a scenario, spread over the datacenters.
    pub(crate) fn start(&self, scenario: &Scenario, streams: Streams, begin: Micros) {
        let workload = Arc::new(scenario.workload.clone());
        let dcs = self.cluster.topology.dcs();
        for number in 0..workload.clients {
            let at = usize::try_from(number).unwrap_or(0) % dcs.len().max(1);
            let Some(dc) = dcs.get(at) else { return };
            let draw = streams.draw(Purpose::Client(number));
            let client = Client::new(self.clone(), Arc::clone(&workload), number, dc.id, draw);
            self.spawner.spawn(Owner::Client(number), client.run(begin, scenario.sim));
        }
    }
}
