//! A node that keeps writes until a replica durably has them.

use std::collections::BTreeMap;

use meridian_crdt::{Context, Dot};

use super::Mutation;

/// A kept write.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// What its client had seen.
    pub(crate) context: Context,
    /// Its name, once a replica gave it one.
    pub(crate) dot: Option<Dot>,
    /// With the rule left out: the only replica that is ever asked.
    pub(crate) asked: Option<usize>,
}

#[derive(Default)]
pub(crate) struct Keeper {
    /// By the number of the write.
    pub(crate) kept: BTreeMap<usize, Kept>,
    durable: BTreeMap<usize, Kept>,
    /// The calls whose answers are waited for, by write.
    calls: BTreeMap<usize, u64>,
    next_call: u64,
}

impl Keeper {
    /// The n-th write that is kept, in turns.
    pub(crate) fn pick(&self, n: usize) -> Option<usize> {
        self.kept.keys().nth(n.checked_rem(self.kept.len())?).copied()
    }

    pub(crate) fn keep(&mut self, write: usize, context: Context) {
        let kept = Kept { context, dot: None, asked: None };
        self.kept.insert(write, kept.clone());
        self.durable.insert(write, kept);
    }

    /// The number of the call, which no other call of this keeper ever has.
    pub(crate) fn call(&mut self, write: usize) -> u64 {
        self.next_call += 1;
        self.calls.insert(write, self.next_call);
        self.next_call
    }

    /// A replica answers a call with a dot. Only what is waited for counts.
    pub(crate) fn answered(&mut self, write: usize, call: u64, dot: Dot, broken: Option<Mutation>) {
        if self.calls.get(&write) != Some(&call) {
            return;
        }
        self.calls.remove(&write);
        if let Some(kept) = self.kept.get_mut(&write)
            && kept.dot.is_none()
        {
            kept.dot = Some(dot);
            if broken != Some(Mutation::SendBeforeDotIsDurable) {
                self.durable.insert(write, kept.clone());
            }
        }
    }

    /// Whether the dot is, or was, or may become the name of the write. Where it is not, an answer
    /// that says otherwise is waited for no more.
    pub(crate) fn uses(&mut self, write: usize, dot: Dot, broken: Option<Mutation>) -> bool {
        let uses = self.kept.get(&write).is_some_and(|kept| kept.dot == Some(dot));
        if !uses && broken != Some(Mutation::AnswerWithoutGivingUp) {
            self.calls.remove(&write);
        }
        uses
    }

    pub(crate) fn forget(&mut self, write: usize) {
        self.kept.remove(&write);
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.kept.clone();
    }

    pub(crate) fn crash(&mut self) {
        self.kept = self.durable.clone();
        self.calls.clear();
    }
}
