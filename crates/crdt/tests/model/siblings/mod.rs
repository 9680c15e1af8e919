//! One vnode of `siblings` rows: design rules 1 to 10.
//!
//! Checked: A, after everything has arrived every replica shows exactly the oracle's siblings; B, a
//! quorum read sees every acknowledged quorum write or what covers it; C, equal clocks mean equal
//! visible rows, after every step; D, nothing deleted or overwritten comes back; L, with damaged
//! replicas nothing live is lost and what reappears was overwritten by writes that the lost tables
//! alone had known; and no row context outlives a clock without gaps.

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
    const MODEL: &str = "siblings";
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
