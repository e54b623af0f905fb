//! Tells when something in the manifests' directory has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::unfinished::Unfinished;

/// A notification a change, as long as the returned value lives.
pub(super) struct Watch {
    changes: UnboundedReceiver<()>,
    watcher: notify::RecommendedWatcher,
    dir: PathBuf,
    unfinished: Arc<Mutex<Unfinished>>,
}

impl Watch {
    /// Waits for the next change. Cancel-safe.
    pub(super) async fn recv(&mut self) -> Option<()> {
        self.changes.recv().await
    }

    /// Files that somebody is writing at the moment; their end will be told.
    pub(super) fn unfinished(&self) -> BTreeSet<String> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).names(Instant::now())
    }

    /// Waits until the change that has come is whole: editors and copies work in several steps. Then, before the directory is
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
    let unfinished = Arc::<Mutex<Unfinished>>::default();
    let (here, writers) = (dir.clone(), Arc::clone(&unfinished));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let mut writers = writers.lock().unwrap_or_else(PoisonError::into_inner);
        if event.map_or(true, |event| writers.hear(&event, &here, Instant::now())) {
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
    Ok(Watch { changes, watcher, dir, unfinished })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_written_in_place_is_told_of_once_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, "before").unwrap();
        let mut watch = watch(dir.path()).unwrap();
        // As `command > a.yaml` does: empty, and written later.
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, b"half").unwrap();
        // Behind those of the file.
        std::os::unix::fs::symlink("nowhere", dir.path().join("mark")).unwrap();
        watch.recv().await.unwrap();
        assert_eq!((watch.unfinished(), watch.changes.try_recv().is_ok()), (["a.yaml".to_owned()].into(), false));
        drop(file);
        watch.recv().await.unwrap();
        assert_eq!(watch.unfinished(), BTreeSet::new());
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_refused_before_anything_runs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = watch(file.path()).map(drop).unwrap_err().to_string();
        let expected = format!("--manifests {} is a file: pass the directory that holds it", file.path().display());
        assert_eq!(refused, expected);
    }
}
