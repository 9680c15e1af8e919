//! A service in memory: one replica's behaviour without any of its machinery.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use meridian_crdt::TokenError;
use meridian_service::{
    BatchOutcome, CallContext, ClusterView, Condition, DcView, Expiry, GetOutcome, NodeView,
    Outcome, PutItem, PutOutcome, ReadValue, ReplicaRow, Request, RequestError, Scan, ScanOutcome,
    ScanRow, Service, TableView, TableWrite, Touch, TouchOutcome,
};
use meridian_types::catalog::Version;
use meridian_types::{
    Catalog, ConflictPolicy, ConsistencyLevel, DcId, Hlc, Millis, NodeId, Partitioner, TableName,
};
use parking_lot::{Mutex, RwLock};

/// Independent maps, so that benchmarks on several threads do not measure one lock.
const STRIPES: usize = 64;

type Row = Vec<ReadValue>;
type Stripe = Mutex<BTreeMap<(u64, TableName, Bytes), Row>>;

/// Tables in memory.
pub(crate) struct Fake {
    catalog: RwLock<Catalog>,
    stripes: Vec<Stripe>,
    stamp: AtomicU64,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            catalog: RwLock::default(),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            stamp: AtomicU64::new(now().0 << 16),
        }
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(since.as_millis().try_into().unwrap_or(u64::MAX))
}

fn position(key: &[u8]) -> u64 {
    Partitioner::SlotMurmur3.token(key).high()
}

fn live(row: &Row) -> Row {
    let now = now();
    row.iter().filter(|value| value.expires.is_none_or(|at| at > now)).cloned().collect()
}

/// The stamps of what was read: exact enough for one replica.
fn seal(key: &[u8], row: &Row) -> Bytes {
    let mut out = position(key).to_be_bytes().to_vec();
    row.iter().for_each(|value| out.extend(value.stamp.0.to_be_bytes()));
    out.into()
}

fn unseal(key: &[u8], context: &[u8]) -> Result<Vec<Hlc>, RequestError> {
    let mut numbers = context.chunks(8).map(|chunk| {
        chunk
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_short| RequestError::from(TokenError::Forged))
    });
    match numbers.next().transpose()? {
        Some(given) if given == position(key) => numbers.map(|stamp| stamp.map(Hlc)).collect(),
        Some(_) => Err(TokenError::OtherKey.into()),
        None => Err(TokenError::Forged.into()),
    }
}

impl Fake {
    fn stripe(&self, key: &[u8]) -> &Stripe {
        &self.stripes[usize::try_from(position(key) % STRIPES as u64).unwrap()]
    }

    fn policy(&self, table: &TableName) -> Result<ConflictPolicy, RequestError> {
        let catalog = self.catalog.read();
        let def = catalog.table(table).ok_or_else(|| RequestError::UnknownTable(table.clone()))?;
        Ok(def.options.policy)
    }

    fn row(&self, table: &TableName, key: &Bytes) -> Row {
        let at = (position(key), table.clone(), key.clone());
        self.stripe(key).lock().get(&at).map(live).unwrap_or_default()
    }

    fn get(
        &self,
        table: &TableName,
        key: &Bytes,
        seal_it: bool,
    ) -> Result<GetOutcome, RequestError> {
        self.policy(table)?;
        let values = self.row(table, key);
        let context = seal_it.then(|| seal(key, &values));
        Ok(GetOutcome { values, context })
    }

