//! Metadata in memory, for tests and simulations: it knows what a power cut would leave.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    From, META_TREE, Metadata, MetadataError, MetadataTree, MetadataTrees, Visit, scan_tree,
};

type Trees = BTreeMap<String, BTreeMap<Bytes, Bytes>>;

#[derive(Debug, Default)]
struct State {
    live: Trees,
    durable: Trees,
    /// Changes that no flush has covered: tree, key, and the new value.
    unflushed: Vec<(String, Bytes, Option<Bytes>)>,
    failing: bool,
}

/// Metadata in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemMetadata {
    state: Arc<Mutex<State>>,
}

impl MemMetadata {
    /// Empty metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The metadata as after a power cut now: what was not flushed is gone.
    #[must_use]
    pub fn crash_clone(&self) -> Self {
        let durable = self.state.lock().durable.clone();
        Self::of(State { live: durable.clone(), durable, ..State::default() })
    }

    /// The metadata as a power cut now may leave them: of the changes that were not flushed any
    /// number of the first ones is there, drawn from the seed, and none behind those. `sled` keeps
    /// one log, and what it reads back is a beginning of it.
    #[must_use]
    pub fn crash_clone_keeping(&self, seed: u64) -> Self {
        let state = self.state.lock();
        let mut durable = state.durable.clone();
        let most = state.unflushed.len() as u64 + 1;
        // No more than there are, so it is a `usize`.
        let kept = usize::try_from(mixed(seed) % most).unwrap_or(0);
        for (name, key, value) in state.unflushed.iter().take(kept).cloned() {
            apply(&mut durable, &name, key, value);
        }
        Self::of(State { live: durable.clone(), durable, ..State::default() })
    }

    /// Other metadata with the same content: what is at risk here is at risk there. They work, also
    /// where these are made to fail.
    #[must_use]
    pub fn fork(&self) -> Self {
        let State { live, durable, unflushed, failing: _ } = &*self.state.lock();
        let (live, durable, unflushed) = (live.clone(), durable.clone(), unflushed.clone());
        Self::of(State { live, durable, unflushed, failing: false })
    }

    /// Other metadata with the same content, all of it durable.
    #[must_use]
    pub fn copy(&self) -> Self {
        let live = self.state.lock().live.clone();
        Self::of(State { durable: live.clone(), live, ..State::default() })
    }

    /// Changes that no flush has covered.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.state.lock().unflushed.len()
    }

    fn of(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Makes every operation from now on fail, as a broken disk does, or ends that.
    pub fn set_failing(&self, failing: bool) {
        self.state.lock().failing = failing;
    }

    fn state(&self, op: &'static str) -> Result<parking_lot::MutexGuard<'_, State>, MetadataError> {
        let state = self.state.lock();
        if state.failing {
            let cause = "injected fault".to_owned();
            return Err(MetadataError::Failed { dir: PathBuf::from("(memory)"), op, cause });
        }
        Ok(state)
    }

    fn meta(&self) -> MemTree {
        MemTree { name: META_TREE.to_owned(), metadata: self.clone() }
    }
}

/// Spreads a seed over all bits (SplitMix64; Steele, Lea, Flood 2014).
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[derive(Debug)]
struct MemTree {
    name: String,
    metadata: MemMetadata,
}

impl MemTree {
    fn change(&self, key: &[u8], value: Option<&[u8]>) -> Result<Option<usize>, MetadataError> {
        let mut state = self.metadata.state("write")?;
        let (key, value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
        state.unflushed.push((self.name.clone(), key.clone(), value.clone()));
        Ok(apply(&mut state.live, &self.name, key, value))
    }
}

fn apply(trees: &mut Trees, name: &str, key: Bytes, value: Option<Bytes>) -> Option<usize> {
    let tree = trees.entry(name.to_owned()).or_default();
    let old = match value {
        Some(value) => tree.insert(key, value),
        None => tree.remove(&key),
    };
    old.map(|old| old.len())
}

impl MetadataTree for MemTree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetadataError> {
        let state = self.metadata.state("read")?;
        Ok(state.live.get(&self.name).and_then(|tree| tree.get(key)).cloned())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), MetadataError> {
        self.change(key, Some(value)).map(|_old| ())
    }

    fn remove(&self, key: &[u8]) -> Result<Option<usize>, MetadataError> {
        self.change(key, None)
    }

    fn visit(&self, from: From<'_>, visit: Visit<'_>) -> Result<(), MetadataError> {
        let state = self.metadata.state("read")?;
        let Some(tree) = state.live.get(&self.name) else { return Ok(()) };
        for (key, value) in tree.range::<[u8], _>((from, From::Unbounded)) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self) -> Result<Option<Bytes>, MetadataError> {
        let state = self.metadata.state("read")?;
        let last = state.live.get(&self.name).and_then(BTreeMap::last_key_value);
        Ok(last.map(|(key, _)| key.clone()))
    }
}

impl MetadataTrees for MemMetadata {
    fn tree(&self, name: &str) -> Result<Arc<dyn MetadataTree>, MetadataError> {
        let mut state = self.state("open a tree")?;
        state.live.entry(name.to_owned()).or_default();
        drop(state);
        Ok(Arc::new(MemTree { name: name.to_owned(), metadata: self.clone() }))
    }

    fn names(&self) -> Result<Vec<String>, MetadataError> {
        Ok(self.state("list the trees")?.live.keys().cloned().collect())
    }

    fn flush(&self) -> Result<(), MetadataError> {
        let mut state = self.state("flush")?;
        let State { durable, unflushed, .. } = &mut *state;
        for (name, key, value) in unflushed.drain(..) {
            apply(durable, &name, key, value);
        }
        Ok(())
    }
}

impl Metadata for MemMetadata {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetadataError> {
        self.meta().get(key)
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), MetadataError> {
        self.meta().insert(key, value)
    }

    fn remove(&self, key: &[u8]) -> Result<(), MetadataError> {
        self.meta().remove(key).map(|_old| ())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, MetadataError> {
        scan_tree(&self.meta(), prefix)
    }

    fn flush(&self) -> Result<(), MetadataError> {
        MetadataTrees::flush(self)
    }
}
