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

/// The same for what outlives a boot: it is on the disk when this returns. What is there already is not written again, since that may
/// take the disk a while.
///
/// # Errors
/// As `write_whole`.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = create(Path::new(&name))?;
    file.write_all(bytes)?;
    // Before the name leads to it; then the name.
    file.sync_all()?;
    fs::rename(&name, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

/// A new, empty file that only its owner may read.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_outlives_a_boot_is_replaced_as_a_whole_and_not_written_again_where_it_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let written = |bytes: &[u8]| {
            write_durably(&path, bytes).unwrap();
            let found = fs::metadata(&path).unwrap();
            (fs::read(&path).unwrap(), found.mode() & 0o777, found.ino())
        };
        let first = written(b"one");
        assert_eq!((&first.0[..], first.1), (&b"one"[..], 0o600));
        assert_eq!(written(b"one"), first);
        // The old one is kept open, so that its number is not given out again.
        let _old = File::open(&path).unwrap();
        let second = written(b"two");
        assert_eq!((&second.0[..], second.1, second.2 == first.2), (&b"two"[..], 0o600, false));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
