//! What is answered, in both dialects.

use bytes::{BufMut, Bytes, BytesMut};

/// The dialect of a connection; `HELLO` changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    /// What a connection starts with.
    #[default]
    Resp2,
    /// With maps, nulls and verbatim strings of their own.
    Resp3,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A short word, like `OK`.
    Simple(&'static str),
    /// An error line, its code first.
    Error(String),
    /// A number.
    Integer(i64),
    /// A value.
    Bulk(Bytes),
    /// Text that this door made.
    Text(String),
    /// Text of many lines; RESP3 says that it is meant to be shown as it is.
    Verbatim(String),
    /// No value.
    Null,
    /// A sequence.
    Array(Vec<Self>),
    /// A sequence without an order (RESP2: an array).
    Set(Vec<Self>),
    /// Pairs (RESP2: an array of twice the length).
    Map(Vec<(Self, Self)>),
    /// Nothing at all, not even an empty line.
    Silence,
}

impl Reply {
    pub(super) const OK: Self = Self::Simple("OK");

    /// Text that is known when this is built.
    pub(super) fn word(text: &'static str) -> Self {
        Self::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// A count, which fits by far.
    pub(super) fn count(n: usize) -> Self {
        Self::Integer(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// Appends the answer in its dialect.
    pub(super) fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        match self {
            Self::Simple(word) => line(out, b'+', word.as_bytes()),
            Self::Error(text) => error(out, text),
            Self::Integer(n) => header(out, b':', *n),
            Self::Bulk(value) => bulk(out, value),
            Self::Text(text) => bulk(out, text.as_bytes()),
            Self::Verbatim(text) if protocol == Protocol::Resp3 => {
                header(out, b'=', length(text.len() + 4));
                out.put_slice(b"txt:");
                out.put_slice(text.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Verbatim(text) => bulk(out, text.as_bytes()),
            Self::Null if protocol == Protocol::Resp3 => out.put_slice(b"_\r\n"),
            Self::Null => out.put_slice(b"$-1\r\n"),
            Self::Array(items) => sequence(out, b'*', items, protocol),
            Self::Set(items) if protocol == Protocol::Resp3 => {
                sequence(out, b'~', items, protocol);
            }
            Self::Set(items) => sequence(out, b'*', items, protocol),
            Self::Map(pairs) => {
                match protocol {
                    Protocol::Resp3 => header(out, b'%', length(pairs.len())),
                    Protocol::Resp2 => header(out, b'*', length(pairs.len() * 2)),
                }
                for (key, value) in pairs {
                    key.encode(protocol, out);
                    value.encode(protocol, out);
                }
            }
            Self::Silence => {}
        }
    }
}

fn length(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn sequence(out: &mut BytesMut, kind: u8, items: &[Reply], protocol: Protocol) {
    header(out, kind, length(items.len()));
    for item in items {
        item.encode(protocol, out);
    }
}

fn bulk(out: &mut BytesMut, value: &[u8]) {
    out.reserve(value.len() + 24);
    header(out, b'$', length(value.len()));
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

/// An error is one line, whatever a file's name or a client's word has in it.
fn error(out: &mut BytesMut, text: &str) {
    if text.bytes().any(|b| b == b'\r' || b == b'\n') {
        line(out, b'-', text.replace(['\r', '\n'], " ").as_bytes());
    } else {
        line(out, b'-', text.as_bytes());
    }
}

/// A kind, a number and a line break.
fn header(out: &mut BytesMut, kind: u8, n: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.reserve(24);
    out.put_u8(kind);
    if n < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
