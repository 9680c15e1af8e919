//! Files that nobody needs any more: removed by a job, when their last reader is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::format::id_of;

#[derive(Debug, Default)]
pub(crate) struct Garbage {
    files: Mutex<Vec<PathBuf>>,
    /// Tables that are in no version and whose files may be found on the disk, now or after a power
    /// cut.
    obsolete: Mutex<BTreeSet<u64>>,
}

impl Garbage {
    pub(crate) fn take(&self) -> Vec<PathBuf> {
        std::mem::take(&mut self.files.lock())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.lock().is_empty()
    }

    pub(crate) fn put(&self, file: PathBuf) {
        if let Some(id) = table_of(&file) {
            self.obsolete(id);
        }
        self.files.lock().push(file);
    }

    /// No version has the table any more; its file goes later.
    pub(crate) fn obsolete(&self, table: u64) {
        self.obsolete.lock().insert(table);
    }

    /// These files are gone, and no power cut brings them back.
    pub(crate) fn gone(&self, files: &[PathBuf]) {
        let mut obsolete = self.obsolete.lock();
        for table in files.iter().filter_map(|file| table_of(file)) {
            obsolete.remove(&table);
        }
    }

    /// Tables that may be found and must not be taken for tables of a version.
    pub(crate) fn tables(&self) -> Vec<u64> {
        self.obsolete.lock().iter().copied().collect()
    }
}

pub(crate) fn table_of(file: &Path) -> Option<u64> {
    id_of(file.file_name()?.as_ref())
}
