//! What an opening found to be lost, kept in the file `LOST` until the caller has dealt with it.
//!
//! A loss must outlive a power cut between the opening that finds it and what the caller does about
//! it: once the manifest is written without a table, nothing else knows that there was one. So the
//! file is durable before anything is changed, every opening tells what is in it, and only
//! [`Db::forget_lost`] removes it.
//!
//! A header, and one record as the manifest's (`docs/formats/lsm-lost.md`). Tags are stored: do not
//! renumber.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use meridian_vfs::{Fs, read_all};

use super::replay::LostRange;
use crate::blob;
use crate::coding::{Decoder, Malformed, put_bytes, put_varint};
use crate::db::Db;
use crate::error::Error;
use crate::key::Seqno;
use crate::table::format::{self, id_of};
use crate::version::edit::TableRecord;
use crate::version::manifest::{record, record_at};

const FILE_MAGIC: &[u8; 8] = b"MRDNLST\x01";

const RANGE: u8 = 1;
const TABLE: u8 = 2;

/// Appended to the name of a file that is to be read whole by the next opening.
const SUSPECT: &str = ".suspect";
/// Appended to the name of a file that was taken out of the database.
const DAMAGED: &str = ".damaged";

/// A table that cannot be opened and was left out: of the keys between `smallest` and `largest`,
/// what was written up to `max_seqno` may be missing, or be as it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTable {
    /// The tree's name.
    pub tree: String,
    /// The file, which is kept if there is one, see [`super::Recovery::set_aside`].
    pub file: PathBuf,
    /// The first key that it held.
    pub smallest: Bytes,
    /// The last key that it held.
    pub largest: Bytes,
    /// The newest write in it.
    pub max_seqno: Seqno,
    /// What was found.
    pub what: String,
}

impl std::fmt::Display for LostTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tree, file, smallest, largest, max_seqno, what } = self;
        write!(
            f,
            "{} is lost ({what}): of tree {tree}, keys {smallest:02x?} to {largest:02x?}, writes up \
             to {max_seqno}",
            file.display()
        )
    }
}

impl LostTable {
    pub(super) fn new(dir: &Path, tree: &str, record: &TableRecord, damage: &Error) -> Self {
        Self {
            tree: tree.to_owned(),
            file: format::path(dir, record.id),
            smallest: record.smallest.clone(),
            largest: record.largest.clone(),
            max_seqno: record.max_seqno,
            what: damage.to_string(),
        }
    }
}

/// Everything that is lost and that nobody has dealt with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) ranges: Vec<LostRange>,
    pub(super) tables: Vec<LostTable>,
}

impl Losses {
    pub(super) const fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.tables.is_empty()
    }

    /// Takes over what is not here already: an opening that was cut off before it changed anything
    /// finds the same again.
    pub(super) fn add(&mut self, other: Self) {
        for range in other.ranges {
            if !self.ranges.contains(&range) {
                self.ranges.push(range);
            }
        }
        for table in other.tables {
            if !self.tables.iter().any(|known| known.file == table.file) {
                self.tables.push(table);
            }
        }
    }

    /// What earlier openings left. A file that cannot be read says that something was lost and not
    /// what: it is told as a stretch of the log without an end, which stands for anything.
    pub(super) fn load(fs: &dyn Fs, dir: &Path) -> Result<Self, Error> {
        let file = path(dir);
        if !fs.exists(&file)? {
            return Ok(Self::default());
        }
        let bytes = read_all(fs, &file)?;
        Ok(Self::decode(dir, &bytes).unwrap_or_else(|_malformed| {
            let what = "the list of what is lost is damaged itself".to_owned();
            let range = LostRange { file, from: 0, to: 0, after: 0, before: None, what };
            Self { ranges: vec![range], tables: Vec::new() }
        }))
    }

    /// Makes them durable.
    pub(super) fn save(&self, fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
        let new = dir.join("LOST.new");
        let file = fs.create(&new)?;
        file.append(&self.encode())?;
        file.sync_data()?;
        fs.rename(&new, &path(dir))?;
        Ok(fs.sync_dir(dir)?)
    }

    fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        for LostRange { file, from, to, after, before, what } in &self.ranges {
            payload.push(RANGE);
            put_name(&mut payload, file);
            for number in [*from, *to, *after, before.unwrap_or(0)] {
                put_varint(&mut payload, number);
            }
            put_bytes(&mut payload, what.as_bytes());
        }
        for LostTable { tree, file, smallest, largest, max_seqno, what } in &self.tables {
            payload.push(TABLE);
            put_name(&mut payload, file);
            put_bytes(&mut payload, tree.as_bytes());
            put_bytes(&mut payload, smallest);
            put_bytes(&mut payload, largest);
            put_varint(&mut payload, *max_seqno);
            put_bytes(&mut payload, what.as_bytes());
        }
        let mut bytes = FILE_MAGIC.to_vec();
        bytes.extend_from_slice(&record(FILE_MAGIC.len() as u64, &payload));
        bytes
    }

    fn decode(dir: &Path, bytes: &[u8]) -> Result<Self, Malformed> {
        if !bytes.starts_with(FILE_MAGIC) {
            return Err(Malformed);
        }
        let mut losses = Self::default();
        let mut d = Decoder::new(record_at(bytes, FILE_MAGIC.len())?);
        while !d.is_empty() {
            let (kind, file) = (d.u8()?, dir.join(text(&mut d)?));
            match kind {
                RANGE => {
                    let (from, to, after, before) =
                        (d.varint()?, d.varint()?, d.varint()?, d.varint()?);
                    // No write has the number 0.
                    let before = (before > 0).then_some(before);
                    let what = text(&mut d)?;
                    losses.ranges.push(LostRange { file, from, to, after, before, what });
                }
                TABLE => losses.tables.push(LostTable {
                    file,
                    tree: text(&mut d)?,
                    smallest: Bytes::copy_from_slice(d.bytes()?),
                    largest: Bytes::copy_from_slice(d.bytes()?),
                    max_seqno: d.varint()?,
                    what: text(&mut d)?,
                }),
                _ => return Err(Malformed),
            }
        }
        Ok(losses)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("LOST")
}

