//! Directories that become databases.

use std::path::Path;

use meridian_vfs::Fs;

use crate::error::Error;

/// Makes `dir` if it is not there, and refuses one that holds a file.
pub(crate) fn make_empty(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    fs.create_dir_all(dir)?;
    match fs.list(dir)?.first() {
        Some(name) => Err(Error::invalid(format!("{} is in the way", dir.join(name).display()))),
        None => Ok(()),
    }
}

/// Makes the name of `dir` durable.
pub(crate) fn sync_name(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => Ok(fs.sync_dir(parent)?),
        None => Ok(()),
    }
}
