//! Many keys at once: in order, so that neighbours share the tables and blocks that are read for
//! them, and each table's filter is asked for all of its keys before any block is. Blocks near each
//! other come with one read.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::get::Lookup;
use crate::error::Error;
use crate::key::{Seqno, ValueKind};
use crate::options::{LEVELS, TreeConfig};
use crate::table::filter;
use crate::table::joined::Joined;
use crate::table::parts::Leaf;
use crate::table::reader::Table;
use crate::tree::View;

/// A key that is looked for.
struct Wanted<'a> {
    lookup: Lookup<'a>,
    hash: u64,
    /// Where the caller has it.
    place: usize,
    /// Whether older sources matter.
    open: bool,
}

impl Wanted<'_> {
    fn version(&mut self, seqno: Seqno, kind: ValueKind, value: Bytes) -> ControlFlow<()> {
        let flow = self.lookup.version(seqno, kind, || value);
        self.open = flow.is_continue();
        flow
    }
}

impl View {
    /// The values of `keys` as of `at`, in their order.
    pub(crate) fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        at: Seqno,
        config: &TreeConfig,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let mut wanted: Vec<Wanted<'_>> = Vec::with_capacity(keys.len());
        for (place, key) in keys.iter().enumerate() {
            let lookup = Lookup::new(key.as_ref());
            wanted.push(Wanted { lookup, hash: 0, place, open: true });
        }
        wanted.sort_unstable_by_key(|wanted| wanted.lookup.key());
        self.in_memtables(&mut wanted, at);
        if !self.version.is_empty() {
            self.in_tables(&mut wanted, at)?;
        }
        let mut values = vec![None; keys.len()];
        for Wanted { lookup, place, .. } in wanted {
            values[place] = lookup.value(config)?;
        }
        Ok(values)
    }

    fn in_memtables(&self, wanted: &mut [Wanted<'_>], at: Seqno) {
        for memtable in std::iter::once(&self.active).chain(&self.sealed) {
            for one in wanted.iter_mut().filter(|one| one.open) {
                let key = one.lookup.key();
                let _flow = memtable.visit(key, at, &mut |seqno, kind, value| {
                    one.version(seqno, kind, Bytes::copy_from_slice(value))
                });
            }
        }
    }

    fn in_tables(&self, wanted: &mut [Wanted<'_>], at: Seqno) -> Result<(), Error> {
        for one in wanted.iter_mut().filter(|one| one.open) {
            one.hash = filter::hash(one.lookup.key());
        }
        for table in self.version.level(0) {
            in_table(table, wanted, at)?;
        }
        for level in 1..LEVELS {
            let tables = self.version.level(level);
            let mut rest = &mut *wanted;
            while let Some(first) = rest.first() {
                let key = first.lookup.key();
                let next = tables.partition_point(|table| *table.record.largest < *key);
                let Some(table) = tables.get(next) else { break };
                rest = in_table(table, rest, at)?;
            }
        }
        Ok(())
    }
}

/// Looks for those that `table` may hold; returns those behind it.
fn in_table<'w, 'k>(
    table: &Table,
    wanted: &'w mut [Wanted<'k>],
    at: Seqno,
) -> Result<&'w mut [Wanted<'k>], Error> {
    let record = &table.record;
    let from = wanted.partition_point(|one| *one.lookup.key() < *record.smallest);
    let to = wanted.partition_point(|one| *one.lookup.key() <= *record.largest);
    let (here, behind) = wanted.split_at_mut(to);
    let mut candidates = Vec::new();
    let mut leaf = Leaf::new(true);
    for one in here[from..].iter_mut().filter(|one| one.open) {
        if let Some(first) = table.locate(&mut leaf, one.lookup.key(), one.hash, at)? {
            candidates.push((first, one));
        }
    }
    let mut joined = Joined::new(candidates.iter().map(|(first, _)| *first));
    for (first, one) in candidates {
        let key = one.lookup.key();
        let mut version = |seqno, kind, value| one.version(seqno, kind, value);
        let mut block = |leaf: &mut Leaf, block_at| joined.block(table, leaf, block_at);
        let _flow = table.visit_from(&mut leaf, first, &mut block, key, at, &mut version)?;
    }
    Ok(behind)
}
