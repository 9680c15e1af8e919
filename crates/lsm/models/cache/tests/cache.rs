//! The models, each from one test.

use meridian_lsm_cache_model::models::{
    SHARDED, SMALL, Size, one_block, reads, tables_come_and_go, values, what_may_stay,
};

#[test]
fn more_blocks_than_room() {
    reads(SMALL);
}

#[test]
fn more_blocks_than_room_in_shards() {
    reads(SHARDED);
}

#[test]
fn two_read_one_block() {
    one_block(2);
}

#[test]
fn three_read_one_block() {
    one_block(3);
}

#[test]
fn tables() {
    tables_come_and_go(SMALL);
}

#[test]
fn two_tables() {
    tables_come_and_go(Size { threads: 2, ..SMALL });
}

#[test]
fn parts_that_stay() {
    what_may_stay(3);
}

#[test]
fn values_beside_blocks() {
    values(2);
}