    fn put(
        &self,
        table: &TableName,
        item: PutItem,
        condition: Option<Condition>,
    ) -> Result<PutOutcome, RequestError> {
        let policy = self.policy(table)?;
        let seen = item.context.as_ref().map(|context| unseal(&item.key, context)).transpose()?;
        let stamp = Hlc(self.stamp.fetch_add(1, Ordering::Relaxed));
        let at = (position(&item.key), table.clone(), item.key.clone());
        let mut stripe = self.stripe(&item.key).lock();
        let mut row = stripe.get(&at).map(live).unwrap_or_default();
        let existed = Some(!row.is_empty());
        let allowed = match condition {
            None => true,
            Some(Condition::Absent) => row.is_empty(),
            Some(Condition::Present) => !row.is_empty(),
        };
        if !allowed {
            return Ok(PutOutcome { applied: false, existed, ..PutOutcome::default() });
        }
        let expires = match item.expiry {
            Expiry::TableDefault | Expiry::Never => None,
            Expiry::At(at) => Some(at),
            Expiry::Keep => row.iter().filter_map(|value| value.expires).max(),
        };
        match (&seen, policy, &item.value) {
            (Some(seen), ..) => row.retain(|value| !seen.contains(&value.stamp)),
            (None, ConflictPolicy::Lww, _) | (None, _, None) => row.clear(),
            (None, ConflictPolicy::Siblings, Some(_)) => {}
        }
        row.extend(item.value.map(|value| ReadValue { value, stamp, expires }));
        let context = Some(seal(&item.key, &row));
        stripe.insert(at, row);
        Ok(PutOutcome { applied: true, existed, context, stamp })
    }

    fn touch(&self, touch: &Touch) -> Result<TouchOutcome, RequestError> {
        self.policy(&touch.table)?;
        let at = (position(&touch.key), touch.table.clone(), touch.key.clone());
        let mut stripe = self.stripe(&touch.key).lock();
        let mut row = stripe.get(&at).map(live).unwrap_or_default();
        let expires = match touch.expiry {
            Expiry::At(at) => Some(at),
            _ => None,
        };
        let changed = row.iter().any(|value| value.expires != expires);
        let existed = !row.is_empty();
        row.iter_mut().for_each(|value| value.expires = expires);
        stripe.insert(at, row);
        Ok(TouchOutcome { existed, changed })
    }

    fn scan(&self, scan: &Scan) -> Result<ScanOutcome, RequestError> {
        self.policy(&scan.table)?;
        let after = match &scan.cursor {
            None => None,
            Some(cursor) => {
                let what = "cursor";
                let why = "8 bytes are needed".to_owned();
                let bytes = cursor.as_ref().try_into();
                let bad = |_| RequestError::InvalidArgument { what, why };
                Some(bytes.map(u64::from_be_bytes).map_err(bad)?)
            }
        };
        let mut rows = BTreeMap::new();
        for stripe in &self.stripes {
            for ((position, table, key), row) in stripe.lock().iter() {
                let values = live(row);
                let wanted = *table == scan.table
                    && after.is_none_or(|after| *position > after)
                    && key.starts_with(&scan.prefix);
                if wanted && !values.is_empty() {
                    rows.insert((*position, key.clone()), values);
                }
            }
        }
        let more = rows.len() > scan.limit;
        let page: Vec<_> = rows.into_iter().take(scan.limit).collect();
        let next = page.last().filter(|_| more).map(|((position, _), _)| *position);
        let row = |((_, key), values)| ScanRow {
            key,
            values: if scan.with_values { values } else { Vec::new() },
        };
        Ok(ScanOutcome {
            rows: page.into_iter().map(row).collect(),
            next: next.map(|position| Bytes::copy_from_slice(&position.to_be_bytes())),
        })
    }

    fn version(&self) -> Version {
        Version { stamp: Hlc(self.stamp.fetch_add(1, Ordering::Relaxed)), node: NodeId(1) }
    }

