//! Two continents, no link between them, nothing lost: the story that Meridian exists for.
//!
//! In one terminal `cargo run --release -- dev`, in another:
//!
//! ```sh
//! cargo run --release -p meridian-examples --bin two-continents
//! ```
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "an example talks to people, and runs the command line's `dev cut` and `dev heal`"
)]

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::{Client, ClientOptions, Table};
use meridian_service::{CreateKeyspace, CreateTable, Expiry, GetOutcome, PutItem};
use meridian_types::{ConsistencyLevel, TableOptions};

const KEY: &str = "greeting";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // The gRPC doors of `meridian dev`, datacenter by datacenter.
    let us = connect([9001, 9002, 9003]).await?;
    let eu = connect([9004, 9005, 9006]).await?;
    let ap = connect([9007, 9008, 9009]).await?;
    let table = create_table(&us).await?;
    let (us, eu, ap) = (us.table(&table)?, eu.table(&table)?, ap.table(&table)?);

    us.clone().at(ConsistencyLevel::EachQuorum).put(KEY, "hello").await?;
    println!("everywhere:             {}", values(&ap.get(KEY).await?));

    dev(&["cut", "us", "eu"])?;
    println!("-- the link between us and eu is cut --");
    replace(&us, "howdy").await?;
    replace(&eu, "good day").await?;
    println!("written in us, read in us: {}", values(&us.get(KEY).await?));
    println!("written in eu, read in eu: {}", values(&eu.get(KEY).await?));
    // Until the nodes have noticed, such a write would go out, and its outcome would be unknown.
    dev(&["cut", "us", "eu", "--wait"])?;
    match us.clone().at(ConsistencyLevel::EachQuorum).put(KEY, "nobody").await {
        Ok(_) => println!("the cut was not noticed?"),
        Err(error) => println!("at EACH_QUORUM: {error}"),
    }

    dev(&["heal"])?;
    println!("-- healed --");
    let both = until_all_agree(&ap).await?;
    println!("every replica has:      {}", values(&both));
    ap.put_item(item("hello, all", &both)).await?;
    println!("one write with the context of both, and it is one again:");
    println!("every replica has:      {}", values(&until_all_agree(&ap).await?));
    Ok(())
}

async fn connect(ports: [u16; 3]) -> Result<Client> {
    let endpoints = ports.map(|port| format!("127.0.0.1:{port}"));
    let options = ClientOptions { attempts: 1, ..ClientOptions::new(endpoints) };
    Client::connect(options).await.context("start the cluster first: cargo run --release -- dev")
}

async fn create_table(client: &Client) -> Result<String> {
    let name: meridian_types::TableName = "examples.two-continents".parse()?;
    let keyspace = CreateKeyspace {
        name: name.keyspace().to_owned(),
        replication: <_>::default(),
        if_not_exists: true,
    };
    client.create_keyspace(keyspace).await?;
    let (options, text) = (TableOptions::default(), name.to_string());
    client.create_table(CreateTable { name, options, if_not_exists: true }).await?;
    Ok(text)
}

/// Reads and writes in one datacenter: the write replaces what was read, and nothing else.
async fn replace(table: &Table, value: &str) -> Result<()> {
    let read = table.get(KEY).await?;
    table.put_item(item(value, &read)).await?;
    Ok(())
}

fn item(value: &str, read: &GetOutcome) -> PutItem {
    PutItem {
        key: KEY.into(),
        value: Some(value.to_owned().into()),
        expiry: Expiry::Never,
        context: read.context.clone(),
        write_id: None,
    }
}

/// Waits until all nine replicas show the same values.
async fn until_all_agree(table: &Table) -> Result<GetOutcome> {
    let mut look = tokio::time::interval(Duration::from_millis(200));
    loop {
        look.tick().await;
        let rows = table.replicas(KEY).await?;
        let shown: Vec<_> = rows.iter().filter_map(|row| row.values.as_ref().ok()).collect();
        if shown.len() == rows.len() && shown.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(table.get(KEY).await?);
        }
    }
}

fn values(got: &GetOutcome) -> String {
    let values = got.values.iter().map(|v| String::from_utf8_lossy(&v.value).into_owned());
    values.collect::<Vec<_>>().join(" | ")
}

/// `meridian dev ...`, with the binary that lies beside this one.
fn dev(arguments: &[&str]) -> Result<()> {
    let beside = std::env::current_exe()?.with_file_name("meridian");
    let status = Command::new(&beside)
        .arg("dev")
        .args(arguments)
        .status()
        .with_context(|| format!("{} is not there", beside.display()))?;
    ensure!(status.success(), "meridian dev {arguments:?}");
    Ok(())
}
