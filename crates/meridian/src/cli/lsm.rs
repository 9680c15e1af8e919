//! `meridian lsm`: looks into the files of the storage engine, without a node.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use meridian_lsm::RepairReport;
use meridian_lsm::inspect::{self, BlobInfo, TableInfo, TreeInfo, WalItem};
use meridian_vfs::StdFs;
use serde_json::{Value, json};

use super::output::{Failure, Output, table};

#[derive(Debug, Args)]
pub(super) struct LsmArgs {
    #[command(subcommand)]
    command: LsmCommand,
}

#[derive(Debug, Subcommand)]
enum LsmCommand {
    /// Prints a segment of the log: its chunks and batches, and where it cannot be read.
    Wal {
        /// The segment, `wal-<id>.log`.
        file: PathBuf,
        /// Every operation as well.
        #[arg(long)]
        entries: bool,
    },
    /// Prints what the manifest says of a table, after comparing every checksum.
    Table {
        /// The table, `<id>.sst`, beside its manifest.
        file: PathBuf,
        /// Every version in it as well.
        #[arg(long)]
        entries: bool,
    },
    /// Prints the size of a blob file, after comparing every checksum.
    Blob {
        /// The blob file, `<id>.blob`.
        file: PathBuf,
        /// Every value in it as well: where it is, whose, and how large.
        #[arg(long)]
        entries: bool,
    },
    /// Prints the trees and their settings, and what of the log is needed.
    Manifest {
        /// The engine's directory.
        dir: PathBuf,
    },
    /// Prints the tables of every level, and the blob files.
    Levels {
        /// The engine's directory.
        dir: PathBuf,
    },
    /// Reads every file of a database that is not running and compares it with its checksums.
    Verify {
        /// The engine's directory.
        dir: PathBuf,
    },
    /// Writes a lost or damaged manifest anew from the tables and the log, or says how it would.
    Repair {
        /// The engine's directory.
        dir: PathBuf,
        /// Do it. Without this nothing is changed.
        #[arg(long)]
        apply: bool,
    },
}

pub(super) fn run(args: &LsmArgs, output: Output) -> Result<(), Failure> {
    match &args.command {
        LsmCommand::Wal { file, entries } => wal(file, *entries, output),
        LsmCommand::Table { file, entries } => one_table(file, *entries, output),
        LsmCommand::Blob { file, entries } => one_blob(file, *entries, output),
        LsmCommand::Manifest { dir } => manifest(dir, output),
        LsmCommand::Levels { dir } => levels(dir, output),
        LsmCommand::Verify { dir } => verify(dir, output),
        LsmCommand::Repair { dir, apply } => repair(dir, *apply, output),
    }
}

fn failure(cause: meridian_lsm::Error) -> Failure {
    Failure::Other(cause.into())
}

