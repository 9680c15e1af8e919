//! Keyspaces and tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use meridian_service::{
    CallContext, CreateKeyspace, CreateTable, DcShortfall, DcTally, Effect, Outcome, RequestError,
    TableView,
};
use meridian_topology::{DcInfo, KeyspaceMap};
use meridian_transport::Class;
use meridian_types::catalog::Version;
use meridian_types::{Catalog, CatalogError, ConsistencyLevel, KeyspaceId, NodeId, TableName};
use meridian_wire::replica::{CatalogMessage, CatalogReply, PeerBody};

use crate::node::Inner;
use crate::put::millis;

/// Definitions are asked of a majority of the nodes in every datacenter.
const LEVEL: ConsistencyLevel = ConsistencyLevel::EachQuorum;

impl Inner {
    pub(crate) async fn create_keyspace(
        self: &Arc<Self>,
        context: &CallContext,
        create: CreateKeyspace,
    ) -> Result<Outcome, RequestError> {
        let CreateKeyspace { name, replication, if_not_exists } = create;
        let replication =
            if replication.is_empty() { self.default_replication() } else { replication };
        let names = replication.iter().map(|(dc, &n)| (dc.as_str(), n));
        KeyspaceMap::from_names(&self.topology, names).map_err(|error| {
            RequestError::InvalidArgument { what: "replication", why: error.to_string() }
        })?;
        let define = |catalog: &mut Catalog, version| {
            let created = catalog.create_keyspace(&name, replication.clone(), version)?;
            Ok(Some(created.id))
        };
        self.define(context, if_not_exists, define).await
    }

    pub(crate) async fn create_table(
        self: &Arc<Self>,
        context: &CallContext,
        create: CreateTable,
    ) -> Result<Outcome, RequestError> {
        let CreateTable { name, options, if_not_exists } = create;
        let define = |catalog: &mut Catalog, version| {
            catalog.create_table(&name, options.clone(), version).map(|_| None)
        };
        self.define(context, if_not_exists, define).await
    }

    async fn define(
        self: &Arc<Self>,
        context: &CallContext,
        if_not_exists: bool,
        define: impl Fn(&mut Catalog, Version) -> Result<Option<KeyspaceId>, CatalogError>,
    ) -> Result<Outcome, RequestError> {
        let version = Version { stamp: super::write::stamp_at(self.host.wall()), node: self.id };
        let mut catalog = (*self.store.catalog()).clone();
        let created = match define(&mut catalog, version) {
            Ok(created) => created,
            Err(CatalogError::Exists(_)) if if_not_exists => {
                return Ok(Outcome::Created { new: false });
            }
            Err(error) => return Err(error.into()),
        };
        self.refuse_without_majorities()?;
        self.publish(context, catalog, created).await?;
        Ok(Outcome::Created { new: true })
    }

    /// A datacenter that is cut off creates nothing: refused before anything is written.
    fn refuse_without_majorities(&self) -> Result<(), RequestError> {
        let alive = |node| node == self.id || self.is_alive(node);
        let missing: Vec<DcShortfall> = self
            .tallies(alive)
            .into_iter()
            .filter(|dc| dc.acked < dc.required)
            .map(|dc| {
                let DcTally { datacenter, acked: alive, required, replicas } = dc;
                DcShortfall { datacenter, required, alive, replicas }
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(RequestError::Unavailable { level: LEVEL, missing })
    }

    async fn publish(
        self: &Arc<Self>,
        context: &CallContext,
        catalog: Catalog,
        created: Option<KeyspaceId>,
    ) -> Result<(), RequestError> {
        let mine = catalog.clone();
        let joined = self.off_thread(move |inner| inner.join_catalog(&mine, created)).await;
        if let Err(error) =
            joined.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string()))
        {
            return Err(RequestError::Storage { why: error, effect: Effect::Unknown });
        }
        let others = self.topology.nodes().iter().map(|node| node.id).filter(|&n| n != self.id);
        let asked = others.map(|node| {
            let catalog = catalog.clone();
            let message = PeerBody::Catalog(match created {
                Some(keyspace) => CatalogMessage::Created { catalog, keyspace },
                None => CatalogMessage::Publish(catalog),
            });
            let timeout = millis(context.timeout);
            async move {
                let answer =
                    self.ask(node, Class::Control, Some(context.id), message, timeout).await;
                (node, matches!(answer, Ok(PeerBody::CatalogReply(CatalogReply::Joined))))
            }
        });
        let mut acked: BTreeSet<NodeId> =
            join_all(asked).await.into_iter().filter(|(_, ok)| *ok).map(|(node, _)| node).collect();
        acked.insert(self.id);
        self.check_majorities(&acked)
    }

    fn check_majorities(&self, acked: &BTreeSet<NodeId>) -> Result<(), RequestError> {
        let acks = self.tallies(|node| acked.contains(&node));
        if acks.iter().all(|dc| dc.acked >= dc.required) {
            return Ok(());
        }
        Err(RequestError::Timeout { level: LEVEL, acks, write: true })
    }

    /// How many nodes of each datacenter count, and how many a majority is.
    fn tallies(&self, counts: impl Fn(NodeId) -> bool) -> Vec<DcTally> {
        let tally = |dc: &DcInfo| {
            let nodes = || self.topology.nodes_in(dc.id);
            let replicas = nodes().count();
            DcTally {
                datacenter: dc.name.clone(),
                acked: nodes().filter(|node| counts(node.id)).count(),
                required: replicas / 2 + 1,
                replicas,
            }
        };
        self.topology.dcs().iter().map(tally).collect()
    }

    fn default_replication(&self) -> BTreeMap<String, u8> {
        let map = self.options.default_replication.iter();
        let name = |(dc, n)| Some((self.topology.dc_name(dc)?.to_owned(), n));
        map.filter_map(name).collect()
    }

    pub(crate) fn describe_table(&self, name: &TableName) -> Result<Outcome, RequestError> {
        let table = self.table(name)?;
        let size = self.table_size(table.def.id);
        Ok(Outcome::Table(TableView {
            def: (*table.def).clone(),
            replication: table.keyspace.def.replication.clone(),
            estimated_rows: size.estimated_rows,
            disk_bytes: size.disk_bytes,
        }))
    }

    pub(crate) fn list_tables(&self) -> Outcome {
        let catalog = self.store.catalog();
        Outcome::Tables {
            keyspaces: catalog.keyspaces().cloned().collect(),
            tables: catalog.tables().cloned().collect(),
        }
    }
}
