//! The figures of healing, small: that they can be found out, and stay within their goals.

use meridian_chaos::figures::{self, Figure};
use meridian_chaos::sim::Micros;

fn get(figure: &Figure, name: &str) -> f64 {
    figure.get(name).unwrap_or_else(|| panic!("{name} in {figure:#?}"))
}

#[test]
fn replicas_that_are_in_sync_say_one_digest_each_way() {
    let figure = figures::in_sync().unwrap();
    assert!((get(&figure, "messages a comparison") - 2.0).abs() < 0.01, "{figure:#?}");
    assert_eq!(figure.get("pull: messages"), None, "{figure:#?}");
}

#[test]
fn a_few_rows_of_many_cost_little_more_than_themselves() {
    let figure = figures::recovery(20_000, 100).unwrap();
    assert!(get(&figure, "bytes of the ideal") <= 3.0, "{figure:#?}");
    assert!(get(&figure, "messages of the ideal") <= 3.0, "{figure:#?}");
}

#[test]
fn a_datacenter_comes_back_and_hints_are_delivered() {
    let figure = figures::cut(Micros::from_secs(20)).unwrap();
    assert!(get(&figure, "writes that replicas lacked at the heal") > 100.0, "{figure:#?}");
    let figure = figures::hints(Micros::from_secs(20)).unwrap();
    assert!(get(&figure, "hints at its return") > 50.0, "{figure:#?}");
    assert!(get(&figure, "hints a second") > 0.0, "{figure:#?}");
}

#[test]
fn what_needs_many_pages_costs_no_more() {
    let figure = figures::recovery(6_000, 5_000).unwrap();
    assert!(get(&figure, "bytes of the ideal") <= 1.5, "{figure:#?}");
    assert!(get(&figure, "messages of the ideal") <= 0.1, "{figure:#?}");
}
