//! Who is connected, for `CLIENT LIST`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The connections of the RESP door, as many as it has places. Written to when a connection comes,
/// goes, or changes its name or database; never on the data path.
#[derive(Debug, Default)]
pub(super) struct Clients {
    last_id: AtomicU64,
    connected: Mutex<BTreeMap<u64, Client>>,
}

/// What is shown of a connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) peer: SocketAddr,
    pub(super) name: String,
    pub(super) library: String,
    pub(super) library_version: String,
    pub(super) database: String,
    pub(super) protocol: u8,
}

impl Clients {
    pub(super) fn enter(&self, client: Client) -> u64 {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        self.connected.lock().insert(id, client);
        id
    }

    pub(super) fn leave(&self, id: u64) {
        self.connected.lock().remove(&id);
    }

    pub(super) fn change(&self, id: u64, change: impl FnOnce(&mut Client)) {
        if let Some(client) = self.connected.lock().get_mut(&id) {
            change(client);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.connected.lock().len()
    }

    /// One line for each connection, or for one of them.
    pub(super) fn list(&self, only: Option<u64>) -> String {
        let mut out = String::new();
        for (id, client) in self.connected.lock().iter() {
            if only.is_some_and(|only| only != *id) {
                continue;
            }
            let Client { peer, name, library, library_version, database, protocol } = client;
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "id={id} addr={peer} name={name} db={database} resp={protocol} \
                 lib-name={library} lib-ver={library_version}"
            );
        }
        out
    }
}
