//! Concurrent writes that the application joins itself: shopping carts as sets of lines.
//!
//! In one terminal `cargo run --release -- dev`, in another:
//!
//! ```sh
//! cargo run --release -p meridian-examples --bin carts
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use meridian_client::{Client, ClientOptions, ReadValue, Table};
use meridian_service::{CreateKeyspace, CreateTable};
use meridian_types::TableOptions;

/// The union of all carts: what two visits added at the same time is all there.
fn union(carts: &[ReadValue]) -> Vec<u8> {
    let texts = carts.iter().map(|cart| String::from_utf8_lossy(&cart.value).into_owned());
    let lines: BTreeSet<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n").into_bytes()
}

async fn add(carts: &Table, who: &str, what: &str) -> Result<()> {
    let cart = carts.get_resolved(who.to_owned(), |siblings| union(siblings).into()).await?;
    let mut value = cart.value.clone().map(Vec::from).unwrap_or_default();
    if !value.is_empty() {
        value.push(b'\n');
    }
    value.extend_from_slice(what.as_bytes());
    carts.put_after(&cart, value).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = ClientOptions::new(["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"]);
    let client = Client::connect(options)
        .await
        .context("start the cluster first: cargo run --release -- dev")?;
    let keyspace = CreateKeyspace {
        name: "examples".to_owned(),
        replication: <_>::default(),
        if_not_exists: true,
    };
    client.create_keyspace(keyspace).await?;
    let name = "examples.carts".parse()?;
    let options = TableOptions::default();
    client.create_table(CreateTable { name, options, if_not_exists: true }).await?;
    let carts = client.table("examples.carts")?;

    // Two visits that have read nothing of each other: two siblings.
    carts.put("ann", "tea").await?;
    carts.put("ann", "milk").await?;
    let both = carts.get("ann").await?;
    println!("two visits at once left {} carts", both.values.len());
    add(&carts, "ann", "honey").await?;
    let one = carts.get("ann").await?;
    println!("joined and written back, {} is left:", one.values.len());
    for value in &one.values {
        println!("{}", String::from_utf8_lossy(&value.value));
    }
    Ok(())
}