/// Keys are bytes: text where they are, escaped where not.
fn shown(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// Prints until it fails, which happens when whoever reads the answer leaves.
struct Lines {
    output: Output,
    failed: Option<Failure>,
}

impl Lines {
    fn say(&mut self, program: &Value, person: &str) {
        if self.failed.is_none() {
            self.failed = self.output.answer(program, person).err();
        }
    }

    fn end(self) -> Result<(), Failure> {
        self.failed.map_or(Ok(()), Err)
    }
}

/// One line a thing, as JSON as well: a segment may hold a gigabyte.
fn wal(file: &Path, entries: bool, output: Output) -> Result<(), Failure> {
    let mut lines = Lines { output, failed: None };
    let info = inspect::wal(&StdFs, file, entries, &mut |item| {
        let (program, person) = wal_item(&item);
        lines.say(&program, &person);
    });
    let info = info.map_err(failure)?;
    let before = match info.previous_len {
        Some(bytes) => format!("{bytes} bytes of the segment before belong to the log"),
        None => "its header cannot be read".to_owned(),
    };
    lines.say(
        &json!({ "segment": info.segment, "bytes": info.bytes, "previous_len": info.previous_len }),
        &format!("segment {} of {} bytes; {before}", info.segment, info.bytes),
    );
    lines.end()
}

fn wal_item(item: &WalItem) -> (Value, String) {
    match item {
        WalItem::Chunk { offset, bytes, durable, batches } => {
            let mut text = format!("{offset:>10}  chunk of {bytes} bytes, durable to {durable}:");
            for (first, count) in batches {
                // Writing to a string cannot fail.
                let _ = write!(text, " {first}+{count}");
            }
            let batches: Vec<_> = batches
                .iter()
                .map(|(first, count)| json!({ "first": first, "operations": count }))
                .collect();
            let (kind, at) = ("chunk", offset);
            (
                json!({
                    "kind": kind, "offset": at, "bytes": bytes, "durable": durable,
                    "batches": batches
                }),
                text,
            )
        }
        WalItem::Operation { seqno, kind, tree, key, value_bytes } => (
            json!({
                "kind": kind, "seqno": seqno, "tree": tree, "key_base64": STANDARD.encode(key),
                "value_bytes": value_bytes
            }),
            format!("{:>10}  {seqno} {kind} tree {tree} {} ({value_bytes} bytes)", "", shown(key)),
        ),
        WalItem::Closed { offset } => {
            (json!({ "kind": "closed", "offset": offset }), format!("{offset:>10}  closed"))
        }
        WalItem::Unreadable { from, to } => (
            json!({ "kind": "unreadable", "from": from, "to": to }),
            format!("{from:>10}  unreadable to {to}"),
        ),
    }
}

fn table_json(info: &TableInfo) -> Value {
    let digest: String = info.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "file": info.file, "tree": info.tree, "level": info.level, "bytes": info.bytes,
        "blake3": digest, "smallest_base64": STANDARD.encode(&info.smallest),
        "largest_base64": STANDARD.encode(&info.largest), "min_seqno": info.min_seqno,
        "max_seqno": info.max_seqno, "entries": info.entries, "deletes": info.deletes,
    })
}

fn one_table(file: &Path, entries: bool, output: Output) -> Result<(), Failure> {
    let mut lines = Lines { output, failed: None };
    let info = inspect::table(&StdFs, file, &mut |entry| {
        if entries {
            let (key, kind, bytes) = (shown(&entry.key), entry.kind, entry.value_bytes);
            lines.say(
                &json!({
                    "key_base64": STANDARD.encode(&entry.key), "seqno": entry.seqno, "kind": kind,
                    "value_bytes": bytes
                }),
                &format!("{key} @ {} {kind} ({bytes} bytes)", entry.seqno),
            );
        }
    });
    let info = info.map_err(failure)?;
    let person = format!(
        "{}: tree {}, level {}, {} bytes, {} versions ({} deletes) of {} to {}, writes {} to {}; \
         every checksum holds",
        info.file.display(),
        info.tree,
        info.level,
        info.bytes,
        info.entries,
        info.deletes,
        shown(&info.smallest),
        shown(&info.largest),
        info.min_seqno,
        info.max_seqno
    );
    lines.say(&table_json(&info), &person);
    lines.end()
}

fn one_blob(file: &Path, entries: bool, output: Output) -> Result<(), Failure> {
    let mut lines = Lines { output, failed: None };
    let (mut values, mut bytes, mut stored) = (0u64, 0u64, 0u64);
    let read = inspect::blob(&StdFs, file, &mut |entry| {
        values += 1;
        bytes += entry.value_bytes as u64;
        stored += entry.stored_bytes as u64;
        if entries {
            lines.say(
                &json!({
                    "offset": entry.offset, "key_base64": STANDARD.encode(&entry.key),
                    "value_bytes": entry.value_bytes, "stored_bytes": entry.stored_bytes
                }),
                &format!(
                    "{:>10}  {} ({} bytes, stored as {})",
                    entry.offset,
                    shown(&entry.key),
                    entry.value_bytes,
                    entry.stored_bytes
                ),
            );
        }
    });
    read.map_err(failure)?;
    let name = file.display();
    lines.say(
        &json!({
            "file": file, "values": values, "value_bytes": bytes, "stored_bytes": stored
        }),
        &format!(
            "{name}: {values} values, {bytes} bytes, stored as {stored}; every checksum holds"
        ),
    );
    lines.end()
}

