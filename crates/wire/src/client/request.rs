//! Requests, both ways.

use bytes::Bytes;
use meridian_service::{
    AtomicBatch, Batch, Condition, Delete, Expiry, Get, MultiGet, Put, PutItem, Request,
    RequestError, Scan, TableWrite, Touch,
};
use meridian_types::{ConsistencyLevel, Millis, TableName, TableNameError, WriteId};

use super::{consistency, level_of};
use crate::v1;

/// What a node fills in where a request says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The level of requests that name none.
    pub consistency: ConsistencyLevel,
    /// Rows of a page that names no limit.
    pub page_rows: usize,
    /// The present time, from which relative expiries count.
    pub now: Millis,
}

/// A message from outside that is a request.
pub trait IntoRequest {
    /// The request.
    ///
    /// # Errors
    /// [`RequestError::InvalidArgument`] that names the field; nothing was changed.
    fn into_request(self, defaults: &Defaults) -> Result<Request, RequestError>;
}

pub(super) fn invalid(what: &'static str, why: impl Into<String>) -> RequestError {
    RequestError::InvalidArgument { what, why: why.into() }
}

impl Defaults {
    fn level(&self, number: i32) -> Result<ConsistencyLevel, RequestError> {
        if number == 0 {
            return Ok(self.consistency);
        }
        let why = || format!("{number} is no level's number; see enum Consistency");
        level_of(number).ok_or_else(|| invalid("consistency", why()))
    }

    fn expiry(&self, expiry: Option<v1::Expiry>) -> Result<Expiry, RequestError> {
        use v1::expiry::Kind;
        let Some(v1::Expiry { kind, millis }) = expiry else {
            return Ok(Expiry::TableDefault);
        };
        match Kind::try_from(kind) {
            Ok(Kind::TableDefault) => Ok(Expiry::TableDefault),
            Ok(Kind::Never) => Ok(Expiry::Never),
            Ok(Kind::At) => Ok(Expiry::At(Millis(millis))),
            Ok(Kind::After) => Ok(Expiry::At(self.now.plus(millis))),
            Ok(Kind::Keep) => Ok(Expiry::Keep),
            Err(unknown) => Err(invalid("expiry", format!("{unknown}; see enum Expiry.Kind"))),
        }
    }

    fn item(&self, item: v1::Write) -> Result<PutItem, RequestError> {
        Ok(PutItem {
            key: item.key,
            value: item.value,
            expiry: self.expiry(item.expiry)?,
            context: item.context,
            write_id: write_id(item.write_id.as_deref())?,
        })
    }
}

pub(super) fn table(name: &str) -> Result<TableName, RequestError> {
    name.parse().map_err(|why: TableNameError| invalid("table", why.to_string()))
}

fn write_id(bytes: Option<&[u8]>) -> Result<Option<WriteId>, RequestError> {
    let parse = |bytes: &[u8]| {
        let why = |_| invalid("write_id", format!("it has {} bytes; 16 are needed", bytes.len()));
        bytes.try_into().map(WriteId::from_bytes).map_err(why)
    };
    bytes.map(parse).transpose()
}

fn bytes_of(id: Option<WriteId>) -> Option<Bytes> {
    id.map(|id| Bytes::copy_from_slice(&id.to_bytes()))
}

fn condition(number: i32) -> Result<Option<Condition>, RequestError> {
    match v1::Condition::try_from(number) {
        Ok(v1::Condition::None) => Ok(None),
        Ok(v1::Condition::Absent) => Ok(Some(Condition::Absent)),
        Ok(v1::Condition::Present) => Ok(Some(Condition::Present)),
        Err(unknown) => Err(invalid("condition", format!("{unknown}; see enum Condition"))),
    }
}

impl v1::GetRequest {
    fn into_get(self, defaults: &Defaults) -> Result<Get, RequestError> {
        Ok(Get {
            table: table(&self.table)?,
            key: self.key,
            consistency: defaults.level(self.consistency)?,
            with_context: self.with_context,
        })
    }

    /// The same message asks for what every replica stores; the method says which.
    ///
    /// # Errors
    /// As [`IntoRequest::into_request`].
    pub fn into_replicas_request(self, defaults: &Defaults) -> Result<Request, RequestError> {
        self.into_get(defaults).map(Request::Replicas)
    }
}

impl IntoRequest for v1::GetRequest {
    fn into_request(self, defaults: &Defaults) -> Result<Request, RequestError> {
        self.into_get(defaults).map(Request::Get)
    }
}

impl From<Get> for v1::GetRequest {
    fn from(get: Get) -> Self {
        Self {
            table: get.table.into(),
            key: get.key,
            consistency: consistency(get.consistency).into(),
            with_context: get.with_context,
        }
    }
}

impl IntoRequest for v1::PutRequest {
    fn into_request(self, defaults: &Defaults) -> Result<Request, RequestError> {
        let item = self.item.ok_or_else(|| invalid("item", "it is missing"))?;
        Ok(Request::Put(Put {
            table: table(&self.table)?,
            item: defaults.item(item)?,
            condition: condition(self.condition)?,
            consistency: defaults.level(self.consistency)?,
            with_context: self.with_context,
        }))
    }
}

impl From<Expiry> for v1::Expiry {
    fn from(expiry: Expiry) -> Self {
        use v1::expiry::Kind;
        let (kind, millis) = match expiry {
            Expiry::TableDefault => (Kind::TableDefault, 0),
            Expiry::Never => (Kind::Never, 0),
            Expiry::At(Millis(millis)) => (Kind::At, millis),
            Expiry::Keep => (Kind::Keep, 0),
        };
        Self { kind: kind.into(), millis }
    }
}

