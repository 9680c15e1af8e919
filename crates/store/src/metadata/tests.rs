use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn both(check: impl Fn(Arc<dyn Metadata>)) {
    check(Arc::new(MemMetadata::new()));
    let dir = tempfile::tempdir().unwrap();
    check(Arc::new(SledMetadata::open(dir.path()).unwrap()));
}

#[test]
fn keeps_facts_by_name() {
    both(|metadata| {
        assert_eq!(metadata.get(b"a").unwrap(), None);
        metadata.put(b"a/1", b"x").unwrap();
        metadata.put(b"a/2", b"y").unwrap();
        metadata.put(b"b", b"z").unwrap();
        metadata.remove(b"b").unwrap();
        metadata.put(b"a/1", b"w").unwrap();
        assert_eq!(metadata.get(b"a/1").unwrap().as_deref(), Some(&b"w"[..]));
        assert_eq!(metadata.get(b"b").unwrap(), None);
        let all = metadata.scan(b"a/").unwrap();
        assert_eq!(all, [("a/1".into(), "w".into()), ("a/2".into(), "y".into())]);
        metadata.flush().unwrap();
    });
}

#[test]
fn what_was_flushed_survives_a_power_cut_and_the_rest_does_not() {
    let metadata = MemMetadata::new();
    metadata.put(b"a", b"1").unwrap();
    Metadata::flush(&metadata).unwrap();
    metadata.put(b"a", b"2").unwrap();
    metadata.put(b"b", b"3").unwrap();
    let after = metadata.crash_clone();
    assert_eq!(after.scan(b"").unwrap(), [("a".into(), "1".into())]);
}

#[test]
fn sled_keeps_over_a_restart_and_is_opened_once() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = SledMetadata::open(dir.path()).unwrap();
    metadata.put(b"a", b"1").unwrap();
    Metadata::flush(&metadata).unwrap();
    let again = SledMetadata::open(dir.path()).unwrap_err();
    assert!(again.to_string().contains(dir.path().to_str().unwrap()), "{again}");
    drop(metadata);
    let metadata = SledMetadata::open(dir.path()).unwrap();
    assert_eq!(metadata.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(metadata.failure(), None);
}

#[test]
fn a_failure_is_an_error_that_names_the_operation() {
    let metadata = MemMetadata::new();
    metadata.set_failing(true);
    let error = metadata.put(b"a", b"1").unwrap_err();
    assert!(error.to_string().contains("cannot write: injected fault"), "{error}");
}

type Facts = Vec<(Bytes, Bytes)>;

fn facts(metadata: &MemMetadata) -> Facts {
    metadata.scan(b"").unwrap()
}

fn change(metadata: &MemMetadata, changes: &[(u8, Option<u8>)]) {
    for (key, value) in changes {
        match value {
            Some(value) => metadata.put(&[*key], &[*value]).unwrap(),
            None => metadata.remove(&[*key]).unwrap(),
        }
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    let metadata = MemMetadata::new();
    change(&metadata, &[(1, Some(1))]);
    Metadata::flush(&metadata).unwrap();
    change(&metadata, &[(1, Some(2)), (2, Some(2))]);
    metadata.set_failing(true);
    let fork = metadata.fork();
    metadata.set_failing(false);
    assert_eq!((facts(&fork), fork.unflushed()), (facts(&metadata), 2));
    assert_eq!(facts(&fork.crash_clone()), facts(&metadata.crash_clone()));
    let copy = metadata.copy();
    assert_eq!((facts(&copy), copy.unflushed()), (facts(&metadata), 0));
    assert_eq!(facts(&copy.crash_clone()), facts(&copy));
    Metadata::flush(&fork).unwrap();
    change(&metadata, &[(3, Some(3))]);
    assert_eq!(facts(&fork), facts(&fork.crash_clone()));
    assert_eq!((facts(&fork).len(), facts(&metadata).len()), (2, 3));
    assert_eq!(facts(&metadata.crash_clone()).len(), 1, "the other one's flush is not its own");
}

proptest! {
    #[test]
    fn a_cut_keeps_a_beginning_of_what_was_not_flushed(
        flushed in proptest::collection::vec((0..4u8, any::<Option<u8>>()), 0..8),
        unflushed in proptest::collection::vec((0..4u8, any::<Option<u8>>()), 0..8),
    ) {
        let metadata = MemMetadata::new();
        change(&metadata, &flushed);
        Metadata::flush(&metadata).unwrap();
        let mut allowed = vec![facts(&metadata)];
        for one in &unflushed {
            change(&metadata, std::slice::from_ref(one));
            allowed.push(facts(&metadata));
        }
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let after = metadata.crash_clone_keeping(seed);
            let left = facts(&after);
            prop_assert_eq!(after.unflushed(), 0);
            prop_assert_eq!(&facts(&after.crash_clone()), &left, "all of that is durable");
            prop_assert_eq!(&facts(&metadata.crash_clone_keeping(seed)), &left);
            seen.insert(left);
        }
        // Seeds leave nothing else, and each of the allowed.
        prop_assert_eq!(seen, allowed.into_iter().collect::<BTreeSet<Facts>>());
        prop_assert_eq!(metadata.unflushed(), unflushed.len());
    }
}
