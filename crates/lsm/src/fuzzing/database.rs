//! A whole database with one changed file.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_vfs::Fs;

use super::changed::{
    DIR, blocks_of, change, configs, options, seal_manifest, seal_segment, seal_table, sound,
};
use super::files::disk_with;
use crate::error::Error;
use crate::{Db, OnDamage};

/// The sound database with one file changed as the input says; the first byte chooses it. Where the
/// file's kind is known its checksums are put right.
fn changed(choice: u8, changes: &[u8]) -> (&'static Path, Vec<u8>) {
    let files = &sound().files;
    let (path, sound) = &files[usize::from(choice >> 1) % files.len()];
    let mut file = sound.clone();
    change(changes, &mut file);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("log") => seal_segment(&mut file, sound),
        Some("sst") => seal_table(&mut file, &blocks_of(sound)),
        Some(_) => {}
        None => seal_manifest(&mut file, sound),
    }
    (path, file)
}

fn with<'a>(path: &Path, file: &'a [u8]) -> Vec<(&'a Path, &'a [u8])> {
    let each = sound().files.iter();
    each.map(|(there, bytes)| (&**there, if there == path { file } else { &**bytes })).collect()
}

/// Opens a database with a changed file, reads and compacts it. The last bit of the first byte says
/// what is done about damage.
pub fn database(bytes: &[u8]) {
    let Some((choice, changes)) = bytes.split_first() else { return };
    let (path, file) = changed(*choice, changes);
    let on_damage = if choice & 1 == 0 { OnDamage::Refuse } else { OnDamage::OpenAndReport };
    let options = crate::DbOptions { on_damage, ..options() };
    // A manifest may contradict the log in what it says was flushed; only reads are answered then.
    let write = path.extension().is_some();
    // Whatever is told, it is told.
    let _told = open_and_read(disk_with(&with(path, &file)), options, write);
}

/// Repairs a database with a changed file and, if the first byte is odd, without its manifest; then
/// reads it.
pub fn repaired(bytes: &[u8]) {
    let Some((choice, changes)) = bytes.split_first() else { return };
    let (path, file) = changed(*choice, changes);
    let mut files = with(path, &file);
    if choice & 1 == 1 {
        files.retain(|(there, _)| !there.ends_with("MANIFEST"));
    }
    let disk = disk_with(&files);
    for apply in [false, true] {
        if crate::repair(disk.clone(), DIR.as_ref(), &configs(), apply).is_err() {
            return;
        }
    }
    let options = crate::DbOptions { on_damage: OnDamage::OpenAndReport, ..options() };
    let _told = open_and_read(disk, options, false);
}

fn open_and_read(disk: Arc<dyn Fs>, options: crate::DbOptions, write: bool) -> Result<(), Error> {
    let (db, _) = Db::open(disk, DIR.as_ref(), options, configs())?;
    let everything = || (Bound::Unbounded, Bound::<Bytes>::Unbounded);
    for name in ["a", "b"] {
        let tree = db.tree(name).expect("it is in the configuration");
        let at = db.snapshot();
        for found in tree.scan(everything(), &at).chain(tree.scan_rev(everything(), &at)) {
            found?;
        }
        tree.get_latest(b"key-\x01\x01")?;
    }
    if !write {
        return Ok(());
    }
    let mut batch = crate::WriteBatch::new();
    batch.put(&db.tree("a").expect("it is in the configuration"), "k", "v");
    db.write(batch)?;
    db.flush()?;
    // Each job makes less of what is to be done.
    for _ in 0..50 {
        if !db.poll_job()? {
            break;
        }
    }
    let _figures = db.stats();
    db.close()
}
