//! The same stream gives the same commands however it is cut, and arbitrary bytes end in peace.

use bytes::BytesMut;
use proptest::prelude::*;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::{BytesFrame, OwnedFrame};

use super::*;
use crate::resp::args::Args;

const LIMITS: FrameLimits =
    FrameLimits { args: 8, arg_bytes: 64, inline_bytes: 48, command_bytes: 256 };

type Commands = Vec<Vec<Vec<u8>>>;

/// Feeds chunks as a connection does: parse all that is whole, cut it off, go on.
fn feed<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> (Commands, Option<FrameError>) {
    let (mut parser, mut input) = (Parser::default(), BytesMut::new());
    let (mut commands, mut spans) = (Vec::new(), Vec::new());
    for chunk in chunks {
        input.extend_from_slice(chunk);
        let mut frames = Vec::new();
        let fault = loop {
            match parser.next(&input, &LIMITS) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
        };
        assert!(parser.spans.len() <= input.len(), "more arguments than bytes");
        let block = input.split_to(parser.whole()).freeze();
        parser.cut(&mut spans);
        let mut at = 0;
        for frame in &frames {
            let args = match frame {
                Frame::Array(count) => {
                    at += count;
                    Args::Spans { block: &block, spans: &spans[at - count..at] }
                }
                Frame::Inline(words) => Args::Words(words),
                Frame::Empty => continue,
            };
            commands.push((0..args.len()).map(|n| args.bytes(n).to_vec()).collect());
        }
        if fault.is_some() {
            return (commands, fault);
        }
    }
    (commands, None)
}

fn fault(bytes: &[u8]) -> Option<FrameError> {
    feed([bytes]).1
}

fn one(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut commands, fault) = feed([bytes]);
    assert_eq!((commands.len(), fault), (1, None));
    commands.remove(0)
}

#[test]
fn commands_are_cut_out_of_the_stream() {
    let stream = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSE";
    let (commands, fault) = feed([&stream[..]]);
    let expected: Commands = vec![vec![b"GET".into(), b"k".into()], vec![b"PING".into()]];
    assert_eq!((commands, fault), (expected, None));
    assert_eq!(one(b"*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n"), [&b""[..], b"\r\n"]);
}

#[test]
fn nothing_is_answered_to_nothing() {
    for empty in [&b"*0\r\n"[..], b"*-1\r\n", b"\r\n", b"\n", b"   \r\n"] {
        assert_eq!(feed([empty]), (Vec::new(), None));
    }
}

#[test]
fn commands_can_be_typed_by_hand() {
    assert_eq!(one(b"SET k v\r\n"), [&b"SET"[..], b"k", b"v"]);
    assert_eq!(one(b"  get   k \n"), [&b"get"[..], b"k"]);
    assert_eq!(one(b"set k \"a b\\x41\\n\\\"\"\r\n"), [&b"set"[..], b"k", b"a bA\n\""]);
    assert_eq!(one(b"set k 'it\\'s'\r\n"), [&b"set"[..], b"k", b"it's"]);
    assert_eq!(one(b"set k ''\r\n"), [&b"set"[..], b"k", b""]);
    for unbalanced in [&b"a \"b\r\n"[..], b"a 'b\r\n", b"a \"b\"c\r\n", b"a \"b\\"] {
        assert!(matches!(fault(unbalanced), Some(FrameError::Quotes) | None));
    }
    assert_eq!(fault(b"a \"b\"c\r\n"), Some(FrameError::Quotes));
    assert_eq!(fault(&[b'x'; 49]), Some(FrameError::InlineTooLarge));
    let long = [&[b'x'; 49][..], b"\r\n"].concat();
    assert_eq!(fault(&long), Some(FrameError::InlineTooLarge));
}

