//! The story that Meridian exists for: two continents, no link between them, nothing lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use meridian_client::{Client, ClientError, ClientOptions, Table};
use meridian_service::{CreateKeyspace, CreateTable, Effect, GetOutcome, PutItem, RequestError};
use meridian_tests::{Cluster, eventually};
use meridian_types::{ConflictPolicy, ConsistencyLevel, TableOptions};

/// Writes on each side while the link is cut.
const WRITES: usize = 50;

fn item(key: &str, value: Option<&str>, read: Option<&GetOutcome>) -> PutItem {
    PutItem {
        key: key.to_owned().into(),
        value: value.map(|value| value.to_owned().into()),
        expiry: meridian_service::Expiry::Never,
        context: read.and_then(|read| read.context.clone()),
        write_id: None,
    }
}

async fn create(client: &Client, table: &str, policy: ConflictPolicy) -> Result<Table> {
    let name: meridian_types::TableName = table.parse()?;
    let keyspace = CreateKeyspace {
        name: name.keyspace().to_owned(),
        replication: <_>::default(),
        if_not_exists: true,
    };
    client.create_keyspace(keyspace).await?;
    let options = TableOptions { policy, ..TableOptions::default() };
    client.create_table(CreateTable { name, options, if_not_exists: false }).await?;
    Ok(client.table(table)?)
}

/// What each of the nine replicas shows of a key; `None` while one of them does not answer.
async fn at_every_replica(table: &Table, key: &str) -> Option<Vec<BTreeSet<String>>> {
    let rows = table.replicas(key.to_owned()).await.ok()?;
    let shown = rows.into_iter().map(|row| {
        let values = row.values.ok()?.into_iter();
        Some(values.map(|v| String::from_utf8_lossy(&v.value).into_owned()).collect())
    });
    shown.collect()
}

async fn until_every_replica_shows(table: &Table, key: &str, values: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = values.iter().map(|v| (*v).to_owned()).collect();
    eventually(&format!("every replica shows {wanted:?} for {key}"), async || {
        let shown = at_every_replica(table, key).await;
        shown.is_some_and(|shown| shown.len() == 9 && shown.iter().all(|s| *s == wanted))
    })
    .await
}

fn refused(result: Result<meridian_service::PutOutcome, ClientError>) -> Result<RequestError> {
    match result {
        Ok(_) => bail!("it was acknowledged"),
        Err(error) => error.as_request_error().cloned().context(format!("{error}")),
    }
}

