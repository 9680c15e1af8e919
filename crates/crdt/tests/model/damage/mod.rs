//! Replicas of one vnode of `siblings` rows that lose their unsynced tail, their tables, their disk
//! or what came after a checkpoint: one after the other, several at once, all of them (rule 10).
//!
//! Checked: B, a read that waits for r of n replicas sees every write that more than n - r have
//! acknowledged, or what covers it, unless each of these lost it; C, equal clocks of replicas that
//! do not rebuild mean equal rows, after every step; A, in the end every replica shows the oracle's
//! siblings; L, no value that a damaged replica found is gone; D, a value is written anew only if
//! nobody but lost tables had it, and once; when all lost something, nobody answers before that was
//! accepted at one of them; otherwise all answer again without being told.

mod history;
mod mutations;
mod oracle;
mod pinned;
mod pull;
mod rebuild;
mod replica;
mod world;

use history::{History, Op};
use mutations::Mutation;
use oracle::Violation;
use world::run;

use crate::support::{self, RandomHistory};

impl RandomHistory for History {
    const MODEL: &str = "damage";
    const RULES: &[Mutation] = Mutation::ALL;

    type Op = Op;
    type Rule = Mutation;
    type Violation = Violation;

    fn drawn(seed: u64) -> Self {
        Self::draw(seed)
    }

    fn ops(&self) -> &[Op] {
        &self.ops
    }

    fn with(&self, ops: &[Op]) -> Self {
        self.with_ops(ops)
    }

    fn check(&self, broken: Option<Mutation>) -> Result<(), Violation> {
        run(self, broken)
    }
}

#[test]
fn every_history_keeps_its_promises() {
    support::every_history_keeps_its_promises::<History>();
}
