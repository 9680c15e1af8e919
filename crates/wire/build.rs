//! Compiles every contract in `proto/meridian/v1` without a system protoc.
#![allow(
    clippy::disallowed_methods,
    reason = "a build script is told by Cargo's environment where to write"
)]

use std::error::Error;
use std::path::{Path, PathBuf};

use protox::prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    // Asked when it runs, not when it is compiled: a tree that was moved is compiled no more.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let contracts = root.join("meridian/v1");
    println!("cargo::rerun-if-changed={}", contracts.display());

    let mut files = Vec::new();
    for entry in std::fs::read_dir(&contracts)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    // The order of a directory is the file system's; the generated code must not depend on it.
    files.sort();

    let mut descriptors = protox::compile(&files, [&root])?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .extern_path(".meridian.v1.Frame", "crate::link::Frame")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors.clone())?;

    // Reflection shows names and numbers; comments stay in the files.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(out, descriptors.encode_to_vec())?;
    Ok(())
}
