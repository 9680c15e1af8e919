//! Whole histories, judged by every invariant.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_chaos::run::{Case, Verdict};
use meridian_chaos::scenario::named;
use meridian_chaos::sim::{Order, Trace};
use meridian_chaos::simulate::simulate;

/// Every invariant has something to say of one of these: a calm history, two in which synced writes
/// meet power cuts, one with sessions and one with atomic batches.
#[test]
fn histories_are_judged_by_every_invariant() {
    let mut times = BTreeMap::<_, u64>::new();
    let histories = [
        ("calm", 1),
        ("crash-always", 1),
        ("crash-always", 2),
        ("sessions", 1),
        ("jepsen-half-batch", 1),
    ];
    for (name, seed) in histories {
        let scenario = Arc::new(named(name).expect("shipped"));
        let case = Case::whole(scenario, name, seed);
        let outcome = simulate(&case, Order::Seeded, Trace::default());
        assert_eq!(outcome.verdict, Verdict::Pass, "{}", case.replay());
        for (invariant, checked) in outcome.checked {
            *times.entry(invariant).or_default() += checked.times;
        }
    }
    assert!(times.len() >= 14 && times.values().all(|times| *times > 0), "{times:?}");
}
