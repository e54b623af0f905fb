//! SIGTERM and SIGINT: the first ends in order, the second at once.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for either. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// From now on a signal does not wait for anything.
    pub(super) fn exit_at_the_next(&self) {
        tokio::spawn(async {
            if let Ok(mut again) = Self::new() {
                again.wait().await;
                eprintln!(
                    "callgate-dataplane: second signal: ended at once; the next start finds and adopts what is left"
                );
                std::process::exit(1);
            }
        });
    }
}
