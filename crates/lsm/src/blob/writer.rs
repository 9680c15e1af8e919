//! Writing a blob file, front to back; hashed as it goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_vfs::{File, Fs};

use super::format::{BlobRecord, HEADER, RECORD_HEADER, Reference, header, path, seal};
use crate::error::Error;
use crate::options::Compression;
use crate::table::compress;

/// Bytes gathered before they are written and hashed: large enough for both to be efficient.
const WRITE_BYTES: usize = 256 << 10;

pub(crate) struct BlobWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    id: u64,
    compression: Compression,
    hasher: blake3::Hasher,
    out: Vec<u8>,
    /// The file's length once `out` is written.
    offset: u64,
    /// What of it is durable.
    synced: u64,
}

impl BlobWriter {
    pub(crate) fn create(
        fs: &dyn Fs,
        dir: &Path,
        id: u64,
        compression: Compression,
    ) -> Result<Self, Error> {
        let path = path(dir, id);
        let file = fs.create(&path)?;
        Ok(Self {
            file,
            path,
            id,
            compression,
            hasher: blake3::Hasher::new(),
            out: header().to_vec(),
            offset: HEADER as u64,
            synced: 0,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file so far.
    pub(crate) const fn bytes(&self) -> u64 {
        self.offset
    }

    /// Adds a value; says where it lies.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<Reference, Error> {
        let start = self.out.len();
        self.out.resize(start + RECORD_HEADER, 0);
        self.out.extend_from_slice(key);
        let code = compress::compress(self.compression, value, &mut self.out);
        let of = |bytes: &[u8]| u32::try_from(bytes.len()).expect("keys and values are bounded");
        let (key_len, value_len) = (of(key), of(value));
        seal(&mut self.out[start..], self.offset, code, key_len, value_len);
        let len = of(&self.out[start..]);
        let reference = Reference { file: self.id, offset: self.offset, len, value_len };
        self.offset += u64::from(len);
        if self.out.len() >= WRITE_BYTES {
            self.write_out()?;
        }
        Ok(reference)
    }

    fn write_out(&mut self) -> Result<(), Error> {
        self.hasher.update(&self.out);
        self.file.append(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Makes everything so far durable (its name is the caller's to make durable).
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if self.synced < self.offset {
            self.write_out()?;
            self.file.sync_data()?;
            self.synced = self.offset;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<BlobRecord, Error> {
        self.sync()?;
        let digest = *self.hasher.finalize().as_bytes();
        Ok(BlobRecord { id: self.id, bytes: self.offset, digest })
    }
}
