//! Replaces a file as a whole: readers see the old content or the new, never a part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes `bytes` beside `path` (`path` with `.new` appended) and renames it over `path`. Mode 0600.
///
/// # Errors
/// What writing or renaming gives; `path` is then as before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    create(Path::new(&name))?.write_all(bytes)?;
    fs::rename(&name, path)
}

/// A new, empty file that only its owner may read.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
