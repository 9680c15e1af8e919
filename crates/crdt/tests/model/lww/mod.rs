//! One vnode of LWW rows, and when it may forget a marker: design rule 12, with what rules 7, 10,
//! 13 and 14 must hold for it.
//!
//! Checked: W, after everything has arrived every replica shows the write with the highest (stamp,
//! dot) of all that survived, or nothing where that is a delete or has expired; C, equal clocks of
//! sound replicas mean equal visible rows at any moment that may be theirs, after every step; D,
//! what a collected marker had beaten is shown by no sound replica and by no read, ever again.
//! Markers are not collected by the product yet; this holds the rules for when they are.
//!
//! A replica that rebuilds serves pulls with its clock here: an LWW row has no context to lose with
//! a clock, so what such a clock says is true, of an earlier time.
//!
//! Not in the model: a disk lost with the record of its lives (a write of a life that nobody has
//! heard of may be under way with any stamp); no sound replica left, after which nothing is
//! promised; closing step by step.

mod evidence;
mod history;
mod mutations;
mod oracle;
mod pinned;
mod pull;
mod replica;
mod world;

use history::{History, Op};
use mutations::Mutation;
use oracle::Violation;
use world::run;

use crate::support::{self, RandomHistory};

impl RandomHistory for History {
    const MODEL: &str = "lww";
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
fn every_history_shows_the_last_writer() {
    support::every_history_keeps_its_promises::<History>();
}
