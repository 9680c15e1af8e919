//! Asking a node's REST door whether it is there.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes of an answer that are read.
const MAX_ANSWER: u64 = 64 << 10;

/// What a health page said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    /// The HTTP status.
    status: u16,
    body: String,
}

impl Health {
    /// Somebody answers; a door that asks for a password answers as well.
    pub(super) fn lives(&self) -> bool {
        matches!(self.status, 200 | 401)
    }

    /// What is wrong, as the page says; nothing where all is well or nothing is said.
    pub(super) fn complaint(&self) -> Option<String> {
        let page: Value = serde_json::from_str(&self.body).ok()?;
        if page.get("status")? == "ok" {
            return None;
        }
        let reasons = page.as_object()?.iter().filter_map(|(check, said)| {
            let reason = said.get("reason")?.as_str().filter(|reason| !reason.is_empty())?;
            Some(format!("{check}: {reason}"))
        });
        Some(reasons.collect::<Vec<_>>().join("; "))
    }
}

/// A page of a REST door; `None` where nobody answers.
pub(super) async fn ask(address: SocketAddr, page: &str) -> Option<Health> {
    timeout(PATIENCE, get(address, page)).await.ok()?
}

async fn get(address: SocketAddr, page: &str) -> Option<Health> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await.ok()?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Option<Health> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Health { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degraded_node_lives_and_says_why() {
        let page = r#"{"status":"degraded","node":{"status":"ok","reason":""},
            "cluster":{"status":"degraded","reason":"3 of 8 nodes cannot be reached"}}"#;
        let health = parse(&format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{page}")).unwrap();
        assert!(health.lives());
        assert_eq!(health.complaint().unwrap(), "cluster: 3 of 8 nodes cannot be reached");
        let well = parse("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ok\"}").unwrap();
        assert!(well.lives() && well.complaint().is_none());
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert!(!parse("HTTP/1.1 503 Service Unavailable\r\n\r\nno").unwrap().lives());
        assert!(parse("HTTP/1.1 401 Unauthorized\r\n\r\n").unwrap().lives());
        assert_eq!(parse("SSH-2.0"), None);
        assert_eq!(parse("HTTP/1.1 20\r\n\r\n"), None);
    }
}
