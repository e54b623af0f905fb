//! Tells when something in the manifests' directory has changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A notification a change, as long as the returned value lives.
pub(super) struct Watch {
    changes: UnboundedReceiver<()>,
    watcher: notify::RecommendedWatcher,
    dir: PathBuf,
}

impl Watch {
    /// Waits for the next change. Cancel-safe.
    pub(super) async fn recv(&mut self) -> Option<()> {
        self.changes.recv().await
    }

    /// Waits until the change that has come is whole: editors and copies write in several steps. Then, before the directory is
    /// read: it may have been made anew, or its name lead to another, and a watch stays with the old one. Where there is none
    /// at the moment, its making will be told.
    pub(super) async fn settle(&mut self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        while self.changes.try_recv().is_ok() {}
        let _ = self.watcher.watch(&self.dir, RecursiveMode::NonRecursive);
    }
}

/// Watches `dir` (also files that are replaced by renaming, and the links of a mounted ConfigMap), and in the directory above
/// its name.
pub(super) fn watch(dir: &Path) -> Result<Watch> {
    let dir = std::path::absolute(dir).with_context(|| format!("--manifests {}", dir.display()))?;
    ensure!(!dir.is_file(), "--manifests {} is a file: pass the directory that holds it", dir.display());
    let (sender, changes) = unbounded_channel();
    let here = dir.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is no change, or each reading would cause the next; nor is what happens beside the directory.
        let matters = event.map_or(true, |event| {
            let ours = |path: &PathBuf| path.starts_with(&here);
            !event.kind.is_access() && (event.paths.is_empty() || event.paths.iter().any(ours))
        });
        if matters {
            let _ = sender.send(());
        }
    })?;
    watcher
        .watch(&dir, RecursiveMode::NonRecursive)
        .with_context(|| format!("watching --manifests {}; does the directory exist?", dir.display()))?;
    if let Some(above) = dir.parent() {
        // Without it only a directory made anew goes unnoticed.
        let _ = watcher.watch(above, RecursiveMode::NonRecursive);
    }
    Ok(Watch { changes, watcher, dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_the_directory_is_refused_before_anything_runs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = watch(file.path()).map(drop).unwrap_err().to_string();
        let expected = format!("--manifests {} is a file: pass the directory that holds it", file.path().display());
        assert_eq!(refused, expected);
    }
}