#[test]
fn what_breaks_the_protocol_is_named() {
    for (bytes, error) in [
        (&b"*9\r\n"[..], FrameError::Count),
        (b"*x\r\n", FrameError::Count),
        (b"*+1\r\n", FrameError::Count),
        (b"*01\r\n", FrameError::Count),
        (b"*99999999999999999999\r\n", FrameError::Count),
        (b"*11111111111111111111111111111111111", FrameError::CountLine),
        (b"*1\rx", FrameError::CountLine),
        (b"*1\r\n:5\r\n", FrameError::NoBulk(':')),
        (b"*1\r\n\x01", FrameError::NoBulk('?')),
        (b"*1\r\n$-1\r\n", FrameError::Length),
        (b"*1\r\n$\r\n", FrameError::Length),
        (b"*1\r\n$11111111111111111111111111111111111", FrameError::LengthLine),
        (b"*1\r\n$65\r\n", FrameError::ArgTooLarge { bytes: 65, limit: 64 }),
        (b"*1\r\n$3\r\nabcde", FrameError::NoBreak),
    ] {
        assert_eq!(fault(bytes), Some(error), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_command_of_too_many_bytes_is_refused_before_it_is_whole() {
    let mut stream = b"*8\r\n".to_vec();
    for _ in 0..5 {
        stream.extend_from_slice(b"$60\r\n");
        stream.extend_from_slice(&[b'x'; 60]);
        stream.extend_from_slice(b"\r\n");
    }
    assert_eq!(fault(&stream), Some(FrameError::CommandTooLarge { limit: 256 }));
}

#[test]
fn an_announced_length_takes_no_memory() {
    let (mut parser, stream) = (Parser::default(), b"*1000000\r\n$500000000\r\nx");
    let limits = FrameLimits {
        args: 1_000_000,
        arg_bytes: 500_000_000,
        inline_bytes: 64,
        command_bytes: 1_000_000_000,
    };
    assert_eq!(parser.next(stream, &limits), Ok(None));
    assert_eq!(parser.spans.capacity(), 0);
}

#[test]
fn numbers_are_read_as_redis_does() {
    for (text, n) in [
        ("0", Some(0)),
        ("10", Some(10)),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("-0", None),
        ("", None),
        ("-", None),
        ("+1", None),
        ("01", None),
        (" 1", None),
        ("1.0", None),
    ] {
        assert_eq!(number(text.as_bytes()), n, "{text}");
    }
}

fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6)
}

/// As another implementation writes it.
fn encode(commands: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for args in commands {
        let bulk = |arg: &Vec<u8>| BytesFrame::BulkString(arg.clone().into());
        let frame = BytesFrame::Array(args.iter().map(bulk).collect());
        extend_encode(&mut out, &frame, false).unwrap();
    }
    out.to_vec()
}

/// Cuts at arbitrary places.
fn cut(stream: &[u8], cuts: &[prop::sample::Index]) -> Vec<usize> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.extend([0, stream.len()]);
    at.sort_unstable();
    at
}

fn pieces<'s>(stream: &'s [u8], at: &[usize]) -> Vec<&'s [u8]> {
    at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn what_another_implementation_writes_is_read_however_it_is_cut(
        commands in prop::collection::vec(command(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream = encode(&commands);
        let at = cut(&stream, &cuts);
        prop_assert_eq!(feed(pieces(&stream, &at)), (commands, None));
    }

    #[test]
    fn arbitrary_bytes_end_in_peace_and_alike_however_they_are_cut(
        stream in prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(b"*$123\r\n \"'\\x".to_vec()),
                1 => any::<u8>(),
            ],
            0..200,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let at = cut(&stream, &cuts);
        // A bound is noticed as soon as it is passed, which depends on the cuts; what comes before
        // does not.
        let (whole, fault) = feed([stream.as_slice()]);
        let (pieced, fault_of_pieces) = feed(pieces(&stream, &at));
        prop_assert_eq!(fault.is_some(), fault_of_pieces.is_some());
        prop_assert_eq!(whole, pieced);
    }

    #[test]
    fn a_damaged_stream_is_read_as_another_implementation_reads_it(
        commands in prop::collection::vec(command(), 1..4),
        place in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"*$0123456789\r\n".to_vec()),
    ) {
        let mut stream = encode(&commands);
        let place = place.index(stream.len());
        stream[place] = byte;
        let (ours, _) = feed([stream.as_slice()]);
        let mut rest = stream.as_slice();
        for command in ours {
            // Inline commands, and what the limits here refuse, are beyond the other one.
            let Ok(Some((OwnedFrame::Array(args), bytes))) = decode(rest) else { break };
            let theirs: Option<Vec<_>> = args
                .into_iter()
                .map(|arg| match arg {
                    OwnedFrame::BulkString(arg) => Some(arg),
                    _ => None,
                })
                .collect();
            let Some(theirs) = theirs.filter(|args| !args.is_empty()) else { break };
            prop_assert_eq!(command, theirs);
            rest = &rest[bytes..];
        }
    }
}
