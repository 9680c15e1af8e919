//! The manifest file: a snapshot of the state and the edits since, each checksummed.
//!
//! INVARIANT: an edit is durable before the next one is appended, and before anything that relies
//! on it is done (a file removed, a tree written to). So only the last record can be torn, and a
//! whole record behind a damaged one proves damage. The first record is the snapshot that came
//! with the rename: it is never torn.
//!
//! Behind each durable edit stands a witness of it: a record of no change, which the next sync makes
//! durable, or the operating system before. So rot in the last edit is told from a torn one, unless
//! a power cut took the witness. Nothing hangs on a witness that is not whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_vfs::{File, Fs, IoError, Op, read_all};

use super::edit::{self, Change};
use super::state::State;
use crate::coding::{Decoder, Malformed, crc32c};
use crate::error::Error;

const FILE_MAGIC: &[u8; 7] = b"MRDNMAN";
const VERSION: u8 = 3;
/// The oldest version that is read; every open writes the file anew.
const OLDEST_VERSION: u8 = 1;
const FILE_HEADER: usize = 8;
pub(crate) const RECORD_MAGIC: [u8; 4] = *b"\xa7me\x1e";
pub(crate) const RECORD_HEADER: usize = 24;
/// The file is written anew when its edits outgrow this many times its snapshot, plus
/// [`REWRITE_SLACK`].
const REWRITE_FACTOR: u64 = 4;
const REWRITE_SLACK: u64 = 256 << 10;

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("MANIFEST")
}

fn new_path(dir: &Path) -> PathBuf {
    dir.join("MANIFEST.new")
}

/// The open manifest.
pub(crate) struct Manifest {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    file: Arc<dyn File>,
    offset: u64,
    snapshot_bytes: u64,
    state: State,
    /// A record found no room: behind `offset` are bytes of it, and the next edit begins a new file.
    spoilt: bool,
}

/// What reading a manifest gave.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// Bytes of a torn last record that were cut.
    pub(crate) torn: u64,
}

impl Manifest {
    /// Reads the manifest in `dir`; `None` if there is none.
    pub(crate) fn load(fs: &dyn Fs, dir: &Path) -> Result<Option<Loaded>, Error> {
        let path = path(dir);
        if !fs.exists(&path)? {
            return Ok(None);
        }
        decode_file(&path, &read_all(fs, &path)?).map(Some)
    }

    /// Writes `state` as a fresh manifest and puts it in place.
    pub(crate) fn write(fs: Arc<dyn Fs>, dir: &Path, state: State) -> Result<Self, Error> {
        let mut bytes = file_header().to_vec();
        bytes.extend_from_slice(&record(bytes.len() as u64, &edit::encode(&state.snapshot())));
        let new = new_path(dir);
        let file = fs.create(&new)?;
        file.append(&bytes)?;
        file.sync_data()?;
        fs.rename(&new, &path(dir))?;
        fs.sync_dir(dir)?;
        // The handle follows the file through the rename.
        let offset = bytes.len() as u64;
        let dir = dir.to_path_buf();
        Ok(Self { fs, dir, file, offset, snapshot_bytes: offset, state, spoilt: false })
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn path(&self) -> PathBuf {
        path(&self.dir)
    }

    /// Makes `changes` durable as one. After an error that is not [`Error::Full`] the database
    /// must be poisoned.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        if self.spoilt {
            self.rewrite()?;
        }
        for change in changes {
            self.state.apply(change).map_err(|what| {
                Error::invalid(format!("an edit contradicts the manifest: {what}"))
            })?;
        }
        let bytes = record(self.offset, &edit::encode(changes));
        match self.file.append(&bytes) {
            Err(cause) if cause.is_disk_full() => return Err(self.undo(&cause)),
            appended => appended?,
        }
        self.file.sync_data()?;
        self.offset += bytes.len() as u64;
        self.bear_witness()?;
        if self.offset > self.snapshot_bytes * REWRITE_FACTOR + REWRITE_SLACK {
            match self.rewrite() {
                // The edit is durable where it is.
                Err(Error::Full { .. }) => {}
                written => written?,
            }
        }
        Ok(())
    }

    /// Notes behind a durable edit that it is. Whatever the disk makes of that, the edit stands.
    fn bear_witness(&mut self) -> Result<(), Error> {
        let witness = record(self.offset, &[]);
        match self.file.append(&witness) {
            Err(cause) if cause.is_disk_full() => self.spoilt = true,
            appended => {
                appended?;
                self.offset += witness.len() as u64;
            }
        }
        Ok(())
    }

    /// Puts a fresh file in place. With [`Error::Full`] the old one is there as it was.
    fn rewrite(&mut self) -> Result<(), Error> {
        let state = self.state.clone();
        match Self::write(self.fs.clone(), &self.dir, state) {
            Ok(fresh) => *self = fresh,
            Err(Error::Io(cause)) if cause.is_disk_full() && cause.op() == Op::Append => {
                return Err(Error::Full { file: self.path(), cause: cause.to_string() });
            }
            Err(cause) => return Err(cause),
        }
        Ok(())
    }

    /// The last edit found no room: the state is again what the file says.
    fn undo(&mut self, cause: &IoError) -> Error {
        match Self::load(&*self.fs, &self.dir) {
            Ok(Some(loaded)) => {
                self.state = loaded.state;
                self.spoilt = true;
                Error::Full { file: self.path(), cause: cause.to_string() }
            }
            Ok(None) => Error::corruption(self.path(), 0, "the manifest is gone"),
            Err(unreadable) => unreadable,
        }
    }
}

