//! The catalog as the data path reads it: names and ids to tables, with their placements.
//!
//! INVARIANT: a [`CatalogView`] is never changed, only replaced, so a request that resolved its
//! table once plans with one placement from start to end.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_coordinator::Segments;
use meridian_topology::{KeyspaceMap, Placement, PlacementError, Topology};
use meridian_types::{Catalog, KeyspaceDef, KeyspaceId, NodeId, TableDef, TableName};

use crate::placements::{Placed, PlacementCache, SharedVnodes};

/// A keyspace with the replicas of each of its vnodes.
#[derive(Clone, Debug)]
pub(crate) struct KeyspaceView {
    pub(crate) def: KeyspaceDef,
    pub(crate) placement: Arc<Placement>,
    /// Runs of the ring that the same nodes hold, for scans.
    pub(crate) segments: Arc<Segments>,
    /// What this node compares with each other node.
    pub(crate) shared: Arc<SharedVnodes>,
}

/// Where this node stands: what a view is built for.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) me: NodeId,
    pub(crate) topology: &'a Topology,
    pub(crate) placements: &'a PlacementCache,
}

/// A table that requests can be planned for.
#[derive(Debug)]
pub(crate) struct TableRef {
    pub(crate) def: Arc<TableDef>,
    pub(crate) keyspace: Arc<KeyspaceView>,
}

/// Everything that a request needs to know of the catalog.
#[derive(Debug, Default)]
pub(crate) struct CatalogView {
    tables: BTreeMap<TableName, Arc<TableRef>>,
    keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceView>>,
}

impl CatalogView {
    /// Builds the view; keyspaces that do not fit this cluster are left out and logged, because
    /// their requests cannot be placed, while the others' can.
    pub(crate) fn build(catalog: &Catalog, ground: Ground<'_>, before: &Self) -> Self {
        let mut keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceView>> = BTreeMap::new();
        for def in catalog.keyspaces_in_use().into_values() {
            if let Some(same) = before.keyspaces.get(&def.id).filter(|k| k.def == *def) {
                keyspaces.insert(def.id, Arc::clone(same));
                continue;
            }
            match place(def, ground, before, &keyspaces) {
                Ok(view) => {
                    keyspaces.insert(def.id, Arc::new(view));
                }
                Err(error) => {
                    tracing::error!(keyspace = def.name, %error, "the keyspace cannot be placed");
                }
            }
        }
        let tables = catalog.tables_in_use().into_values().filter_map(|def| {
            let keyspace = Arc::clone(keyspaces.get(&def.keyspace)?);
            let table = TableRef { def: Arc::new(def.clone()), keyspace };
            Some((def.name.clone(), Arc::new(table)))
        });
        Self { tables: tables.collect(), keyspaces }
    }

    pub(crate) fn table(&self, name: &TableName) -> Option<&Arc<TableRef>> {
        self.tables.get(name)
    }

    pub(crate) fn keyspace(&self, id: KeyspaceId) -> Option<&Arc<KeyspaceView>> {
        self.keyspaces.get(&id)
    }

    pub(crate) fn keyspaces(&self) -> impl Iterator<Item = &Arc<KeyspaceView>> {
        self.keyspaces.values()
    }
}

/// Keyspaces with equal replication maps share one placement: it is the largest thing in the view.
fn place(
    def: &KeyspaceDef,
    ground: Ground<'_>,
    before: &CatalogView,
    now: &BTreeMap<KeyspaceId, Arc<KeyspaceView>>,
) -> Result<KeyspaceView, PlacementError> {
    let mut known = now.values().chain(before.keyspaces.values());
    let def = def.clone();
    if let Some(same) = known.find(|k| k.def.replication == def.replication) {
        return Ok(KeyspaceView { def, ..KeyspaceView::clone(same) });
    }
    let Ground { me, topology, placements } = ground;
    let names = def.replication.iter().map(|(dc, &n)| (dc.as_str(), n));
    let map = KeyspaceMap::from_names(topology, names)?;
    let Placed { placement, segments } = placements.placed(topology, map)?;
    let shared = Arc::new(SharedVnodes::of(&placement, me));
    Ok(KeyspaceView { def, placement, segments, shared })
}
