//! The connection to the operator for as long as the agent lives: again and again, with a pause that grows.

use std::sync::Arc;
use std::time::Duration;

use callgate_proto::pb;
use rand::TryRngCore;
use tokio::sync::{mpsc, watch};

use super::backoff;
use super::connect::Address;
use super::session::{self, End};
use super::snapshot::Snapshot;
use crate::api::Answers;
use crate::run::Report;

/// Between two looks for a file that is not there yet.
const MOUNT: Duration = Duration::from_millis(500);

/// What the link is made of before the agent runs.
pub(super) struct Link {
    pub(super) address: Address,
    pub(super) node: String,
    /// Between two looks whether there is something to report.
    pub(super) interval: Duration,
}

/// What the link is tied to.
pub(super) struct Ends {
    /// Where snapshots go.
    pub(super) snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// Where it comes from what became of them.
    pub(super) outcomes: mpsc::UnboundedReceiver<pb::Outcome>,
    pub(super) answers: Answers,
    pub(super) report: Arc<Report>,
}

impl Link {
    /// Runs until it is aborted.
    pub(super) async fn run(self, mut ends: Ends) {
        let mut attempt = 0;
        loop {
            self.mounted(&ends.report).await;
            match self.once(&mut ends, &mut attempt).await {
                Ok(End::Rotated) => {
                    tracing::info!("--ca-file has changed: connecting anew with what it holds now");
                    // No failure, but every agent does this at about the same time.
                    attempt = 0;
                }
                Ok(End::Closed) => tracing::info!("the operator has ended the stream"),
                Err(error) => {
                    // Attempts to connect, and streams, that ended with an error.
                    ends.report.count("operator_failures");
                    // Each once an attempt, which back-off bounds.
                    tracing::warn!(attempt, "no operator; what runs goes on: {error:#}");
                }
            }
            // Without randomness from the kernel all agents wait the longest.
            let random = rand::rngs::OsRng.try_next_u64().unwrap_or(u64::MAX);
            let pause = backoff::delay(attempt, random);
            attempt = attempt.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits for CA and token to be there. That is looked at often and counts as no failure: a file costs nobody anything.
    async fn mounted(&self, report: &Report) {
        let mut told = false;
        while let Some(missing) = self.address.missing() {
            if !told {
                // Waits for a CA or a token that was not mounted yet.
                report.count("operator_mounts_awaited");
                tracing::warn!("{missing} is not there: waiting for it; what runs goes on");
                told = true;
            }
            tokio::time::sleep(MOUNT).await;
        }
    }

    /// One connection; `attempt` is 0 again once it has brought a snapshot.
    async fn once(&self, ends: &mut Ends, attempt: &mut u32) -> anyhow::Result<End> {
        let connected = self.address.connect().await?;
        // Connections to the operator that came about.
        ends.report.count("operator_connects");
        session::run(self, connected, ends, attempt).await
    }
}
