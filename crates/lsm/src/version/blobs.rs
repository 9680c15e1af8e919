//! What becomes of blob files when one version takes the place of another.

use std::sync::Arc;

use super::edit::Change;
use super::levels::Version;
use crate::blob::reader::BlobFile;

/// The blob files that come with a new version, and those that go with the old one.
pub(crate) struct BlobChange {
    come: Vec<Arc<BlobFile>>,
    go: Vec<Arc<BlobFile>>,
}

impl BlobChange {
    pub(crate) fn between(before: &Version, after: &Version) -> Self {
        let only = |here: &Version, there: &Version| {
            let files = here.blobs().iter().filter(|(id, _)| !there.blobs().contains_key(id));
            files.map(|(_, used)| used.file.clone()).collect()
        };
        Self { come: only(after, before), go: only(before, after) }
    }

    /// `changes` of the tree, with what the manifest has to be told of the files: a file is known
    /// before a table that refers to it, and forgotten after.
    pub(crate) fn around(&self, tree: u32, changes: Vec<Change>) -> Vec<Change> {
        let come = self.come.iter().map(|file| Change::AddBlob { tree, blob: file.record });
        let go = self.go.iter().map(|file| Change::RemoveBlob { tree, blob: file.record.id });
        come.chain(changes).chain(go).collect()
    }

    /// The manifest has been told, and readers have the new version.
    pub(crate) fn done(&self) {
        self.come.iter().for_each(|file| file.mark_installed());
        self.go.iter().for_each(|file| file.mark_obsolete());
    }
}
