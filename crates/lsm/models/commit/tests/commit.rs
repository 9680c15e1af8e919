//! The models, each from one test.

use meridian_lsm_commit_model::SyncPolicy;
use meridian_lsm_commit_model::models::{
    calls, full_disk, groups, sync_fails, thread_starts_and_stops, visible_in_order,
};

#[test]
fn two_writers() {
    groups(2, 2);
}

#[test]
fn four_writers() {
    groups(4, 2);
}

#[test]
fn callbacks() {
    calls(3);
}

#[test]
fn the_thread_starts_and_stops() {
    thread_starts_and_stops(2, SyncPolicy::Always);
}

#[test]
fn the_thread_starts_and_stops_where_nobody_waits() {
    thread_starts_and_stops(2, SyncPolicy::Os);
}

#[test]
fn a_sync_fails() {
    sync_fails(3);
}

#[test]
fn a_disk_is_full() {
    full_disk(2);
}

#[test]
fn visibility() {
    visible_in_order(4);
}

#[test]
fn visibility_of_two() {
    visible_in_order(2);
}
