//! A connection that speaks RESP2: commands out in one write, replies read in order.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::args::BenchArgs;
use super::door::{Result as OpResult, unreachable};
use super::keys::{KEY_BYTES, Op, name};
use crate::cli::output::Failure;

/// Most bytes of a line of a reply: a longer one is no reply.
const MAX_LINE: usize = 64 << 10;

/// Most bytes of a value in a reply.
const MAX_BULK: usize = 64 << 20;

pub(super) struct Connection {
    stream: TcpStream,
    at: SocketAddr,
    value: Bytes,
    out: BytesMut,
    read: BytesMut,
}

/// One reply, as far as a benchmark looks at it.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Fine,
    Error(String),
}

impl Connection {
    pub(super) async fn open(
        at: SocketAddr,
        args: &BenchArgs,
        value: Bytes,
    ) -> Result<Self, Failure> {
        let stream = TcpStream::connect(at).await.map_err(|error| unreachable(at, error))?;
        stream.set_nodelay(true)?;
        let mut connection =
            Self { stream, at, value, out: BytesMut::new(), read: BytesMut::new() };
        if let Some(password) = &args.connect.password {
            connection.must(&[b"AUTH", password.as_bytes()]).await?;
        }
        if let Some(table) = &args.table {
            connection.must(&[b"SELECT", table.as_str().as_bytes()]).await?;
        }
        if let Some(level) = args.consistency {
            connection.must(&[b"CONSISTENCY", level.name().as_bytes()]).await?;
        }
        Ok(connection)
    }

    async fn must(&mut self, words: &[&[u8]]) -> Result<(), Failure> {
        put_command(&mut self.out, words);
        self.flush().await?;
        match self.reply().await? {
            Reply::Fine => Ok(()),
            Reply::Error(why) => {
                let command = String::from_utf8_lossy(words.first().copied().unwrap_or_default());
                Err(Failure::No(format!("{} refused {command}: {why}", self.at)))
            }
        }
    }

    pub(super) async fn run(
        &mut self,
        ops: &[Op],
        answers: &mut Vec<OpResult>,
    ) -> Result<(), Failure> {
        self.out.reserve(ops.len() * (KEY_BYTES + self.value.len() + 48));
        for op in ops {
            match op {
                Op::Get(key) => put_command(&mut self.out, &[b"GET", name(*key).as_bytes()]),
                Op::Put(key) => {
                    put_command(&mut self.out, &[b"SET", name(*key).as_bytes(), &self.value]);
                }
            }
        }
        self.flush().await?;
        for _ in ops {
            answers.push(match self.reply().await? {
                Reply::Fine => Ok(()),
                Reply::Error(why) => Err(first_word(&why)),
            });
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let sent = self.stream.write_all_buf(&mut self.out).await;
        sent.map_err(|error| unreachable(self.at, error))
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        loop {
            match take_reply(&mut self.read) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(why) => return Err(unreachable(self.at, why)),
            }
            self.read.reserve(16 << 10);
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) => return Err(unreachable(self.at, "it closed the connection")),
                Ok(_) => {}
                Err(error) => return Err(unreachable(self.at, error)),
            }
        }
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or("error").to_owned()
}

fn put_command(out: &mut BytesMut, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The next reply, if it is there whole. A benchmark asks for lines and bulks only.
fn take_reply(read: &mut BytesMut) -> Result<Option<Reply>, String> {
    let Some(end) = read.windows(2).take(MAX_LINE).position(|two| two == b"\r\n") else {
        return match read.len() {
            too_long if too_long > MAX_LINE => Err("a reply without end".to_owned()),
            _ => Ok(None),
        };
    };
    let line = read.get(..end).unwrap_or_default();
    let Some((kind, rest)) = line.split_first() else {
        return Err("an empty reply".to_owned());
    };
    match kind {
        b'+' | b':' | b'_' => {
            read.advance(end + 2);
            Ok(Some(Reply::Fine))
        }
        b'-' => {
            let why = String::from_utf8_lossy(rest).into_owned();
            read.advance(end + 2);
            Ok(Some(Reply::Error(why)))
        }
        b'$' => take_bulk(read, end),
        other => Err(format!("a reply that starts with {:?}", char::from(*other))),
    }
}

fn take_bulk(read: &mut BytesMut, end: usize) -> Result<Option<Reply>, String> {
    let length = read.get(1..end).and_then(|digits| std::str::from_utf8(digits).ok());
    let length = length.and_then(|digits| digits.parse::<i64>().ok());
    let whole = match length.map(usize::try_from) {
        None => return Err("a bulk without a length".to_owned()),
        Some(Err(_negative)) => end + 2,
        Some(Ok(length)) if length > MAX_BULK => return Err("a bulk that is too long".to_owned()),
        Some(Ok(length)) => end + 2 + length + 2,
    };
    if read.len() < whole {
        return Ok(None);
    }
    read.advance(whole);
    Ok(Some(Reply::Fine))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_arrays_of_bulks() {
        let mut out = BytesMut::new();
        put_command(&mut out, &[b"GET", b"k\r\n"]);
        assert_eq!(&out[..], b"*2\r\n$3\r\nGET\r\n$3\r\nk\r\n\r\n");
    }

    proptest! {
        #[test]
        fn replies_are_found_however_they_are_cut(cuts in prop::collection::vec(1usize..9, 1..80)) {
            let all = b"+OK\r\n$-1\r\n-BUSY later\r\n$5\r\na\r\nbc\r\n:7\r\n$0\r\n\r\n";
            let (mut read, mut at, mut replies) = (BytesMut::new(), 0, Vec::new());
            for cut in cuts.into_iter().chain([all.len()]) {
                let next = (at + cut).min(all.len());
                read.extend_from_slice(&all[at..next]);
                at = next;
                while let Some(reply) = take_reply(&mut read).unwrap() {
                    replies.push(reply);
                }
            }
            let busy = Reply::Error("BUSY later".into());
            prop_assert_eq!(
                replies,
                [Reply::Fine, Reply::Fine, busy, Reply::Fine, Reply::Fine, Reply::Fine]
            );
            prop_assert!(read.is_empty());
        }

        #[test]
        fn noise_is_an_error_or_not_yet_a_reply(noise in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut read = BytesMut::from(&noise[..]);
            while let Ok(Some(_)) = take_reply(&mut read) {}
        }
    }
}