impl From<PutItem> for v1::Write {
    fn from(item: PutItem) -> Self {
        Self {
            key: item.key,
            value: item.value,
            expiry: Some(item.expiry.into()),
            context: item.context,
            write_id: bytes_of(item.write_id),
        }
    }
}

impl From<Put> for v1::PutRequest {
    fn from(put: Put) -> Self {
        let condition = match put.condition {
            None => v1::Condition::None,
            Some(Condition::Absent) => v1::Condition::Absent,
            Some(Condition::Present) => v1::Condition::Present,
        };
        Self {
            table: put.table.into(),
            item: Some(put.item.into()),
            condition: condition.into(),
            consistency: consistency(put.consistency).into(),
            with_context: put.with_context,
        }
    }
}

impl IntoRequest for v1::DeleteRequest {
    fn into_request(self, defaults: &Defaults) -> Result<Request, RequestError> {
        Ok(Request::Delete(Delete {
            table: table(&self.table)?,
            key: self.key,
            context: self.context,
            write_id: write_id(self.write_id.as_deref())?,
            consistency: defaults.level(self.consistency)?,
            report_existed: self.report_existed,
        }))
    }
}

impl From<Delete> for v1::DeleteRequest {
    fn from(delete: Delete) -> Self {
        Self {
            table: delete.table.into(),
            key: delete.key,
            context: delete.context,
            write_id: bytes_of(delete.write_id),
            consistency: consistency(delete.consistency).into(),
            report_existed: delete.report_existed,
        }
    }
}

impl IntoRequest for v1::TouchRequest {
    fn into_request(self, defaults: &Defaults) -> Result<Request, RequestError> {
        let expiry = defaults.expiry(self.expiry)?;
        if !matches!(expiry, Expiry::Never | Expiry::At(_)) {
            return Err(invalid("expiry", "a touch needs KIND_NEVER, KIND_AT or KIND_AFTER"));
        }
        Ok(Request::Touch(Touch {
            table: table(&self.table)?,
            key: self.key,
            expiry,
            consistency: defaults.level(self.consistency)?,
        }))
    }
}

impl From<Touch> for v1::TouchRequest {
    fn from(touch: Touch) -> Self {
        Self {
            table: touch.table.into(),
            key: touch.key,
            expiry: Some(touch.expiry.into()),
            consistency: consistency(touch.consistency).into(),
        }
    }
}

impl IntoRequest for v1::MultiGetRequest {
    fn into_request(self, defaults: &Defaults) -> Result<Request, RequestError> {
        Ok(Request::MultiGet(MultiGet {
            table: table(&self.table)?,
            keys: self.keys,
            consistency: defaults.level(self.consistency)?,
            with_context: self.with_context,
        }))
    }
}

impl From<MultiGet> for v1::MultiGetRequest {
    fn from(get: MultiGet) -> Self {
        Self {
            table: get.table.into(),
            keys: get.keys,
            consistency: consistency(get.consistency).into(),
            with_context: get.with_context,
        }
    }
}

impl IntoRequest for v1::BatchRequest {
    fn into_request(self, defaults: &Defaults) -> Result<Request, RequestError> {
        let items = self.items.into_iter().map(|item| defaults.item(item));
        Ok(Request::Batch(Batch {
            table: table(&self.table)?,
            items: items.collect::<Result<_, _>>()?,
            consistency: defaults.level(self.consistency)?,
        }))
    }
}

impl From<Batch> for v1::BatchRequest {
    fn from(batch: Batch) -> Self {
        Self {
            table: batch.table.into(),
            items: batch.items.into_iter().map(Into::into).collect(),
            consistency: consistency(batch.consistency).into(),
        }
    }
}

impl IntoRequest for v1::AtomicBatchRequest {
    fn into_request(self, defaults: &Defaults) -> Result<Request, RequestError> {
        let one = |write: v1::TableWrite| {
            let item = write.item.ok_or_else(|| invalid("item", "it is missing"))?;
            Ok(TableWrite { table: table(&write.table)?, item: defaults.item(item)? })
        };
        Ok(Request::AtomicBatch(AtomicBatch {
            writes: self.writes.into_iter().map(one).collect::<Result<_, RequestError>>()?,
            consistency: defaults.level(self.consistency)?,
        }))
    }
}

impl From<AtomicBatch> for v1::AtomicBatchRequest {
    fn from(batch: AtomicBatch) -> Self {
        let one = |TableWrite { table, item }| v1::TableWrite {
            table: table.into(),
            item: Some(item.into()),
        };
        Self {
            writes: batch.writes.into_iter().map(one).collect(),
            consistency: consistency(batch.consistency).into(),
        }
    }
}

impl IntoRequest for v1::ScanRequest {
    fn into_request(self, defaults: &Defaults) -> Result<Request, RequestError> {
        let limit = match self.limit {
            0 => defaults.page_rows,
            n => usize::try_from(n).unwrap_or(usize::MAX),
        };
        Ok(Request::Scan(Scan {
            table: table(&self.table)?,
            cursor: self.cursor,
            limit,
            prefix: self.prefix,
            with_values: self.with_values,
            consistency: defaults.level(self.consistency)?,
        }))
    }
}

impl From<Scan> for v1::ScanRequest {
    fn from(scan: Scan) -> Self {
        Self {
            table: scan.table.into(),
            cursor: scan.cursor,
            limit: u32::try_from(scan.limit).unwrap_or(u32::MAX),
            prefix: scan.prefix,
            with_values: scan.with_values,
            consistency: consistency(scan.consistency).into(),
        }
    }
}
