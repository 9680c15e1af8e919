//! The catalog: kept in the metadata, turned into trees.
//!
//! INVARIANT: a definition is durable in the metadata before its tree exists, and its tree exists
//! before anybody sees the definition.

use meridian_lsm::{Compaction, Compression, Tiers, TreeConfig};
use meridian_types::{Compaction as TableCompaction, Compression as TableCompression};

use super::*;
use crate::merge::RowMerge;
use crate::options::ZSTD_LEVEL;
use crate::records;

const CATALOG_KEY: &[u8] = b"store/catalog";
/// The first byte of the record; JSON follows.
const CATALOG_VERSION: u8 = 1;

pub(super) fn load(metadata: &dyn Metadata) -> Result<Catalog, StoreError> {
    let stored = metadata.get(CATALOG_KEY)?;
    stored.map_or_else(|| Ok(Catalog::default()), |bytes| from_bytes(&bytes))
}

pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Catalog, StoreError> {
    let damaged = |cause: String| StoreError::CorruptRecord { record: "catalog".to_owned(), cause };
    match bytes.split_first() {
        Some((&CATALOG_VERSION, json)) => {
            let catalog: Catalog =
                serde_json::from_slice(json).map_err(|cause| damaged(cause.to_string()))?;
            match catalog.check() {
                Ok(()) => Ok(catalog),
                Err((name, cause)) => Err(damaged(format!("the definition of `{name}`: {cause}"))),
            }
        }
        Some((version, _)) => Err(damaged(format!("version {version} is not known"))),
        None => Err(damaged("it is empty".to_owned())),
    }
}

pub(crate) fn to_bytes(catalog: &Catalog) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![CATALOG_VERSION];
    serde_json::to_writer(&mut bytes, catalog).map_err(|cause| StoreError::CorruptRecord {
        record: "catalog".to_owned(),
        cause: cause.to_string(),
    })?;
    Ok(bytes)
}

fn save(metadata: &dyn Metadata, catalog: &Catalog) -> Result<(), StoreError> {
    metadata.put(CATALOG_KEY, &to_bytes(catalog)?)?;
    Ok(metadata.flush()?)
}

impl Store {
    /// Takes the definitions of another catalog that are new here; whether there were any. Durable,
    /// with trees for new tables, when it returns.
    ///
    /// # Errors
    /// Metadata or storage refuse. Nobody sees the new definitions then; joining again is harmless.
    pub fn join_catalog(&self, other: &Catalog) -> Result<bool, StoreError> {
        let _change = self.inner.catalog_change.lock();
        self.inner.check_open()?;
        let mut catalog = Catalog::clone(&self.inner.view().catalog);
        if !catalog.join(other) {
            return Ok(false);
        }
        save(&*self.inner.metadata, &catalog)?;
        self.inner.install(Arc::new(catalog))?;
        Ok(true)
    }
}

impl Inner {
    /// Creates what the catalog needs and shows it. To be called by one thread at a time.
    pub(super) fn install(&self, catalog: Arc<Catalog>) -> Result<(), StoreError> {
        let before = self.view.load_full();
        let mut keyspaces = before.keyspaces.clone();
        for def in catalog.keyspaces_in_use().into_values() {
            let new = || Arc::new(Vnodes::new(def.id, self.count, self.floor));
            keyspaces.entry(def.id).or_insert_with(new);
        }
        let mut tables = BTreeMap::new();
        for def in catalog.tables_in_use().into_values() {
            // The keyspace of a table may arrive after it.
            let Some(vnodes) = keyspaces.get(&def.keyspace) else { continue };
            let known = before.tables.get(&def.id).filter(|known| *known.def == *def);
            let table = match known {
                Some(table) => table.clone(),
                None => Arc::new(self.table(def, before.tables.get(&def.id), vnodes.clone())?),
            };
            tables.insert(def.id, table);
        }
        self.view.store(Arc::new(View { catalog, tables, keyspaces }));
        Ok(())
    }

