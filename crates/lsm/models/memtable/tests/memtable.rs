//! The models, each from one test. How high a node stands follows from its key and seqno:
//! `a@3`, `d@5` and `f@1` stand on three levels, `b@3` and `c@3` on two, the rest on one.

use meridian_lsm_memtable_model::models::{
    chunks_grown_at_once, inserted_at_once, read_backwards_while_inserted, read_while_inserted,
};

#[test]
fn neighbours() {
    inserted_at_once(&[&[(b"a", 1)], &[(b"b", 2)]]);
}

#[test]
fn versions_of_one_key() {
    inserted_at_once(&[&[(b"a", 1), (b"a", 4)], &[(b"a", 2)]]);
}

#[test]
fn towers_side_by_side() {
    inserted_at_once(&[&[(b"d", 5)], &[(b"f", 1)]]);
}

#[test]
fn towers_in_a_row() {
    inserted_at_once(&[&[(b"b", 3)], &[(b"c", 3), (b"a", 1)]]);
}

#[test]
fn three_threads() {
    inserted_at_once(&[&[(b"a", 1)], &[(b"b", 2)], &[(b"c", 1)]]);
}

#[test]
fn read_and_insert() {
    read_while_inserted(&[(b"b", 1)], &[(b"a", 2), (b"c", 4)]);
}

#[test]
fn read_and_insert_a_tower() {
    read_while_inserted(&[(b"b", 3)], &[(b"d", 5)]);
}

#[test]
fn backwards_and_insert() {
    read_backwards_while_inserted(&[(b"a", 1), (b"c", 3)], &[(b"b", 3)]);
}

#[test]
fn chunks() {
    chunks_grown_at_once(&[&[(b"a", 1), (b"c", 2)], &[(b"b", 3), (b"d", 4)]], 1000);
}

#[test]
fn chunks_of_large_entries() {
    chunks_grown_at_once(&[&[(b"a", 1), (b"c", 2)], &[(b"b", 2)]], 3000);
}