    fn create(&self, request: Request) -> Result<Outcome, RequestError> {
        let version = self.version();
        let mut catalog = self.catalog.write();
        let (made, fine) = match request {
            Request::CreateKeyspace(create) => {
                let map = match create.replication {
                    map if map.is_empty() => BTreeMap::from([("us".to_owned(), 1)]),
                    map => map,
                };
                (
                    catalog.create_keyspace(&create.name, map, version).map(|_| ()),
                    create.if_not_exists,
                )
            }
            Request::CreateTable(create) => {
                let made = catalog.create_table(&create.name, create.options, version);
                (made.map(|_| ()), create.if_not_exists)
            }
            _ => unreachable!("only the two"),
        };
        match made {
            Ok(()) => Ok(Outcome::Created { new: true }),
            Err(meridian_types::CatalogError::Exists(_)) if fine => {
                Ok(Outcome::Created { new: false })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn table(&self, name: TableName) -> Result<Outcome, RequestError> {
        let catalog = self.catalog.read();
        let def = catalog.table(&name).ok_or(RequestError::UnknownTable(name.clone()))?.clone();
        let count = |stripe: &Stripe| stripe.lock().keys().filter(|at| at.1 == name).count();
        Ok(Outcome::Table(TableView {
            def,
            replication: BTreeMap::from([("us".to_owned(), 1)]),
            estimated_rows: self.stripes.iter().map(count).sum::<usize>() as u64,
            disk_bytes: 0,
        }))
    }

    fn cluster() -> Outcome {
        Outcome::Cluster(ClusterView {
            name: "fake".into(),
            answered_by: NodeId(1),
            default_consistency: ConsistencyLevel::LocalQuorum,
            datacenters: vec![DcView { id: DcId(0), name: "us".into() }],
            nodes: vec![NodeView {
                id: NodeId(1),
                name: "us-1".into(),
                datacenter: "us".into(),
                rack: "a".into(),
                alive: true,
                incarnation: None,
                hints: 0,
                differing_vnodes: 0,
                unsound_vnodes: 0,
                behind_dots: 0,
                behind_ms: 0,
            }],
        })
    }

    /// Serves a request.
    pub(crate) fn serve(&self, request: Request) -> Result<Outcome, RequestError> {
        match request {
            Request::Get(get) => self.get(&get.table, &get.key, get.with_context).map(Outcome::Got),
            Request::Put(put) => self.put(&put.table, put.item, put.condition).map(Outcome::Put),
            Request::Delete(delete) => {
                let item = PutItem {
                    key: delete.key,
                    value: None,
                    expiry: Expiry::Never,
                    context: delete.context,
                    write_id: None,
                };
                self.put(&delete.table, item, None).map(Outcome::Put)
            }
            Request::Touch(touch) => self.touch(&touch).map(Outcome::Touched),
            Request::MultiGet(get) => {
                let one = |key: &Bytes| self.get(&get.table, key, get.with_context);
                Ok(Outcome::MultiGot(get.keys.iter().map(one).collect()))
            }
            Request::Batch(batch) => {
                let one = |item| self.put(&batch.table, item, None);
                let results = batch.items.into_iter().map(one).collect();
                Ok(Outcome::Batch(BatchOutcome { results }))
            }
            Request::AtomicBatch(batch) => {
                let one = |write: TableWrite| self.put(&write.table, write.item, None);
                let results = batch.writes.into_iter().map(one).collect();
                Ok(Outcome::Batch(BatchOutcome { results }))
            }
            Request::Scan(scan) => self.scan(&scan).map(Outcome::Page),
            Request::Replicas(get) => Ok(Outcome::Replicas(vec![ReplicaRow {
                node: "us-1".into(),
                datacenter: "us".into(),
                values: Ok(self.row(&get.table, &get.key)),
                clock_digest: Some(1),
            }])),
            Request::CreateKeyspace(_) | Request::CreateTable(_) => self.create(request),
            Request::DescribeTable(name) => self.table(name),
            Request::ListTables => {
                let catalog = self.catalog.read();
                Ok(Outcome::Tables {
                    keyspaces: catalog.keyspaces().cloned().collect(),
                    tables: catalog.tables().cloned().collect(),
                })
            }
            Request::Cluster => Ok(Self::cluster()),
            Request::AcceptLoss(_) => Ok(Outcome::LossAccepted { vnodes: 0 }),
            Request::InSession(inside) => self.serve(*inside.request),
        }
    }
}

impl Service for Fake {
    async fn call(&self, _: CallContext, request: Request) -> Result<Outcome, RequestError> {
        self.serve(request)
    }
}
