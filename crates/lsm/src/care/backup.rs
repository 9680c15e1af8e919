//! Backups: the files of a checkpoint, kept by what is in them, and a list that names them.
//!
//! A repository is a directory with `files/<BLAKE3 in hex>` and `backups/<name>`. A table that some
//! earlier backup holds is not read again: tables never change, and the manifest knows the digest of
//! each. A list is text: `meridian backup 1`, a line `<digest> <bytes> <name>` for each file, and
//! `end <digest of the lines before>`.
//!
//! INVARIANT: a file has its final name only when it is durable and its digest was computed from
//! what was read; a list comes after all its files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use meridian_vfs::{Fs, read_all};

use super::inspect;
use crate::digest::digest_each;
use crate::dir::{make_empty, sync_name};
use crate::error::Error;

const FIRST_LINE: &str = "meridian backup 1";

/// What a backup or a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files of the backup.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that had to be copied: the others were there.
    pub copied_bytes: u64,
}

struct Listed {
    digest: String,
    bytes: u64,
    name: String,
}

/// Copies the checkpoint in `checkpoint` into `repository` under `name`. What earlier backups of
/// the same database hold is not copied again. The checkpoint may be removed afterwards.
///
/// # Errors
/// [`Error::InvalidArgument`] when the name is taken or no file name; [`Error::Corruption`] when a
/// table is not what the manifest says. There is no backup of that name then; others are whole.
pub fn backup(
    fs: &dyn Fs,
    checkpoint: &Path,
    repository: &Path,
    name: &str,
) -> Result<Copied, Error> {
    let (list, files) = (list_path(repository, name)?, repository.join("files"));
    for dir in [repository, &files, &repository.join("backups")] {
        fs.create_dir_all(dir)?;
    }
    let _lock = fs.lock(&repository.join("LOCK"))?;
    if fs.exists(&list)? {
        return Err(Error::invalid(format!("there is a backup {name} already")));
    }
    let manifest = inspect::manifest(fs, checkpoint)?;
    let tables = manifest.trees.iter().flat_map(|tree| &tree.tables);
    let mut known: BTreeMap<&Path, (String, u64)> =
        tables.map(|table| (&*table.file, (hex(&table.digest), table.bytes))).collect();
    let blobs = manifest.trees.iter().flat_map(|tree| &tree.blobs);
    known.extend(blobs.map(|blob| (&*blob.file, (hex(&blob.digest), blob.bytes))));
    let mut copied = Copied::default();
    let mut listed = Vec::new();
    for name in fs.list(checkpoint)?.iter().filter(|name| !name.ends_with("LOCK")) {
        let from = checkpoint.join(name);
        let expected = known.get(&*from);
        let (digest, bytes, new_bytes) = keep(fs, &from, &files, expected)?;
        copied.files += 1;
        copied.bytes += bytes;
        copied.copied_bytes += new_bytes;
        listed.push(Listed { digest, bytes, name: name.to_string_lossy().into_owned() });
    }
    fs.sync_dir(&files)?;
    write_whole(fs, &list, encode(&listed).as_bytes())?;
    Ok(copied)
}

/// Makes `dir` (absent or empty) what was backed up under `name`; every byte is compared with its
/// digest. It opens as after a crash: whoever gives a lifetime its identity begins a new one.
///
/// # Errors
/// [`Error::InvalidArgument`] when something is in `dir` or there is no such backup;
/// [`Error::Corruption`] when a file of the backup is damaged or missing. `dir` may hold files
/// then, but no database.
pub fn restore(fs: &dyn Fs, repository: &Path, name: &str, dir: &Path) -> Result<Copied, Error> {
    let list = list_path(repository, name)?;
    if !fs.exists(&list)? {
        return Err(Error::invalid(format!("there is no backup {name}")));
    }
    make_empty(fs, dir)?;
    let mut listed = decode(&read_all(fs, &list)?)
        .ok_or_else(|| Error::corruption(&list, 0, "the list of a backup is damaged"))?;
    // The manifest makes it a database: last.
    listed.sort_by_key(|file| file.name == "MANIFEST");
    let mut copied = Copied::default();
    for file in &listed {
        let from = repository.join("files").join(&file.digest);
        if !fs.exists(&from)? {
            return Err(Error::corruption(from, 0, "a file of the backup is missing"));
        }
        let to = dir.join(&file.name);
        let new = dir.join("restoring");
        let (digest, bytes) = copy(fs, &from, &new)?;
        if (&digest, bytes) != (&file.digest, file.bytes) {
            return Err(Error::corruption(from, 0, "a file of the backup is damaged"));
        }
        if file.name == "MANIFEST" {
            fs.sync_dir(dir)?;
        }
        fs.rename(&new, &to)?;
        copied.files += 1;
        copied.bytes += bytes;
        copied.copied_bytes += bytes;
    }
    fs.sync_dir(dir)?;
    sync_name(fs, dir)?;
    Ok(copied)
}