fn blob_json(tree: &str, info: &BlobInfo) -> Value {
    json!({
        "file": info.file, "tree": tree, "bytes": info.bytes, "live_bytes": info.live_bytes,
    })
}

fn manifest(dir: &Path, output: Output) -> Result<(), Failure> {
    let found = inspect::manifest(&StdFs, dir).map_err(failure)?;
    if output.json {
        let trees: Vec<_> = found
            .trees
            .iter()
            .map(|tree| {
                json!({
                    "id": tree.id, "name": tree.config.name, "merge": tree.merge,
                    "flushed": tree.flushed, "tables": tree.tables.len(),
                    "compression": format!("{:?}", tree.config.compression),
                    "bottom_compression":
                        tree.config.bottom_compression.map(|bottom| format!("{bottom:?}")),
                    "blobs": tree.config.blobs.map(|blobs| json!({
                        "threshold": blobs.threshold,
                        "garbage_percent": blobs.garbage_percent,
                        "oldest_percent": blobs.oldest_percent,
                    })),
                    "compaction": format!("{:?}", tree.config.compaction),
                    "block_bytes": tree.config.block_bytes,
                    "memtable_bytes": tree.config.memtable_bytes,
                    "bloom_bits_per_key": tree.config.bloom_bits_per_key,
                })
            })
            .collect();
        return output.line(json!({
            "file": found.file, "trees": trees, "wal_floor": found.wal_floor,
            "torn_bytes": found.torn_bytes,
            "closed": found.closed.map(|(segment, bytes)| json!({
                "segment": segment, "bytes": bytes
            })),
        }));
    }
    let mut listing = table(["id", "tree", "merge", "tables", "flushed", "settings"]);
    for tree in &found.trees {
        let settings = format!("{:?}, {:?}", tree.config.compression, tree.config.compaction);
        listing.add_row([
            tree.id.to_string(),
            tree.config.name.clone(),
            tree.merge.clone(),
            tree.tables.len().to_string(),
            tree.flushed.to_string(),
            settings,
        ]);
    }
    output.line(listing)?;
    let closed = match found.closed {
        Some((segment, bytes)) => format!("closed in order at segment {segment}, {bytes} bytes"),
        None => "running, or not closed in order".to_owned(),
    };
    output.line(format_args!(
        "the log is needed from segment {}; {closed}; {} torn bytes",
        found.wal_floor, found.torn_bytes
    ))
}

fn levels(dir: &Path, output: Output) -> Result<(), Failure> {
    let found = inspect::manifest(&StdFs, dir).map_err(failure)?;
    let tables = found.trees.iter().flat_map(|tree| &tree.tables);
    if output.json {
        let tables: Vec<_> = tables.map(table_json).collect();
        let of_tree = |tree: &TreeInfo| -> Vec<Value> {
            tree.blobs.iter().map(|info| blob_json(&tree.config.name, info)).collect()
        };
        let blobs: Vec<_> = found.trees.iter().flat_map(of_tree).collect();
        return output.line(json!({ "tables": tables, "blobs": blobs }));
    }
    let mut listing = table(["tree", "level", "table", "bytes", "versions", "from", "to"]);
    for info in tables {
        let name = info.file.file_name().map(|name| name.to_string_lossy().into_owned());
        listing.add_row([
            info.tree.clone(),
            info.level.to_string(),
            name.unwrap_or_default(),
            info.bytes.to_string(),
            info.entries.to_string(),
            shown(&info.smallest),
            shown(&info.largest),
        ]);
    }
    output.line(listing)?;
    if found.trees.iter().all(|tree| tree.blobs.is_empty()) {
        return Ok(());
    }
    let mut listing = table(["tree", "blob file", "bytes", "live"]);
    for tree in &found.trees {
        for info in &tree.blobs {
            let name = info.file.file_name().map(|name| name.to_string_lossy().into_owned());
            listing.add_row([
                tree.config.name.clone(),
                name.unwrap_or_default(),
                info.bytes.to_string(),
                info.live_bytes.to_string(),
            ]);
        }
    }
    output.line(listing)
}

