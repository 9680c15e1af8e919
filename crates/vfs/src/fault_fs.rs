//! A wrapper that makes chosen calls fail, so that every error path can be walked.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{File, Fs, IoError, LockGuard, Op};

/// What happens to the call that a rule hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this kind of error and does nothing.
    Error(io::ErrorKind),
    /// An append writes only this many bytes, then fails with "no space left".
    PartialAppend(usize),
    /// A read returns at most this many bytes.
    ShortRead(usize),
    /// A read returns with this bit of its buffer flipped (modulo the bytes read).
    FlipBit(usize),
}

/// Which calls are hit: the `nth` (from 1) and, if `sticky`, all after it, of those with this
/// operation on a path that contains `path`.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// The operation waited for.
    pub op: Op,
    /// Part of the path; empty for any.
    pub path: String,
    /// Which of the matching calls, from 1.
    pub nth: u64,
    /// Whether the later ones are hit as well.
    pub sticky: bool,
    /// What happens to it.
    pub fault: Fault,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Mutex<Vec<(FaultRule, u64)>>,
    /// Calls of each operation so far.
    calls: Mutex<BTreeMap<Op, u64>>,
}

impl Plan {
    fn hit(&self, op: Op, path: &Path) -> Option<Fault> {
        *self.calls.lock().entry(op).or_default() += 1;
        let mut rules = self.rules.lock();
        let mut found = None;
        for (rule, seen) in rules.iter_mut() {
            if rule.op != op || !path.to_string_lossy().contains(&rule.path) {
                continue;
            }
            *seen += 1;
            if *seen == rule.nth || (rule.sticky && *seen > rule.nth) {
                found = found.or(Some(rule.fault));
            }
        }
        found
    }

    /// The faults that only make sense as an error.
    fn check(&self, op: Op, path: &Path) -> Result<(), IoError> {
        match self.hit(op, path) {
            Some(Fault::Error(kind)) => Err(injected(op, path, kind)),
            _ => Ok(()),
        }
    }
}

fn injected(op: Op, path: &Path, kind: io::ErrorKind) -> IoError {
    IoError::new(op, path, io::Error::new(kind, "injected fault"))
}

/// A file system whose calls fail by rule.
#[derive(Clone, Debug)]
pub struct FaultFs {
    below: Arc<dyn Fs>,
    plan: Arc<Plan>,
}

impl FaultFs {
    /// Wraps `below`; without rules nothing changes.
    #[must_use]
    pub fn new(below: Arc<dyn Fs>) -> Self {
        Self { below, plan: Arc::default() }
    }

    /// Adds a rule; matching calls are counted from now.
    pub fn inject(&self, rule: FaultRule) {
        self.plan.rules.lock().push((rule, 0));
    }

    /// How many calls of this operation there were so far: every one of them can be made to fail.
    #[must_use]
    pub fn calls(&self, op: Op) -> u64 {
        self.plan.calls.lock().get(&op).copied().unwrap_or(0)
    }

    /// Removes all rules.
    pub fn heal(&self) {
        self.plan.rules.lock().clear();
    }

    fn wrap(&self, path: &Path, below: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultFile { below, path: path.to_path_buf(), plan: self.plan.clone() })
    }
}

#[derive(Debug)]
struct FaultFile {
    below: Arc<dyn File>,
    path: PathBuf,
    plan: Arc<Plan>,
}

impl File for FaultFile {
    fn append(&self, bytes: &[u8]) -> Result<(), IoError> {
        match self.plan.hit(Op::Append, &self.path) {
            Some(Fault::Error(kind)) => Err(injected(Op::Append, &self.path, kind)),
            Some(Fault::PartialAppend(n)) => {
                self.below.append(&bytes[..n.min(bytes.len())])?;
                Err(injected(Op::Append, &self.path, io::ErrorKind::StorageFull))
            }
            _ => self.below.append(bytes),
        }
    }

    fn reserve(&self, bytes: u64) -> Result<(), IoError> {
        self.plan.check(Op::Reserve, &self.path)?;
        self.below.reserve(bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, IoError> {
        match self.plan.hit(Op::Read, &self.path) {
            Some(Fault::Error(kind)) => Err(injected(Op::Read, &self.path, kind)),
            Some(Fault::ShortRead(n)) => {
                let n = n.min(buf.len());
                self.below.read_at(offset, &mut buf[..n])
            }
            Some(Fault::FlipBit(bit)) => {
                let n = self.below.read_at(offset, buf)?;
                if n > 0 {
                    let bit = bit % (n * 8);
                    buf[bit / 8] ^= 1 << (bit % 8);
                }
                Ok(n)
            }
            _ => self.below.read_at(offset, buf),
        }
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.plan.check(Op::Sync, &self.path)?;
        self.below.sync_data()
    }

    fn len(&self) -> Result<u64, IoError> {
        self.plan.check(Op::Length, &self.path)?;
        self.below.len()
    }
}

impl Fs for FaultFs {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.plan.check(Op::Create, path)?;
        Ok(self.wrap(path, self.below.create(path)?))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.plan.check(Op::Open, path)?;
        Ok(self.wrap(path, self.below.open(path)?))
    }

    fn open_append(&self, path: &Path) -> Result<Arc<dyn File>, IoError> {
        self.plan.check(Op::Open, path)?;
        Ok(self.wrap(path, self.below.open_append(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.plan.check(Op::Rename, from)?;
        self.below.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        self.plan.check(Op::Remove, path)?;
        self.below.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, IoError> {
        self.plan.check(Op::List, dir)?;
        self.below.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), IoError> {
        self.plan.check(Op::CreateDir, dir)?;
        self.below.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        self.plan.check(Op::SyncDir, dir)?;
        self.below.sync_dir(dir)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.plan.check(Op::Link, from)?;
        self.below.hard_link(from, to)
    }

    fn exists(&self, path: &Path) -> Result<bool, IoError> {
        self.plan.check(Op::Exists, path)?;
        self.below.exists(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn LockGuard>, IoError> {
        self.plan.check(Op::Lock, path)?;
        self.below.lock(path)
    }
}
