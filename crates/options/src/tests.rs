use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const SECRET: &str = "0123456789abcdef0123";

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    fs::write(&path, text).unwrap();
    (folder, Sources { file: Some(path), ..Sources::default() })
}

fn error(text: &str) -> String {
    let (folder, sources) = file(text);
    let error = Options::load(&sources).expect_err("must be refused").to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

fn with_secret(rest: &str) -> String {
    format!("[cluster]\nsecret = \"{SECRET}\"\n{rest}")
}

fn three_node() -> String {
    with_secret(
        "shape = \"three-node\"\n[node]\nname = \"local-1\"\n[peers]\n\
         local-2 = \"10.0.0.2:5001\"\nlocal-3 = \"c.example.net:5001\"\n",
    )
}

#[test]
fn one_node_needs_a_secret_only() {
    let (_folder, sources) = file(&with_secret(""));
    let Loaded { options, .. } = Options::load(&sources).unwrap();
    assert_eq!(options.node.name, "local-1");
    assert_eq!(options.links.listen, None);
    assert_eq!(options.doors.resp, Some("127.0.0.1:7001".parse().unwrap()));
    assert_eq!(options.limits.sizes, meridian_types::Limits::DEFAULT);
    assert!(matches!(options.storage.sync, SyncPolicy::Every { writes: 1_000, .. }));
    assert_eq!(options.node.data_dir, PathBuf::from("meridian-data"));
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let (_folder, mut sources) = file(&with_secret("[limits]\nkey_bytes = 10\nvalue_bytes = 11\n"));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    sources.environment = vec![
        pair("MERIDIAN_LIMITS__VALUE_BYTES", "22"),
        pair("MERIDIAN_LIMITS__BATCH_KEYS", "23"),
        pair("MERIDIAN_ADDRESS", "not a key: one underscore"),
        pair("PATH", "/bin"),
    ];
    sources.flags = vec![pair("limits.batch_keys", "33"), pair("doors.grpc", "off")];
    let Loaded { options, effective } = Options::load(&sources).unwrap();
    let sizes = options.limits.sizes;
    assert_eq!((sizes.key_bytes, sizes.value_bytes, sizes.batch_keys), (10, 22, 33));
    assert_eq!(options.doors.grpc, None);
    let of = |key: &str| effective.iter().find(|one| one.key == key).unwrap();
    assert!(matches!(&of("limits.key_bytes").origin, Origin::File { line: 4, .. }));
    assert_eq!(
        of("limits.value_bytes").origin,
        Origin::Environment("MERIDIAN_LIMITS__VALUE_BYTES".into())
    );
    assert_eq!(of("limits.batch_keys").origin, Origin::Flag);
    assert_eq!(of("limits.page_rows").origin, Origin::Default);
    assert_eq!(of("cluster.secret").value, "(hidden)");
}

#[test]
fn a_cluster_names_its_peers() {
    let (_folder, sources) = file(&three_node());
    let Loaded { options, effective } = Options::load(&sources).unwrap();
    let peers: Vec<_> = options.peers.values().map(String::as_str).collect();
    assert_eq!(peers, ["10.0.0.2:5001", "c.example.net:5001"]);
    assert_eq!(effective.last().unwrap().key, "peers.local-3");
    assert_eq!(options.links.listen, Some("127.0.0.1:5001".parse().unwrap()));
}

#[test]
fn errors_name_key_file_line_and_what_is_allowed() {
    check_errors(&[
        (
            with_secret("[storage]\nsync = \"sometimes\"\n"),
            "node.toml:4: `storage.sync` is \"sometimes\"; allowed: every, always, os",
        ),
        (
            with_secret("[storage]\nsync_writes = \"many\"\n"),
            "node.toml:4: `storage.sync_writes` is \"many\"; allowed: 1 to 10000000 writes",
        ),
        (
            with_secret("[storage]\nworkers = 0\n"),
            "node.toml:4: `storage.workers` is 0; allowed: 1 to 64 threads",
        ),
        (
            with_secret("[storage]\nworkers = -3\n"),
            "node.toml:4: `storage.workers` is -3; allowed: 1 to 64 threads",
        ),
        (
            with_secret("[storage]\nworkers = [1]\n"),
            "node.toml:4: `storage.workers` is neither text, number nor switch; allowed: 1 to 64 \
             threads",
        ),
        (
            with_secret("[storage]\nfsync = true\n"),
            "node.toml:4: there is no key `storage.fsync`; section `storage` has sync, \
             sync_interval_ms, sync_writes, block_cache_mb, memtable_mb, memtables_mb, \
             wal_segment_mb, workers",
        ),
        (
            with_secret("[disk]\nsize = 1\n"),
            "node.toml:4: there is no key `disk.size`; the sections are node, cluster, links, \
             doors, storage, replication, forgetting, telemetry, limits, peers",
        ),
        (
            "name = 1\n".to_owned(),
            "node.toml:1: there is no key `name`; the sections are node, \
          cluster, links, doors, storage, replication, forgetting, telemetry, limits, peers",
        ),
        (
            with_secret("[doors]\nresp = \"7001\"\n"),
            "node.toml:4: `doors.resp` is \"7001\"; allowed: IP:port, like 127.0.0.1:7001, or off",
        ),
        (
            with_secret("[replication]\ndefault_consistency = \"MOST\"\n"),
            "node.toml:4: `replication.default_consistency` is \"MOST\"; allowed: ANY, ONE, \
             LOCAL_ONE, TWO, THREE, QUORUM, LOCAL_QUORUM, EACH_QUORUM, ALL",
        ),
    ]);
}

#[test]
fn errors_between_keys_name_both() {
    check_errors(&[
        (
            with_secret("[links]\nkeep_alive_ms = 2000\n"),
            "default: `links.down_after_ms` is 3000, but `links.keep_alive_ms` is 2000; \
             down_after_ms must be at least twice that, so that one lost answer does not take a \
             node down",
        ),
        (
            "[cluster]\nsecret = \"short\"\n".to_owned(),
            "node.toml:2: `cluster.secret` is (hidden), 5 characters long; allowed: a text of at \
             least 16 characters",
        ),
        (
            "[cluster]\nsecret = word\n".to_owned(),
            "node.toml:2: string values must be quoted, expected literal string",
        ),
        (
            with_secret("shape = \"two-dc\"\n"),
            "node.toml:3: `cluster.shape`: there is no shape `two-dc`; use one of five-dc, \
             one-node, three-dc, three-node, two-dc-uneven, or the path of a file",
        ),
        (
            with_secret("[node]\nname = \"us-1\"\n"),
            "node.toml:4: `node.name` is \"us-1\"; allowed: local-1",
        ),
        (
            three_node().replace("local-2", "local-9"),
            "node.toml:7: `peers.local-9` is \"10.0.0.2:5001\"; allowed: keys for local-1, \
             local-2, local-3",
        ),
        (
            three_node().replace("10.0.0.2:5001", "10.0.0.2"),
            "node.toml:7: `peers.local-2` is \"10.0.0.2\"; allowed: host:port",
        ),
        (
            three_node().replace("local-3 =", "local-1 ="),
            "`peers.local-3` is not set in node.toml; write local-3 = \"host:port\" under [peers] \
             (or set MERIDIAN_PEERS__LOCAL-3 in the environment, or pass --set peers.local-3=...)",
        ),
    ]);
}

fn check_errors(cases: &[(String, &str)]) {
    for (text, expected) in cases {
        assert_eq!(error(text), *expected);
    }
}

#[test]
fn what_is_missing_says_how_to_set_it() {
    let error = Options::load(&Sources::default()).unwrap_err().to_string();
    assert_eq!(
        error,
        "`cluster.secret` is not set; write secret = \"...\" under [cluster], the same on every \
         node; `head -c 32 /dev/urandom | base64` makes one (or set MERIDIAN_CLUSTER__SECRET in \
         the environment, or pass --set cluster.secret=...)"
    );
}

#[test]
fn what_is_wrong_is_said_before_what_is_missing() {
    let wrong = error("[storage]\nsync = \"sometimes\"\n[cluster]\nshape = \"three-dc\"\n");
    assert!(wrong.starts_with("node.toml:2: `storage.sync` is"), "{wrong}");
}

#[test]
fn an_open_listener_needs_a_password_or_the_explicit_word() {
    let open = "[doors]\nresp = \"0.0.0.0:7001\"\n";
    let refused = error(&with_secret(open));
    assert!(
        refused.starts_with(
            "node.toml:4: `doors.resp` is 0.0.0.0:7001, but that is reachable from other machines \
             and no `doors.password` is set; set `doors.password`"
        ),
        "{refused}"
    );
    for more in ["password = \"p\"\n", "allow_open_listeners = true\n"] {
        let (_folder, sources) = file(&with_secret(&format!("{open}{more}")));
        Options::load(&sources).unwrap();
    }
    let links = three_node().replace("[peers]", "[links]\nlisten = \"10.0.0.1:5001\"\n[peers]");
    assert!(error(&links).contains("`links.listen` is 10.0.0.1:5001, but"));
}

#[test]
fn paths_in_a_file_are_seen_from_the_file() {
    let (folder, sources) =
        file(&with_secret("shape = \"mine.toml\"\n[node]\ndata_dir = \"here\"\n"));
    let missing = Options::load(&sources).unwrap_err().to_string();
    assert!(missing.contains("mine.toml cannot be read"), "{missing}");
    fs::write(folder.path().join("mine.toml"), "name = \"x\"").unwrap();
    let bad = Options::load(&sources).unwrap_err().to_string();
    assert!(bad.contains("node.toml:3: `cluster.shape` (") && bad.contains("mine.toml)"), "{bad}");
    let shape = "name = \"mine\"\nabout = \"\"\n[replication]\na = 1\n[[datacenters]]\nname = \
                 \"a\"\nnodes = [{ name = \"a-1\", rack = \"r\" }]\n";
    fs::write(folder.path().join("mine.toml"), shape).unwrap();
    let options = Options::load(&sources).unwrap().options;
    assert_eq!(options.node.data_dir, folder.path().join("here"));
    assert_eq!(options.cluster.shape.name(), "mine");
}

#[test]
fn a_shape_may_stand_in_the_file_itself() {
    let text = with_secret(
        "shape = \"\"\"\nname = \"mine\"\nabout = \"\"\n[replication]\na = 1\n[[datacenters]]\n\
         name = \"a\"\nnodes = [{ name = \"a-1\", rack = \"r\" }]\n\"\"\"\n",
    );
    let (_folder, sources) = file(&text);
    assert_eq!(Options::load(&sources).unwrap().options.node.name, "a-1");
}

#[test]
fn secrets_are_nowhere() {
    let (_folder, sources) = file(&with_secret("[doors]\npassword = \"hunter2hunter2\"\n"));
    let loaded = format!("{:?}", Options::load(&sources).unwrap());
    assert!(!loaded.contains(SECRET) && !loaded.contains("hunter2"), "{loaded}");
}

/// The typed sections and the table of keys are two lists of the same keys.
#[test]
fn the_table_of_keys_is_complete() {
    let raw = serde_json::to_value(raw::Raw::default()).unwrap();
    let mut typed: Vec<String> = Vec::new();
    for (section, keys) in raw.as_object().unwrap() {
        typed.extend(keys.as_object().unwrap().keys().map(|key| format!("{section}.{key}")));
    }
    let mut listed: Vec<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    typed.sort();
    listed.sort();
    assert_eq!(typed, listed);
}

#[test]
fn the_reference_page_is_current() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let written = fs::read_to_string(page).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/configuration.md is not what the table of keys says; write it with \
         `cargo run -- config reference > docs/configuration.md`"
    );
}

proptest! {
    #[test]
    fn arbitrary_files_are_options_or_an_error(text in "(\\[(node|doors|cluster|peers)\\]\n)?\\PC{0,60}\n?[a-z.]{0,9} ?= ?\\PC{0,20}") {
        let (_folder, sources) = file(&text);
        let _ = Options::load(&sources);
    }
}