fn list_path(repository: &Path, name: &str) -> Result<PathBuf, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(Error::invalid("a backup's name has letters, digits, '-', '_' and '.' only"));
    }
    Ok(repository.join("backups").join(name))
}

/// Keeps a file by its digest; returns that, its bytes, and how many were copied.
fn keep(
    fs: &dyn Fs,
    from: &Path,
    files: &Path,
    expected: Option<&(String, u64)>,
) -> Result<(String, u64, u64), Error> {
    if let Some((digest, bytes)) = expected {
        let there = files.join(digest);
        if fs.exists(&there)? && fs.open(&there)?.len()? == *bytes {
            return Ok((digest.clone(), *bytes, 0));
        }
    }
    let new = files.join("incoming");
    let (digest, bytes) = copy(fs, from, &new)?;
    match expected {
        Some(expected) if *expected != (digest.clone(), bytes) => {
            return Err(Error::corruption(from, 0, "the table is not what the manifest says"));
        }
        // Nobody knows what the log and the manifest should be: a disk that lied once is caught by
        // asking twice.
        None if read(fs, from, &mut |_piece| Ok(()))?.0 != digest => {
            return Err(Error::corruption(from, 0, "read twice, it was not the same"));
        }
        _ => {}
    }
    fs.rename(&new, &files.join(&digest))?;
    Ok((digest, bytes, bytes))
}

/// Copies a file durably (but for its name); returns its digest and its bytes.
fn copy(fs: &dyn Fs, from: &Path, to: &Path) -> Result<(String, u64), Error> {
    let target = fs.create(to)?;
    let read = read(fs, from, &mut |piece| Ok(target.append(piece)?))?;
    target.sync_data()?;
    Ok(read)
}

/// Reads a file in pieces; returns its digest and its bytes.
fn read(
    fs: &dyn Fs,
    from: &Path,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(String, u64), Error> {
    let (digest, bytes) = digest_each(&*fs.open(from)?, each)?;
    Ok((digest.to_hex().to_string(), bytes))
}

fn write_whole(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_file_name(".new");
    let file = fs.create(&new)?;
    file.append(bytes)?;
    file.sync_data()?;
    fs.rename(&new, path)?;
    Ok(path.parent().map_or(Ok(()), |dir| fs.sync_dir(dir))?)
}

fn hex(digest: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}

fn encode(files: &[Listed]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for Listed { digest, bytes, name } in files {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{digest} {bytes} {name}");
    }
    let end = blake3::hash(text.as_bytes()).to_hex();
    let _ = writeln!(text, "end {end}");
    text
}

/// `None`: it is not what was written.
fn decode(bytes: &[u8]) -> Option<Vec<Listed>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (lines, end) = text.rsplit_once("end ")?;
    if end.trim_end() != blake3::hash(lines.as_bytes()).to_hex().as_str() {
        return None;
    }
    let mut lines = lines.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let file = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let (digest, bytes, name) = (parts.next()?, parts.next()?, parts.next()?);
        let plain = !digest.contains(['/', '.']) && !name.contains('/') && !name.starts_with("..");
        let bytes = bytes.parse().ok().filter(|_bytes| plain)?;
        Some(Listed { digest: digest.to_owned(), bytes, name: name.to_owned() })
    };
    lines.map(file).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let file = Listed { digest: "ab".repeat(32), bytes: 7, name: "MANIFEST".to_owned() };
        let text = encode(&[file]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "meridian backup 1");
        assert_eq!(lines[1], format!("{} 7 MANIFEST", "ab".repeat(32)));
        assert!(lines[2].starts_with("end ") && lines.len() == 3);
        let again = decode(text.as_bytes()).unwrap();
        assert!(again.len() == 1 && again[0].bytes == 7 && again[0].name == "MANIFEST");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, at in 0usize..90, flip in 1u8..) {
            let _any = decode(&bytes);
            let mut text = encode(&[]).into_bytes();
            let at = at % (text.len() - 1);
            text[at] ^= flip;
            prop_assert!(decode(&text).is_none());
        }
    }
}
