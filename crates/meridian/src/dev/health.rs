//! Asking a node's REST door whether it is there.

use std::net::SocketAddr;
use std::time::Duration;

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
    pub(super) ok: bool,
    pub(super) body: String,
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
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    Some(Health { ok: status == "200", body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides() {
        let ok = parse("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(ok, Some(Health { ok: true, body: "ok".into() }));
        assert!(!parse("HTTP/1.1 503 Service Unavailable\r\n\r\nno").unwrap().ok);
        assert_eq!(parse("SSH-2.0"), None);
        assert_eq!(parse("HTTP/1.1 20\r\n\r\n"), None);
    }
}
