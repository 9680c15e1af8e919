//! RESP through another implementation's codec.

use std::net::SocketAddr;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame;
pub(crate) use redis_protocol::resp2::types::OwnedFrame as Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
}

pub(crate) fn bulk(text: &str) -> Frame {
    Frame::BulkString(text.as_bytes().to_vec())
}

pub(crate) fn ok() -> Frame {
    Frame::SimpleString(b"OK".to_vec())
}

impl Client {
    pub(crate) async fn connect(at: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(at).await.unwrap(), input: Vec::new() }
    }

    pub(crate) async fn send(&mut self, commands: &[Vec<&[u8]>]) {
        let mut out = BytesMut::new();
        for args in commands {
            let bulk = |arg: &&[u8]| BytesFrame::BulkString(arg.to_vec().into());
            let frame = BytesFrame::Array(args.iter().map(bulk).collect());
            extend_encode(&mut out, &frame, false).unwrap();
        }
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next answer; `None` once the door has hung up.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, read)) = decode(&self.input).unwrap() {
                self.input.drain(..read);
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// One command, its words split at blanks, and its answer.
    pub(crate) async fn tell(&mut self, line: &str) -> Frame {
        self.send(&[line.split(' ').map(str::as_bytes).collect()]).await;
        self.next().await.expect("an answer")
    }

    pub(crate) async fn error(&mut self, line: &str) -> String {
        match self.tell(line).await {
            Frame::Error(text) => text,
            other => panic!("{line}: {other:?}"),
        }
    }
}
