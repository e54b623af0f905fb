//! Before everything is taken away: both ends of what lives are told, and have a moment to close.

use std::time::Duration;

use tokio::time::Instant;

use crate::alg::Handle;

/// The engine resets after 2 s what has not closed by itself (`Limits::farewell_ms`); by then everything has ended.
const LIMIT: Duration = Duration::from_millis(2_500);
/// Between two looks whether anything lives.
const LOOK: Duration = Duration::from_millis(20);

/// Ends every connection with its calls, and returns when none lives any more. The kernel has to be as it was: what the ends answer
/// still has to arrive.
pub(crate) async fn farewell(handle: &Handle) {
    let Some(living) = connections(handle).await.filter(|count| *count > 0) else { return };
    tracing::info!(connections = living, "ending what lives: both ends are told");
    let deadline = Instant::now() + LIMIT;
    if !handle.shut_down().await {
        return;
    }
    while let Some(left) = connections(handle).await.filter(|count| *count > 0) {
        if Instant::now() > deadline {
            tracing::warn!(connections = left, "have not ended; they are left to their time-outs");
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Those of clients, and those of the shared mode to servers; `None` when the ALG has ended.
async fn connections(handle: &Handle) -> Option<usize> {
    handle.totals().await.map(|totals| totals.connections + totals.tunnels.len())
}
