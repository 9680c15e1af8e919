//! A whole database with one changed file.

use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;

use super::changed::{
    DIR, blocks_of, change, configs, options, seal_manifest, seal_segment, sound,
};
use super::files::disk_with;
use crate::error::Error;
use crate::{Db, OnDamage};

/// Opens a database one of whose files is changed as the input says, with its checksums put right,
/// reads and compacts it. The first byte chooses the file and what is done about damage.
pub fn database(bytes: &[u8]) {
    let Some((choice, changes)) = bytes.split_first() else { return };
    let files = &sound().files;
    let (path, sound) = &files[usize::from(choice >> 1) % files.len()];
    let mut file = sound.clone();
    change(changes, &mut file);
    let name = path.extension().and_then(|extension| extension.to_str());
    match name {
        Some("log") => seal_segment(&mut file, sound),
        Some("sst") => super::changed::seal_table(&mut file, &blocks_of(sound)),
        _ => seal_manifest(&mut file, sound),
    }
    let all: Vec<(&Path, &[u8])> = files
        .iter()
        .map(|(there, bytes)| (&**there, if there == path { &*file } else { &**bytes }))
        .collect();
    let on_damage = if choice & 1 == 0 { OnDamage::Refuse } else { OnDamage::OpenAndReport };
    let options = crate::DbOptions { on_damage, ..options() };
    // A manifest may contradict the log in what it says was flushed; only reads are answered then.
    let write = name == Some("log") || name == Some("sst");
    // Whatever is told, it is told.
    let _told = open_and_read(&all, options, write);
}

fn open_and_read(
    files: &[(&Path, &[u8])],
    options: crate::DbOptions,
    write: bool,
) -> Result<(), Error> {
    let disk = disk_with(files);
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