fn verify(dir: &Path, output: Output) -> Result<(), Failure> {
    let (mut files, mut bytes) = (0u64, 0u64);
    let outcome = inspect::verify(&StdFs, dir, &mut |file, read| {
        output.note(format_args!("{} is sound", file.display()));
        files += 1;
        bytes += read;
    });
    outcome.map_err(failure)?;
    output.answer(
        &json!({ "sound": true, "files": files, "bytes": bytes }),
        format_args!("{files} files, {bytes} bytes: all sound"),
    )
}

fn repair(dir: &Path, apply: bool, output: Output) -> Result<(), Failure> {
    let report = meridian_lsm::repair(Arc::new(StdFs), dir, &[], apply).map_err(failure)?;
    let trees: Vec<_> = report
        .trees
        .iter()
        .map(|tree| {
            json!({
                "id": tree.id, "name": tree.name, "tables": tree.tables, "entries": tree.entries,
                "merged": tree.merged, "doubtful": tree.doubtful
            })
        })
        .collect();
    let aside: Vec<_> = report
        .set_aside
        .iter()
        .map(|aside| json!({ "file": aside.file, "why": aside.why }))
        .collect();
    output.answer(
        &json!({
            "manifest": report.manifest, "trees_known": report.trees_known, "trees": trees,
            "set_aside": aside, "replaced": report.replaced, "missing": report.missing,
            "unknown_trees": report.unknown_trees, "lost_writes": report.lost_writes,
            "unknown_operators": report.unknown_operators, "complete": report.is_complete(),
            "applied": report.applied,
        }),
        told(&report),
    )
}

fn told(report: &RepairReport) -> String {
    let mut lines = vec![match &report.manifest {
        Some(what) => format!("manifest: {what}"),
        None => "manifest: sound".to_owned(),
    }];
    if !report.trees_known {
        lines.push("the list of trees is lost: only tables tell of them".to_owned());
    }
    for tree in &report.trees {
        let note = match (tree.doubtful, tree.merged) {
            (true, _) => ", all of them: it cannot be told which count",
            (false, true) => ", to be merged into one run",
            (false, false) => "",
        };
        let (name, tables, entries) = (&tree.name, tree.tables, tree.entries);
        lines.push(format!("tree {name}: {tables} tables, {entries} versions{note}"));
    }
    let aside = report.set_aside.iter();
    lines.extend(aside.map(|aside| format!("set aside {}: {}", aside.file.display(), aside.why)));
    lines.extend(report.missing.iter().map(|file| format!("missing {}", file.display())));
    if let Some((after, before)) = report.lost_writes {
        lines.push(format!("lost: writes after {after} and before {before}"));
    }
    let unknown = report.unknown_trees.iter();
    lines.extend(unknown.map(|tree| format!("lost: what the log has of tree {tree}")));
    let operators = report.unknown_operators.iter();
    lines.extend(operators.map(|tree| format!("tree {tree}: its settings are not known")));
    let complete = if report.is_complete() { "nothing is lost" } else { "data may be missing" };
    lines.push(
        match (report.applied, &report.manifest, report.set_aside.len(), report.missing.len()) {
            (true, ..) => format!("repaired; {complete}"),
            (false, None, 0, 0) => "there is nothing to repair".to_owned(),
            (false, ..) => format!("{complete}; nothing was changed: --apply does it"),
        },
    );
    lines.join("\n")
}
