//! Whole histories, judged by every invariant.

use std::sync::Arc;

use meridian_chaos::run::{Case, Verdict};
use meridian_chaos::scenario::named;
use meridian_chaos::sim::{Order, Trace};
use meridian_chaos::simulate::simulate;

/// Every invariant has something to say of a calm history, and of one in which synced writes meet
/// power cuts.
#[test]
fn histories_are_judged_by_every_invariant() {
    for (name, seed) in [("calm", 1), ("crash-always", 1), ("crash-always", 2)] {
        let scenario = Arc::new(named(name).expect("shipped"));
        let case = Case::whole(scenario, name, seed);
        let outcome = simulate(&case, Order::Seeded, Trace::default());
        assert_eq!(outcome.verdict, Verdict::Pass, "{}", case.replay());
        assert!(outcome.checked.len() >= 11, "{:?}", outcome.checked);
        assert!(outcome.checked.values().all(|checked| checked.times > 0), "{:?}", outcome.checked);
    }
}