/// A client that answers at once instead of trying again: each refusal is looked at.
async fn impatient(cluster: &Cluster, datacenter: &str, timeout: Duration) -> Result<Client> {
    let nodes = cluster.nodes()?.into_iter().filter(|node| node.datacenter == datacenter);
    let mut options = ClientOptions::new(nodes.take(1).map(|node| node.grpc));
    options.attempts = 1;
    options.timeout = timeout;
    Ok(Client::connect(options).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_cut_go_on_and_nothing_is_lost() -> Result<()> {
    let cluster = Cluster::start("three-dc").await?;
    let (us, eu, ap) =
        (cluster.client("us").await?, cluster.client("eu").await?, cluster.client("ap").await?);
    let us_notes = create(&us, "story.notes", ConflictPolicy::Siblings).await?;
    let (eu_notes, ap_notes) = (eu.table("story.notes")?, ap.table("story.notes")?);
    us_notes.clone().at(ConsistencyLevel::EachQuorum).put("greeting", "hello").await?;
    us_notes.put("doomed", "to be deleted").await?;
    until_every_replica_shows(&ap_notes, "doomed", &["to be deleted"]).await?;

    cluster.meridian(&["dev", "cut", "us", "eu"])?;
    unknown_until_noticed(&cluster).await?;
    let greeting = us_notes.get("greeting").await?;
    us_notes.put_item(item("greeting", Some("howdy"), Some(&greeting))).await?;
    let greeting = eu_notes.get("greeting").await?;
    eu_notes.put_item(item("greeting", Some("good day"), Some(&greeting))).await?;
    let doomed = us_notes.get("doomed").await?;
    us_notes.put_item(item("doomed", None, Some(&doomed))).await?;
    for n in 0..WRITES {
        us_notes.put(format!("us-{n}"), format!("us value {n}")).await?;
        eu_notes.put(format!("eu-{n}"), format!("eu value {n}")).await?;
    }
    refused_once_noticed(&cluster).await?;

    cluster.meridian(&["dev", "heal"])?;
    until_every_replica_shows(&ap_notes, "greeting", &["howdy", "good day"]).await?;
    let both = ap_notes.get("greeting").await?;
    assert_eq!(both.values.len(), 2, "a reader gets both values");
    ap_notes.put_item(item("greeting", Some("hello, all"), Some(&both))).await?;
    until_every_replica_shows(&ap_notes, "greeting", &["hello, all"]).await?;
    for n in 0..WRITES {
        let (us_value, eu_value) = (format!("us value {n}"), format!("eu value {n}"));
        until_every_replica_shows(&us_notes, &format!("us-{n}"), &[&us_value]).await?;
        until_every_replica_shows(&eu_notes, &format!("eu-{n}"), &[&eu_value]).await?;
    }
    deleted_stays_deleted(&cluster, &ap_notes).await
}

/// Right after the cut nobody knows yet: the write goes out, and the answer says how far it came.
async fn unknown_until_noticed(cluster: &Cluster) -> Result<()> {
    let client = impatient(cluster, "us", Duration::from_secs(2)).await?;
    let notes = client.table("story.notes")?.at(ConsistencyLevel::EachQuorum);
    let error = refused(notes.put("unknown", "perhaps").await)?;
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    let RequestError::Timeout { acks, .. } = &error else { bail!("a timeout, not {error}") };
    let acked = |dc: &str| acks.iter().find(|tally| tally.datacenter == dc).map(|t| t.acked);
    assert!(acked("us") >= Some(2), "{error}");
    assert_eq!(acked("eu"), Some(0), "{error}");
    Ok(())
}

/// Once the keep-alive has noticed, the refusal comes at once and names the datacenter.
async fn refused_once_noticed(cluster: &Cluster) -> Result<()> {
    let client = impatient(cluster, "us", Duration::from_secs(10)).await?;
    eventually("us has noticed that eu is gone", async || {
        let view = client.cluster().await;
        view.is_ok_and(|view| view.nodes.iter().all(|n| (n.datacenter == "eu") != n.alive))
    })
    .await?;
    let notes = client.table("story.notes")?.at(ConsistencyLevel::EachQuorum);
    let error = refused(notes.put("refused", "never").await)?;
    assert_eq!(error.effect(), Effect::NotApplied);
    let RequestError::Unavailable { missing, .. } = &error else { bail!("not {error}") };
    let missing: Vec<_> = missing.iter().map(|dc| (dc.datacenter.as_str(), dc.alive)).collect();
    assert_eq!(missing, [("eu", 0)], "{error}");
    assert!(notes.at(ConsistencyLevel::LocalQuorum).get("refused").await?.values.is_empty());
    Ok(())
}

/// The delete was written while eu was away; neither hints nor anti-entropy nor a restart of a
/// node that had the value bring it back.
async fn deleted_stays_deleted(cluster: &Cluster, notes: &Table) -> Result<()> {
    until_every_replica_shows(notes, "doomed", &[]).await?;
    cluster.meridian(&["dev", "kill", "eu-1"])?;
    notes.put("after", "the kill").await?;
    cluster.meridian(&["dev", "start", "eu-1"])?;
    cluster.wait_until_whole().await?;
    until_every_replica_shows(notes, "after", &["the kill"]).await?;
    until_every_replica_shows(notes, "doomed", &[]).await?;
    assert!(notes.get("doomed").await?.values.is_empty());
    Ok(())
}
