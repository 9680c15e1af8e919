//! One node, three doors, one data: what one door writes the others read, also after a restart.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use meridian_tests::Cluster;
use serde_json::Value;

/// A command as Redis clients send it, and one line of the answer.
fn resp(address: &str, command: &[&str]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let mut request = format!("*{}\r\n", command.len());
    for part in command {
        request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    stream.write_all(request.as_bytes())?;
    let mut answers = BufReader::new(stream);
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let line = line.trim_end().to_owned();
    let Some(bytes) = line.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) else {
        return Ok(line);
    };
    let mut value = vec![0; bytes];
    answers.read_exact(&mut value)?;
    Ok(String::from_utf8(value)?)
}

/// A request as `curl` sends it: status, headers and body.
fn http(address: &str, request: &str, body: &str) -> Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: meridian\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok((status, head.to_owned(), body.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_door_writes_the_others_read_and_a_restart_keeps() -> Result<()> {
    let mut cluster = Cluster::start("one-node").await?;
    let node = cluster.nodes()?.remove(0);
    assert_eq!(resp(&node.resp, &["SET", "color", "blue"])?, "+OK");
    let (status, _, body) = http(&node.rest, "GET /v1/kv/redis/db0/color", "")?;
    assert_eq!((status, body.as_str()), (200, "blue"));
    let read = cluster.meridian(&["get", "redis.db0", "color"])?;
    ensure!(read.to_string().contains("blue"), "{read}");

    let (status, ..) = http(&node.rest, "PUT /v1/kv/redis/db0/shape", "round")?;
    assert!((200..300).contains(&status), "{status}");
    assert_eq!(resp(&node.resp, &["GET", "shape"])?, "round");
    cluster.meridian(&["del", "redis.db0", "color"])?;
    assert_eq!(resp(&node.resp, &["EXISTS", "color"])?, ":0");

    cluster.restart().await?;
    let node = cluster.nodes()?.remove(0);
    assert_eq!(resp(&node.resp, &["GET", "shape"])?, "round");
    assert_eq!(resp(&node.resp, &["EXISTS", "color"])?, ":0");
    let (status, head, _) = http(&node.rest, "GET /v1/kv/redis/db0/color", "")?;
    assert_eq!(status, 404);
    assert!(head.to_ascii_lowercase().contains("meridian-context"), "{head}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_served() -> Result<()> {
    let cluster = Cluster::start("one-node").await?;
    let node = cluster.nodes()?.remove(0);
    resp(&node.resp, &["SET", "a", "1"])?;
    let (status, _, body) = http(&node.rest, "GET /health", "")?;
    assert_eq!(status, 200, "{body}");
    let health: Value = serde_json::from_str(&body)?;
    assert!(health.to_string().contains("ok"), "{health}");
    let (status, _, metrics) = http(&node.rest, "GET /metrics", "")?;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("consistency=\"local_quorum\""),
        "latencies by operation and level: {metrics}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_changes_nothing_and_says_so() -> Result<()> {
    let cluster = Cluster::start("one-node").await?;
    let node = cluster.nodes()?.remove(0);
    let long = "k".repeat(5_000);
    let error = resp(&node.resp, &["SET", &long, "v"])?;
    assert!(error.starts_with("-ERR") && error.contains("4096"), "{error}");
    assert!(resp(&node.resp, &["SET", "a", "b", "EX", "0"])?.starts_with("-ERR"));
    assert_eq!(resp(&node.resp, &["EXISTS", "a"])?, ":0");
    let (status, _, body) = http(&node.rest, "GET /v1/kv/nowhere/table/key", "")?;
    assert_eq!(status, 404, "{body}");
    let problem: Value = serde_json::from_str(&body)?;
    assert!(problem.to_string().contains("MER-1004"), "{problem}");
    assert!(problem.to_string().contains("not_applied"), "{problem}");
    let (status, _, body) = http(&node.rest, "GET /v1/kv/redis/db0/a?consistency=SOME", "")?;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("EACH_QUORUM"), "the allowed levels are named: {body}");
    Ok(())
}
