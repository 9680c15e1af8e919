//! The command line as scripts see it: exit codes, and errors that say how to mend what is wrong.

use std::process::{Command, Output, Stdio};

fn meridian(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_usage_is_exit_code_2() {
    assert_eq!(meridian(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(meridian(&["put", "only.a-table"]).status.code(), Some(2));
}

#[test]
fn a_node_that_cannot_be_reached_is_exit_code_3() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    // Port 1 is privileged and nobody listens there.
    let output = meridian(&["get", "a.b", "c", "--address", "127.0.0.1:1", "--data", folder]);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert!(errors(&output).contains("127.0.0.1:1"), "{}", errors(&output));
}

#[test]
fn a_configuration_error_names_key_file_and_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "[storage]\nsync = \"sometimes\"\n").unwrap();
    let output = meridian(&["server", "--config", file.to_str().unwrap()]);
    assert_ne!(output.status.code(), Some(0));
    let errors = errors(&output);
    for part in ["storage.sync", "node.toml", "always"] {
        assert!(errors.contains(part), "{part} is missing in: {errors}");
    }
}

#[test]
fn the_reference_and_completions_are_printed() {
    for arguments in [&["completions", "bash"][..], &["config", "reference"], &["--version"]] {
        let output = meridian(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", errors(&output));
        assert!(!output.stdout.is_empty());
    }
}

/// What two runs in one process share (a seeded hasher, an address) would hide between them.
#[test]
fn a_seed_is_the_same_history_in_two_processes() {
    let trace = |seed| {
        let arguments = ["chaos", "sim", "--seeds", seed, "--until", "4s"];
        let output = meridian(&arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("trace ")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{text} {}", errors(&output)))
    };
    let first = trace("7");
    assert_eq!(first, trace("7"));
    assert_ne!(first, trace("8"));
}
