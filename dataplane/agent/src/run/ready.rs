//! Tells others whether everything is programmed: a file that is there exactly then, and /readyz.

use std::path::{Path, PathBuf};

/// Where it is told.
pub(super) struct Ready {
    file: Option<PathBuf>,
}

impl Ready {
    /// Not yet; a file of an earlier run would lie.
    pub(super) fn not_yet(file: Option<&Path>) -> Self {
        let ready = Self { file: file.map(Path::to_owned) };
        ready.set(false);
        ready
    }

    /// It is so, or not.
    pub(super) fn set(&self, ready: bool) {
        let Some(file) = &self.file else { return };
        if !ready {
            let _ = std::fs::remove_file(file);
        } else if let Err(error) = std::fs::write(file, b"") {
            tracing::error!("--ready-file {} cannot be written: {error}", file.display());
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.set(false);
    }
}