fn file_header() -> [u8; FILE_HEADER] {
    let mut header = [VERSION; FILE_HEADER];
    header[..7].copy_from_slice(FILE_MAGIC);
    header
}

/// Record header: magic (4), payload length (4), own offset (8), payload CRC-32C (4), CRC-32C of
/// the 20 bytes before it (4).
pub(crate) fn record(offset: u64, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a manifest record is far below 4 GiB");
    let mut out = Vec::with_capacity(RECORD_HEADER + payload.len());
    out.extend_from_slice(&RECORD_MAGIC);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&crc32c(payload).to_le_bytes());
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// The record that begins at `at`, if a whole one does: its payload.
pub(crate) fn record_at(bytes: &[u8], at: usize) -> Result<&[u8], Malformed> {
    let mut decoder = Decoder::new(bytes.get(at..).ok_or(Malformed)?);
    let head = decoder.take(RECORD_HEADER - 4)?;
    if crc32c(head) != decoder.u32()? || head[..4] != RECORD_MAGIC {
        return Err(Malformed);
    }
    let mut fields = Decoder::new(&head[4..]);
    let len = usize::try_from(fields.u32()?).map_err(|_cause| Malformed)?;
    if fields.u64()? != at as u64 {
        return Err(Malformed);
    }
    let crc = fields.u32()?;
    let payload = decoder.take(len)?;
    if crc32c(payload) == crc { Ok(payload) } else { Err(Malformed) }
}

/// Whether a whole record begins anywhere behind `at`.
fn record_after(bytes: &[u8], at: usize) -> Option<usize> {
    // A witness is a header and no more.
    let starts = (at + 1)..(bytes.len() + 1).saturating_sub(RECORD_HEADER);
    starts
        .filter(|start| bytes[*start..*start + 4] == RECORD_MAGIC)
        .find(|start| record_at(bytes, *start).is_ok())
}

pub(crate) fn decode_file(path: &Path, bytes: &[u8]) -> Result<Loaded, Error> {
    let corrupt = |offset: usize, what: String| Error::corruption(path, offset as u64, what);
    match bytes.get(..FILE_HEADER) {
        Some(header)
            if header[..7] == *FILE_MAGIC && (OLDEST_VERSION..=VERSION).contains(&header[7]) => {}
        Some(header) if header[..7] == *FILE_MAGIC => {
            return Err(corrupt(0, format!("version {} is not known", header[7])));
        }
        _ => return Err(corrupt(0, "this is no manifest".to_owned())),
    }
    let mut state = State::default();
    let mut at = FILE_HEADER;
    while at < bytes.len() || at == FILE_HEADER {
        let Ok(payload) = record_at(bytes, at) else {
            if at == FILE_HEADER {
                return Err(corrupt(at, "the snapshot record is damaged".to_owned()));
            }
            // Only a witness is so short. A power cut may take it and leave the edit behind it: the
            // sync that was to make both durable did not end.
            if record_at(bytes, at + RECORD_HEADER).is_ok() {
                at += RECORD_HEADER;
                continue;
            }
            if let Some(later) = record_after(bytes, at) {
                let what = format!("a record is damaged; the one at {later} came after it");
                return Err(corrupt(at, what));
            }
            break;
        };
        let changes = edit::decode(payload)
            .map_err(|_malformed| corrupt(at, "a record cannot be decoded".to_owned()))?;
        for change in &changes {
            state.apply(change).map_err(|what| corrupt(at, what))?;
        }
        at += RECORD_HEADER + payload.len();
    }
    Ok(Loaded { state, torn: (bytes.len() - at) as u64 })
}
