//! RESP, as a Redis client would use it.

use super::*;

/// The command for a request; `None` for what RESP has no command for.
pub(super) fn command(request: &Request) -> Option<Vec<Vec<u8>>> {
    let words = |words: &[&[u8]]| Some(words.iter().map(|word| word.to_vec()).collect());
    match request {
        Request::Get(get) => words(&[b"GET", &get.key]),
        Request::Put(put) => {
            let mut words: Vec<Vec<u8>> =
                vec![b"SET".into(), put.item.key.to_vec(), put.item.value.as_ref()?.to_vec()];
            match put.item.expiry {
                Expiry::TableDefault => {}
                Expiry::Never => return None,
                Expiry::Keep => words.push(b"KEEPTTL".into()),
                Expiry::At(at) => words.extend([b"PXAT".into(), at.0.to_string().into()]),
            }
            match put.condition {
                None => {}
                Some(Condition::Absent) => words.push(b"NX".into()),
                Some(Condition::Present) => words.push(b"XX".into()),
            }
            Some(words)
        }
        Request::Delete(delete) => words(&[b"DEL", &delete.key]),
        Request::Touch(touch) => match touch.expiry {
            Expiry::At(at) => words(&[b"PEXPIREAT", &touch.key, at.0.to_string().as_bytes()]),
            _ => words(&[b"PERSIST", &touch.key]),
        },
        Request::MultiGet(get) => {
            let keys = get.keys.iter().map(|key| key.to_vec());
            Some([b"MGET".to_vec()].into_iter().chain(keys).collect())
        }
        Request::Batch(batch) => {
            let pair = |item: &PutItem| [item.key.to_vec(), item.value.as_ref().unwrap().to_vec()];
            let pairs = batch.items.iter().flat_map(pair);
            Some([b"MSET".to_vec()].into_iter().chain(pairs).collect())
        }
        Request::Scan(scan) => {
            let cursor = scan
                .cursor
                .as_ref()
                .map_or(0, |cursor| u64::from_be_bytes(cursor.as_ref().try_into().unwrap()));
            let cursor = cursor.to_string();
            words(&[b"SCAN", cursor.as_bytes(), b"MATCH", b"pre*", b"COUNT", b"17"])
        }
        Request::DescribeTable(_) => words(&[b"DBSIZE"]),
        _ => None,
    }
}

/// RESP has one value a key and one answer a command.
pub(super) fn expected(answer: &Scripted) -> Seen {
    let error = |error: &RequestError, effect: &str| Seen::Error {
        code: error.code().id.to_owned(),
        effect: effect.to_owned(),
    };
    match answer {
        Ok(Outcome::Got(got)) if got.values.len() > 1 => {
            error(&RequestError::Siblings { count: got.values.len() }, "not_applied")
        }
        Ok(Outcome::MultiGot(results)) => {
            match results.iter().find_map(|result| result.as_ref().err()) {
                Some(first) => error(first, first.effect().name()),
                None => seen(answer),
            }
        }
        Ok(Outcome::Batch(batch)) => {
            let failed: Vec<_> = batch.results.iter().filter_map(|r| r.as_ref().err()).collect();
            match failed.first() {
                // Some were written, so the command as a whole is neither.
                Some(first) if failed.len() < batch.results.len() => error(first, "unknown"),
                Some(first) => error(first, first.effect().name()),
                None => Seen::Written { applied: true },
            }
        }
        other => seen(other),
    }
}

pub(super) fn read(request: &Request, frame: Frame) -> Seen {
    let bulk = |frame: Frame| match frame {
        Frame::BulkString(bytes) => vec![bytes],
        Frame::Null => Vec::new(),
        other => panic!("{other:?}"),
    };
    match (request, frame) {
        (_, Frame::Error(text)) => {
            let mut words = text.split(' ').skip(1);
            let code = words.next().unwrap().to_owned();
            let effect = words.next().unwrap().trim_end_matches(':').to_owned();
            Seen::Error { code, effect }
        }
        (Request::Get(_), frame) => Seen::Values(bulk(frame)),
        (Request::Put(_) | Request::Batch(_), Frame::SimpleString(ok)) => {
            assert_eq!(ok, b"OK");
            Seen::Written { applied: true }
        }
        (Request::Put(_), Frame::Null) => Seen::Written { applied: false },
        (Request::Delete(_), Frame::Integer(1)) => Seen::Written { applied: true },
        (Request::Touch(_), Frame::Integer(n)) => Seen::Touched { existed: n == 1 },
        (Request::MultiGet(_), Frame::Array(values)) => {
            Seen::Many(values.into_iter().map(|v| Seen::Values(bulk(v))).collect())
        }
        (Request::Scan(_), Frame::Array(parts)) => {
            let [Frame::BulkString(cursor), Frame::Array(keys)] = &parts[..] else {
                panic!("{parts:?}")
            };
            let keys = keys.iter().flat_map(|key| bulk(key.clone())).collect();
            Seen::Page { keys, more: cursor != b"0" }
        }
        (Request::DescribeTable(name), Frame::Integer(5)) => Seen::Table(name.to_string()),
        other => panic!("{other:?}"),
    }
}
