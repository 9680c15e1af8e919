//! What is done to every decoder with bytes from anywhere: a typed error, or a value that has no other
//! spelling and can be used. `fuzz/` gives these bodies to a fuzzer, the tests give them arbitrary
//! bytes and damaged sound ones.

#![allow(clippy::missing_panics_doc, reason = "to panic is how a finding is told")]

use bytes::Bytes;
use meridian_types::{Millis, TableId};

use crate::{
    ConflictPolicy, Context, ContextToken, Delta, DotSet, Row, Session, SessionToken, TokenKey,
    TokenScope, VnodeClock,
};

/// A decoder's body.
pub type Body = fn(&[u8]);

/// All of them, by the names that the fuzz targets have.
pub const BODIES: [(&str, Body); 4] =
    [("dots", dots), ("row", row), ("session", session), ("token", token)];

/// Clocks, contexts and sets of dots: their bytes are alike.
pub fn dots(bytes: &[u8]) {
    let clock = VnodeClock::from_bytes(bytes);
    let context = Context::from_bytes(bytes);
    let Ok(set) = DotSet::from_bytes(bytes) else {
        assert!(clock.is_err() && context.is_err());
        return;
    };
    assert_eq!(set.to_bytes(), bytes);
    assert_eq!(clock.map(|clock| clock.to_bytes()).as_deref(), Ok(bytes));
    assert_eq!(context.map(|context| context.to_bytes()).as_deref(), Ok(bytes));
    let mut union = set.base();
    assert!(union.is_subset(&set));
    union.union_with(&set.above_base_of(&set));
    assert_eq!(union, set);
    assert!(set.difference(&set).is_empty() && set.len() >= set.actors().count() as u64);
    for (actor, counters) in set.actors() {
        assert!(!counters.is_empty() && set.counters(actor) == Some(counters));
        assert!(counters.contains(counters.highest()));
    }
}

/// A stored row, or the delta that it may be, joined as the storage engine joins operands.
pub fn row(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    let Ok(row) = Row::from_bytes(&shared) else {
        assert!(Delta::from_bytes(&shared).is_err());
        return;
    };
    assert_eq!(row.to_bytes(), bytes);
    assert!(row.visible(Millis(0)).count() <= row.entries().len());
    if let Ok(delta) = Delta::from_bytes(&shared) {
        assert_eq!((delta.to_bytes(), &delta.into_row()), (bytes.to_vec(), &row));
    }
    for policy in [ConflictPolicy::Siblings, ConflictPolicy::Lww] {
        let mut joined = Row::default();
        joined.absorb(policy, row.clone());
        let once = joined.clone();
        joined.absorb(policy, row.clone());
        assert_eq!(joined, once, "a row that comes twice changes nothing");
        assert_eq!(Row::from_bytes(&joined.to_bytes().into()).as_ref(), Ok(&joined));
    }
}

/// A session's token, without the code in the way and with it.
pub fn session(bytes: &[u8]) {
    let key = TokenKey::derive(b"golden");
    if let Ok(session) = SessionToken::open(&key, bytes) {
        assert_eq!(SessionToken::seal(&key, &session).as_bytes(), bytes);
    }
    if let Ok(session) = Session::decode(bytes) {
        assert_eq!(session.body(), bytes);
        let mut joined = session.clone();
        joined.join(&session);
        assert_eq!(joined, session, "a session joined with itself");
    }
}

/// A client's token: whatever is accepted is what was given.
pub fn token(bytes: &[u8]) {
    let (key, scope) =
        (TokenKey::derive(b"golden"), TokenScope { table: TableId(300), key: b"key" });
    if let Ok(context) = ContextToken::open(&key, scope, bytes) {
        assert_eq!(ContextToken::seal(&key, scope, &context).as_bytes(), bytes);
    }
    // What a fuzzer does not come to: there is a code in the way.
    if let Ok(context) = Context::from_bytes(bytes) {
        let sealed = ContextToken::seal(&key, scope, &context);
        assert_eq!(ContextToken::open(&key, scope, sealed.as_bytes()), Ok(context));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Those of the golden tests: a clock of two actors, a row of two siblings, a delta with a
    /// context, a token, a session of two vnodes without its code.
    const SOUND: [&[u8]; 5] = [
        b"\x01\x02\x02\0\0\0\0\0\0\0\xff\x01\xc7\x01\0\xac\x02\x01\x23\x45\x67\x89\xab\xcd\xef\x03\0\x03\x01\0\0\x01",
        b"\x01\x02\0\xac\x02\x01\x23\x45\x67\x89\xab\xcd\xef\x02\x01\xa0\xc4\x50\x6c\0\0\x05\x01v\x01\xac\x02\x01\x23\x45\x67\x89\xab\xcd\xef\x03\x01\xa0\xc4\x50\x6c\0\0\x05\0",
        b"\x31\x01\xac\x02\x01\x23\x45\x67\x89\xab\xcd\xef\x01\0\0\xac\x02\x01\x23\x45\x67\x89\xab\xcd\xef\x02\x01\xa0\xc4\x50\x6c\0\0\x05new",
        b"\x01\xac\x02\xbb\xea\x0d\x63\xa0\x51\x65\xe3\x01\xac\x02\x01\x23\x45\x67\x89\xab\xcd\xef\x01\0\0\x6f\x08\x6b\xa0\xc7\xa2\x30\xc1\xa1\x22\x7d\xf1\x5e\xf3\x50\x7a",
        b"\x01\x02\x02\0\0\0\0\0\0\0\xff\xac\x02\x01\x23\x45\x67\x89\xab\xcd\xef\x02\x01\x07\x04\x00\x01\xc7\x01\0\x01\x01\0\0\x01\x03\x03\x01\x01\0\0\0",
    ];

    #[test]
    fn the_examples_are_sound() {
        assert!(DotSet::from_bytes(SOUND[0]).is_ok_and(|set| set.len() == 8));
        assert!(
            Row::from_bytes(&Bytes::from_static(SOUND[1]))
                .is_ok_and(|row| row.entries().len() == 2)
        );
        assert!(Delta::from_bytes(&Bytes::from_static(SOUND[2])).is_ok());
        let (key, scope) =
            (TokenKey::derive(b"golden"), TokenScope { table: TableId(300), key: b"key" });
        assert!(ContextToken::open(&key, scope, SOUND[3]).is_ok());
        assert!(Session::decode(SOUND[4]).is_ok_and(|session| session.len() == 2));
    }

    proptest! {
        #[test]
        fn anything_is_answered(
            any in proptest::collection::vec(prop_oneof![3 => 0..4u8, 1 => any::<u8>()], 0..60),
            which in 0..SOUND.len(), changes in proptest::collection::vec((0..48usize, any::<u8>()), 0..4),
            cut in 0..60usize,
        ) {
            let mut damaged = SOUND[which].to_vec();
            for (at, byte) in changes {
                let at = at % damaged.len();
                damaged[at] = byte;
            }
            damaged.truncate(damaged.len().min(60 - cut));
            for (_, body) in BODIES {
                body(&any);
                body(&damaged);
            }
        }
    }
}