    fn table(
        &self,
        def: &TableDef,
        before: Option<&Arc<Table>>,
        vnodes: Arc<Vnodes>,
    ) -> Result<Table, StoreError> {
        let policy = match before {
            Some(table) => table.policy.clone(),
            None => SharedPolicy::new(def.options.policy),
        };
        let config = TreeConfig {
            memtable_bytes: self.memtable_bytes,
            compression: match def.options.compression {
                TableCompression::None => Compression::None,
                TableCompression::Lz4 => Compression::Lz4,
                TableCompression::Snappy => Compression::Snappy,
                TableCompression::Zstd => Compression::Zstd(ZSTD_LEVEL),
            },
            compaction: compaction_of(def),
            ..TreeConfig::new(records::tree_name(def.id))
                .with_merge(Arc::new(RowMerge::new(policy.clone())))
        };
        let tree = self.db.create_tree(config)?;
        policy.set(def.options.policy);
        Ok(Table { def: Arc::new(def.clone()), tree, policy, vnodes })
    }
}

/// A table's default TTL spans this many windows: few enough runs for a read, and what expires
/// together lies together.
const WINDOWS_A_TTL: u64 = 20;
/// The window of a table without a TTL, in milliseconds, and the longest: a day.
const LONGEST_WINDOW: u64 = 24 * 60 * SHORTEST_WINDOW;
/// A minute.
const SHORTEST_WINDOW: u64 = 60_000;
/// A young run of this many bytes of a hybrid tree goes down to its levels.
const HYBRID_RUN_BYTES: u64 = 256 << 20;
const HYBRID_FACTOR: u64 = 10;

fn compaction_of(def: &TableDef) -> Compaction {
    let tiers = Tiers::default();
    match def.options.compaction {
        TableCompaction::Leveled => Compaction::default(),
        TableCompaction::SizeTiered => Compaction::SizeTiered(tiers),
        TableCompaction::TimeWindow => {
            let window = def.options.default_ttl_ms.map_or(LONGEST_WINDOW, |ttl| {
                (ttl / WINDOWS_A_TTL).clamp(SHORTEST_WINDOW, LONGEST_WINDOW)
            });
            Compaction::TimeWindow { window_ms: window, tiers }
        }
        TableCompaction::Hybrid => {
            Compaction::Hybrid { tiers, run_bytes: HYBRID_RUN_BYTES, factor: HYBRID_FACTOR }
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::TableOptions;
    use meridian_types::catalog::Version;

    use super::*;

    fn compaction(compaction: TableCompaction, default_ttl_ms: Option<u64>) -> Compaction {
        let options = TableOptions { compaction, default_ttl_ms, ..TableOptions::default() };
        let (id, keyspace) = (TableId(1), KeyspaceId(1));
        let name = "ks.t".parse().unwrap();
        compaction_of(&TableDef { id, keyspace, name, options, version: Version::default() })
    }

    #[test]
    fn a_window_is_a_twentieth_of_the_ttl_within_bounds() {
        for (ttl, expected) in [
            (None, LONGEST_WINDOW),
            (Some(1), SHORTEST_WINDOW),
            (Some(40 * SHORTEST_WINDOW), 2 * SHORTEST_WINDOW),
            (Some(u64::MAX), LONGEST_WINDOW),
        ] {
            match compaction(TableCompaction::TimeWindow, ttl) {
                Compaction::TimeWindow { window_ms, .. } => assert_eq!(window_ms, expected),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(compaction(TableCompaction::Leveled, None), Compaction::default());
        let tiered = compaction(TableCompaction::SizeTiered, None);
        assert_eq!(tiered, Compaction::SizeTiered(Tiers::default()));
        assert!(matches!(compaction(TableCompaction::Hybrid, None), Compaction::Hybrid { .. }));
    }
}
