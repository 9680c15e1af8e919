use std::sync::Arc;

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
