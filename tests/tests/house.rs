//! The rules of the house, held by a test: uses point down, pure crates stay pure, files stay
//! small, nothing is left half done.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test may panic, and its order does not matter"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Longest file, in lines. A file explains one thing.
const MAX_LINES: usize = 600;

/// What a pure crate must not pull in: runtimes, clocks, randomness, files.
const IMPURE: [&str; 12] = [
    "tokio",
    "mio",
    "rand",
    "rand_core",
    "getrandom",
    "fastrand",
    "sled",
    "tempfile",
    "socket2",
    "parking_lot",
    "rustix",
    "crossbeam-epoch",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

struct Room {
    name: String,
    floor: u64,
    pure: bool,
    uses: BTreeSet<String>,
    folder: PathBuf,
}

fn rooms() -> BTreeMap<String, Room> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let room = |package: &Value| {
        let name = package["name"].as_str().unwrap().to_owned();
        let meta = &package["metadata"]["meridian"];
        let uses = package["dependencies"].as_array().unwrap().iter();
        let uses = uses.filter(|d| d["kind"].as_str() != Some("dev") && d["path"].is_string());
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let room = Room {
            floor: meta["floor"].as_u64().unwrap_or_else(|| panic!("{name} names no floor")),
            pure: meta["pure"].as_bool().unwrap_or_else(|| panic!("{name}: pure or not?")),
            uses: uses.map(|d| d["name"].as_str().unwrap().to_owned()).collect(),
            folder: manifest.parent().unwrap().to_owned(),
            name: name.clone(),
        };
        (name, room)
    };
    metadata["packages"].as_array().unwrap().iter().map(room).collect()
}

#[test]
fn uses_point_down() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for room in rooms.values() {
        for used in &room.uses {
            if rooms[used].floor >= room.floor {
                wrong.push(format!(
                    "{} (floor {}) uses {used} (floor {})",
                    room.name, room.floor, rooms[used].floor
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "uses must point to a lower floor: {wrong:#?}");
    assert!(rooms.values().filter(|r| r.pure).count() >= 7, "the pure crates are marked");
}

#[test]
fn pure_crates_pull_in_no_driver() {
    let mut wrong = Vec::new();
    for room in rooms().values().filter(|r| r.pure) {
        let args =
            ["tree", "--locked", "--offline", "-p", &room.name, "-e", "normal", "--prefix", "none"];
        for line in cargo(&args).lines() {
            let dependency = line.split(' ').next().unwrap_or_default();
            if IMPURE.contains(&dependency) {
                wrong.push(format!("{} pulls in {dependency}", room.name));
            }
        }
        let relaxed = sources(&room.folder.join("src"))
            .into_iter()
            .filter(|(_, text)| text.contains("clippy::disallowed_"))
            .map(|(path, _)| format!("{} relaxes the purity lints", path.display()));
        wrong.extend(relaxed);
    }
    assert!(wrong.is_empty(), "pure crates take time, randomness and I/O as arguments: {wrong:#?}");
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn files_explain_one_thing() {
    let long: Vec<_> = sources(&root())
        .into_iter()
        .map(|(path, text)| (text.lines().count(), path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "split these, at most {MAX_LINES} lines a file: {long:#?}");
}

#[test]
fn nothing_is_left_half_done() {
    // Spelled in pieces, so that this file does not find itself.
    let marks = [["to", "do!("], ["unimpl", "emented!("], ["#[ig", "nore"], ["FIX", "ME"]];
    let sleeps = [["thread::sl", "eep("], ["time::sl", "eep("]];
    let mut wrong = Vec::new();
    for (path, text) in sources(&root()) {
        let is_test = path.components().any(|c| c.as_os_str() == "tests")
            || path.file_name().is_some_and(|n| n == "tests.rs");
        for (number, line) in text.lines().enumerate() {
            let marked = marks.iter().any(|m| line.contains(&m.concat()));
            let sleeps = is_test && sleeps.iter().any(|m| line.contains(&m.concat()));
            if marked || sleeps {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "tests wait for conditions, and nothing is a stub: {wrong:#?}");
}

#[test]
fn names_are_the_fields_own() {
    let mut wrong = Vec::new();
    for (path, text) in sources(&root()) {
        for line in text.lines() {
            let words = line.trim_start().trim_start_matches("pub ").trim_start_matches("(crate) ");
            let Some((kind, name)) = words.split_once(' ') else { continue };
            let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            let vague = ["Manager", "Helper", "Util", "Utils"].iter().any(|w| name.ends_with(w));
            if ["struct", "enum", "trait", "mod"].contains(&kind) && vague {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "say what it is: {wrong:#?}");
}
