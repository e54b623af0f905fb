//! Tells when something in the manifests' directory has changed.

use std::path::Path;

use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A notification a change, as long as the returned value lives.
pub(super) struct Watch {
    changes: UnboundedReceiver<()>,
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    /// Waits for the next change. Cancel-safe.
    pub(super) async fn recv(&mut self) -> Option<()> {
        self.changes.recv().await
    }

    /// A change that has come already.
    pub(super) fn try_recv(&mut self) -> Result<()> {
        Ok(self.changes.try_recv()?)
    }
}

/// Watches `dir` itself: also files that are replaced by renaming, and the links of a mounted ConfigMap.
pub(super) fn watch(dir: &Path) -> Result<Watch> {
    let (sender, changes) = unbounded_channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is no change, or each reading would cause the next.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = sender.send(());
        }
    })?;
    watcher
        .watch(dir, RecursiveMode::NonRecursive)
        .with_context(|| format!("watching --manifests {}; does the directory exist?", dir.display()))?;
    Ok(Watch { changes, _watcher: watcher })
}
