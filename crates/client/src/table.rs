//! A table, in short.

use bytes::Bytes;
use meridian_service::{
    Batch, BatchOutcome, Delete, Expiry, Get, GetOutcome, MultiGet, Put, PutItem, PutOutcome,
    ReadValue, ReplicaRow, RequestError, Scan, ScanOutcome, Touch, TouchOutcome,
};
use meridian_types::{ConsistencyLevel, TableName};

use crate::{Client, ClientError};

/// Rows of a page where nothing else is said.
const PAGE_ROWS: usize = 1_000;

/// A table and the level at which it is read and written. Cheap to clone.
#[derive(Clone)]
pub struct Table {
    client: Client,
    name: TableName,
    consistency: ConsistencyLevel,
}

/// A key as one value, and what stands for all that was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The key.
    pub key: Bytes,
    /// The one value, or what the resolver made of several; `None` where there is none.
    pub value: Option<Bytes>,
    /// How many values there were.
    pub siblings: usize,
    /// Stands for them: a write with it replaces them and nothing else.
    pub context: Option<Bytes>,
}

impl Table {
    pub(crate) fn new(client: Client, name: TableName, consistency: ConsistencyLevel) -> Self {
        Self { client, name, consistency }
    }

    /// The same table at another level.
    #[must_use]
    pub fn at(mut self, consistency: ConsistencyLevel) -> Self {
        self.consistency = consistency;
        self
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// Reads a key: its values, and the context for a write that replaces them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<GetOutcome, ClientError> {
        self.client.get(self.get_of(key.into())).await
    }

    /// Reads a key as one value. `resolve` makes it of two or more siblings, which it gets in the
    /// same order as every other reader. It changes nothing that is stored:
    /// [`Self::put_after`] does.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_resolved(
        &self,
        key: impl Into<Bytes>,
        resolve: impl FnOnce(&[ReadValue]) -> Bytes,
    ) -> Result<Resolved, ClientError> {
        let key = key.into();
        let got = self.get(key.clone()).await?;
        let value = match &got.values[..] {
            [] => None,
            [one] => Some(one.value.clone()),
            several => Some(resolve(several)),
        };
        Ok(Resolved { key, value, siblings: got.values.len(), context: got.context })
    }

    /// Writes a key. A `siblings` table keeps what others wrote beside it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutOutcome, ClientError> {
        self.put_item(item(key.into(), Some(value.into()), None)).await
    }

    /// Writes a key in place of what was read of it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_after(
        &self,
        read: &Resolved,
        value: impl Into<Bytes>,
    ) -> Result<PutOutcome, ClientError> {
        self.put_item(item(read.key.clone(), Some(value.into()), read.context.clone())).await
    }

    /// Writes a key as the item says: with an expiry, a context, a write id.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_item(&self, item: PutItem) -> Result<PutOutcome, ClientError> {
        let put = Put {
            table: self.name.clone(),
            item,
            condition: None,
            consistency: self.consistency,
            with_context: false,
        };
        self.client.put(put).await
    }

    /// Deletes a key: what the leading replica has of it at that moment.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<PutOutcome, ClientError> {
        self.delete_of(key.into(), None).await
    }

    /// Deletes what was read of a key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_after(&self, read: &Resolved) -> Result<PutOutcome, ClientError> {
        self.delete_of(read.key.clone(), read.context.clone()).await
    }

    async fn delete_of(
        &self,
        key: Bytes,
        context: Option<Bytes>,
    ) -> Result<PutOutcome, ClientError> {
        let delete = Delete {
            table: self.name.clone(),
            key,
            context,
            write_id: None,
            consistency: self.consistency,
            report_existed: false,
        };
        self.client.delete(delete).await
    }

    /// Changes when a key expires: [`Expiry::Never`] or [`Expiry::At`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn touch(
        &self,
        key: impl Into<Bytes>,
        expiry: Expiry,
    ) -> Result<TouchOutcome, ClientError> {
        let (table, consistency) = (self.name.clone(), self.consistency);
        self.client.touch(Touch { table, key: key.into(), expiry, consistency }).await
    }

    /// Reads many keys, each on its own.
    ///
    /// # Errors
    /// See [`ClientError`]; what happened to a single key is in its result.
    pub async fn multi_get(
        &self,
        keys: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Result<Vec<Result<GetOutcome, RequestError>>, ClientError> {
        let get = MultiGet {
            table: self.name.clone(),
            keys: keys.into_iter().map(Into::into).collect(),
            consistency: self.consistency,
            with_context: true,
        };
        self.client.multi_get(get).await
    }

    /// Writes many keys, each on its own: not atomic.
    ///
    /// # Errors
    /// See [`ClientError`]; what happened to a single write is in its result.
    pub async fn batch(&self, items: Vec<PutItem>) -> Result<BatchOutcome, ClientError> {
        let (table, consistency) = (self.name.clone(), self.consistency);
        self.client.batch(Batch { table, items, consistency }).await
    }

    /// Shows what every replica of a key stores.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn replicas(&self, key: impl Into<Bytes>) -> Result<Vec<ReplicaRow>, ClientError> {
        self.client.replicas(self.get_of(key.into())).await
    }

    /// Reads the table page by page, in the order of the ring.
    #[must_use]
    pub fn scan(&self) -> Scanning {
        Scanning {
            client: self.client.clone(),
            scan: Scan {
                table: self.name.clone(),
                cursor: None,
                limit: PAGE_ROWS,
                prefix: Bytes::new(),
                with_values: true,
                consistency: self.consistency,
            },
        }
    }

    fn get_of(&self, key: Bytes) -> Get {
        Get { table: self.name.clone(), key, consistency: self.consistency, with_context: true }
    }
}

fn item(key: Bytes, value: Option<Bytes>, context: Option<Bytes>) -> PutItem {
    PutItem { key, value, expiry: Expiry::TableDefault, context, write_id: None }
}

/// What is read of a table.
#[derive(Clone)]
pub struct Scanning {
    client: Client,
    scan: Scan,
}

impl Scanning {
    /// Only keys that start with this.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Bytes>) -> Self {
        self.scan.prefix = prefix.into();
        self
    }

    /// Most rows of a page. Default 1,000.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.scan.limit = rows;
        self
    }

    /// Keys without their values.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.scan.with_values = false;
        self
    }

    /// Starts after a page that was read before: [`ScanOutcome::next`].
    #[must_use]
    pub fn after(mut self, cursor: Bytes) -> Self {
        self.scan.cursor = Some(cursor);
        self
    }

    /// The pages.
    #[must_use]
    pub fn pages(self) -> Pages {
        Pages { client: self.client, next: Some(self.scan) }
    }
}

/// Pages of a table, one after the other.
pub struct Pages {
    client: Client,
    /// What to ask next; `None` after the last page.
    next: Option<Scan>,
}

impl Pages {
    /// The next page; `None` after the last. After an error the same page can be asked for again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next_page(&mut self) -> Result<Option<ScanOutcome>, ClientError> {
        let Some(scan) = &self.next else {
            return Ok(None);
        };
        let page = self.client.scan(scan.clone()).await?;
        self.next = match &page.next {
            None => None,
            Some(cursor) => {
                let cursor = Some(cursor.clone());
                self.next.take().map(|scan| Scan { cursor, ..scan })
            }
        };
        Ok(Some(page))
    }
}