fn put_name(out: &mut Vec<u8>, file: &Path) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    put_bytes(out, name.as_bytes());
}

fn text(d: &mut Decoder<'_>) -> Result<String, Malformed> {
    String::from_utf8(d.bytes()?.to_vec()).map_err(|_cause| Malformed)
}

fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn named(fs: &dyn Fs, dir: &Path, end: &str) -> Result<Vec<PathBuf>, Error> {
    let names = fs.list(dir)?;
    let is_one = |name: &&PathBuf| name.to_string_lossy().ends_with(end);
    Ok(names.iter().filter(is_one).map(|name| dir.join(name)).collect())
}

/// Gives damaged files a second name, which nothing removes but an operator. Returns all that there
/// are.
pub(super) fn set_aside(
    fs: &dyn Fs,
    dir: &Path,
    damaged: &BTreeSet<PathBuf>,
) -> Result<Vec<PathBuf>, Error> {
    let mut linked = false;
    for file in damaged {
        let aside = with_end(file, DAMAGED);
        if fs.exists(file)? && !fs.exists(&aside)? {
            fs.hard_link(file, &aside)?;
            linked = true;
        }
    }
    if linked {
        fs.sync_dir(dir)?;
    }
    named(fs, dir, DAMAGED)
}

/// The files that [`Db::suspect`] named.
pub(super) fn suspects(fs: &dyn Fs, dir: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let marks = named(fs, dir, SUSPECT)?;
    Ok(marks.iter().map(|mark| mark.with_extension("")).collect())
}

/// Every suspect was read, and what was damaged is dealt with.
pub(super) fn clear_suspects(fs: &dyn Fs, suspects: &BTreeSet<PathBuf>) -> Result<(), Error> {
    Ok(suspects.iter().try_for_each(|file| fs.remove(&with_end(file, SUSPECT)))?)
}

impl Db {
    /// The next opening with [`crate::OnDamage::OpenWithoutTables`] reads this table or blob file
    /// whole, and leaves it out if it is damaged: for callers that were told of corruption which
    /// opening does not see. Whether it is such a file; durable when it returns.
    ///
    /// # Errors
    /// The file system refuses: nothing was noted.
    pub fn suspect(&self, file: &Path) -> Result<bool, Error> {
        let core = &self.core;
        let name = file.file_name().map(PathBuf::from).unwrap_or_default();
        if id_of(&name).or_else(|| blob::format::id_of(&name)).is_none() {
            return Ok(false);
        }
        let mark = core.fs.create(&with_end(&core.dir.join(name), SUSPECT))?;
        mark.sync_data()?;
        core.fs.sync_dir(&core.dir)?;
        Ok(true)
    }

    /// What [`super::Recovery`] said to be lost was dealt with, durably: it is not told again.
    ///
    /// # Errors
    /// The file system refuses: the next opening may tell of it once more.
    pub fn forget_lost(&self) -> Result<(), Error> {
        let core = &self.core;
        if core.fs.exists(&path(&core.dir))? {
            core.fs.remove(&path(&core.dir))?;
            core.fs.sync_dir(&core.dir)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIR: &str = "/db";

    fn losses() -> Losses {
        let file = |name: &str| Path::new(DIR).join(name);
        let range = |before| LostRange {
            file: file("1.log"),
            from: 32,
            to: 300,
            after: 7,
            before,
            what: "rot".to_owned(),
        };
        let table = LostTable {
            tree: "t".to_owned(),
            file: file("0000000000000002.sst"),
            smallest: Bytes::from_static(b"a"),
            largest: Bytes::from_static(b"z\0"),
            max_seqno: 500,
            what: "gone".to_owned(),
        };
        Losses { ranges: vec![range(Some(9)), range(None)], tables: vec![table] }
    }

    #[test]
    fn golden_bytes() {
        let bytes = losses().encode();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&bytes[..8]), "4d52444e4c535401");
        assert_eq!(
            hex(record_at(&bytes, 8).unwrap()),
            "0105312e6c6f6720ac02070903726f74\
             0105312e6c6f6720ac02070003726f74\
             0214303030303030303030303030303030322e73737401740161027a00f40304676f6e65"
        );
        assert_eq!(Losses::decode(DIR.as_ref(), &bytes).unwrap(), losses());
    }

    #[test]
    fn the_same_loss_is_told_once() {
        let mut all = losses();
        all.add(losses());
        assert_eq!(all, losses());
        assert!(Losses::default().is_empty() && !all.is_empty());
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused(at in 0usize..200, bit in 0u8..8, cut in 0usize..200) {
            let sound = losses().encode();
            let mut bytes = sound.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
                prop_assert!(Losses::decode(DIR.as_ref(), &bytes).is_err());
            }
            if cut < sound.len() {
                prop_assert!(Losses::decode(DIR.as_ref(), &sound[..cut]).is_err());
            }
        }

        #[test]
        fn arbitrary_records_are_refused_or_told(payload: Vec<u8>) {
            let mut bytes = FILE_MAGIC.to_vec();
            bytes.extend_from_slice(&record(8, &payload));
            if let Ok(losses) = Losses::decode(DIR.as_ref(), &bytes) {
                prop_assert_eq!(losses.is_empty(), payload.is_empty());
            }
        }
    }
}
