//! Requests about keyspaces, tables and the cluster, both ways.

use meridian_service::{AcceptLoss, CreateKeyspace, CreateTable, Request, RequestError};
use meridian_types::{Compaction, Compression, ConflictPolicy, TableOptions, VnodeId};

use super::request::{Defaults, IntoRequest, invalid, table};
use crate::v1;

impl IntoRequest for v1::CreateKeyspaceRequest {
    fn into_request(self, _: &Defaults) -> Result<Request, RequestError> {
        let replicas = |(dc, n): (String, u32)| {
            let why = |_| invalid("replication", format!("{n} replicas in {dc}; at most 255"));
            u8::try_from(n).map(|n| (dc.clone(), n)).map_err(why)
        };
        Ok(Request::CreateKeyspace(CreateKeyspace {
            name: self.name,
            replication: self.replication.into_iter().map(replicas).collect::<Result<_, _>>()?,
            if_not_exists: self.if_not_exists,
        }))
    }
}

impl IntoRequest for v1::AcceptLossRequest {
    fn into_request(self, _: &Defaults) -> Result<Request, RequestError> {
        let vnodes = self.vnodes.into_iter().map(VnodeId).collect();
        Ok(Request::AcceptLoss(AcceptLoss { node: self.node, keyspace: self.keyspace, vnodes }))
    }
}

impl From<AcceptLoss> for v1::AcceptLossRequest {
    fn from(accept: AcceptLoss) -> Self {
        let AcceptLoss { node, keyspace, vnodes } = accept;
        Self { node, keyspace, vnodes: vnodes.into_iter().map(|vnode| vnode.0).collect() }
    }
}

impl From<CreateKeyspace> for v1::CreateKeyspaceRequest {
    fn from(create: CreateKeyspace) -> Self {
        Self {
            name: create.name,
            replication: create.replication.into_iter().map(|(dc, n)| (dc, n.into())).collect(),
            if_not_exists: create.if_not_exists,
        }
    }
}

pub(super) fn options(options: v1::TableOptions) -> Result<TableOptions, RequestError> {
    let policy = match v1::ConflictPolicy::try_from(options.policy) {
        Ok(v1::ConflictPolicy::Unspecified) => ConflictPolicy::default(),
        Ok(v1::ConflictPolicy::Siblings) => ConflictPolicy::Siblings,
        Ok(v1::ConflictPolicy::Lww) => ConflictPolicy::Lww,
        Err(unknown) => return Err(invalid("options.policy", unknown.to_string())),
    };
    let compression = match v1::Compression::try_from(options.compression) {
        Ok(v1::Compression::Unspecified) => Compression::default(),
        Ok(v1::Compression::None) => Compression::None,
        Ok(v1::Compression::Lz4) => Compression::Lz4,
        Ok(v1::Compression::Snappy) => Compression::Snappy,
        Ok(v1::Compression::Zstd) => Compression::Zstd,
        Err(unknown) => return Err(invalid("options.compression", unknown.to_string())),
    };
    let compaction = match v1::Compaction::try_from(options.compaction) {
        Ok(v1::Compaction::Unspecified) => Compaction::default(),
        Ok(v1::Compaction::Leveled) => Compaction::Leveled,
        Ok(v1::Compaction::SizeTiered) => Compaction::SizeTiered,
        Ok(v1::Compaction::TimeWindow) => Compaction::TimeWindow,
        Ok(v1::Compaction::Hybrid) => Compaction::Hybrid,
        Err(unknown) => return Err(invalid("options.compaction", unknown.to_string())),
    };
    Ok(TableOptions { policy, default_ttl_ms: options.default_ttl_ms, compression, compaction })
}

impl From<TableOptions> for v1::TableOptions {
    fn from(options: TableOptions) -> Self {
        let policy = match options.policy {
            ConflictPolicy::Siblings => v1::ConflictPolicy::Siblings,
            ConflictPolicy::Lww => v1::ConflictPolicy::Lww,
        };
        let compression = match options.compression {
            Compression::None => v1::Compression::None,
            Compression::Lz4 => v1::Compression::Lz4,
            Compression::Snappy => v1::Compression::Snappy,
            Compression::Zstd => v1::Compression::Zstd,
        };
        let compaction = match options.compaction {
            Compaction::Leveled => v1::Compaction::Leveled,
            Compaction::SizeTiered => v1::Compaction::SizeTiered,
            Compaction::TimeWindow => v1::Compaction::TimeWindow,
            Compaction::Hybrid => v1::Compaction::Hybrid,
        };
        Self {
            policy: policy.into(),
            default_ttl_ms: options.default_ttl_ms,
            compression: compression.into(),
            compaction: compaction.into(),
        }
    }
}

impl IntoRequest for v1::CreateTableRequest {
    fn into_request(self, _: &Defaults) -> Result<Request, RequestError> {
        Ok(Request::CreateTable(CreateTable {
            name: table(&self.name)?,
            options: options(self.options.unwrap_or_default())?,
            if_not_exists: self.if_not_exists,
        }))
    }
}

impl From<CreateTable> for v1::CreateTableRequest {
    fn from(create: CreateTable) -> Self {
        Self {
            name: create.name.into(),
            options: Some(create.options.into()),
            if_not_exists: create.if_not_exists,
        }
    }
}

impl IntoRequest for v1::DescribeTableRequest {
    fn into_request(self, _: &Defaults) -> Result<Request, RequestError> {
        Ok(Request::DescribeTable(table(&self.name)?))
    }
}

impl IntoRequest for v1::ListTablesRequest {
    fn into_request(self, _: &Defaults) -> Result<Request, RequestError> {
        Ok(Request::ListTables)
    }
}

impl IntoRequest for v1::ClusterRequest {
    fn into_request(self, _: &Defaults) -> Result<Request, RequestError> {
        Ok(Request::Cluster)
    }
}
