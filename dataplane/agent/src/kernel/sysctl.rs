//! Switches under /proc/sys: read first, written only where they differ, remembered before they are written.

use std::io;
use std::path::Path;

use super::record::SavedSysctl;

/// What a switch is now, without its newline.
pub(super) fn read(path: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(Path::new("/proc/sys").join(path))?.trim_end().to_owned())
}

/// Writes a switch.
pub(super) fn write(path: &str, value: &str) -> io::Result<()> {
    std::fs::write(Path::new("/proc/sys").join(path), value)
}

/// What has to be saved before `path` is set to `value`; `None` when it is so already.
pub(super) fn change(path: &str, value: &str) -> io::Result<Option<SavedSysctl>> {
    let before = read(path)?;
    Ok((before != value).then(|| SavedSysctl { path: path.to_owned(), before }))
}
