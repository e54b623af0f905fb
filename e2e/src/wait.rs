//! Waiting for a condition with a deadline, so that no test sleeps longer than it must or hangs for ever.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Time between two looks at a condition that cannot be awaited otherwise (a file, a table, a process).
const LOOK: Duration = Duration::from_millis(10);

/// Looks until `look` gives something.
///
/// # Errors
/// After `limit`, with `what` in the message; or at once with the error that `look` gives.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {} s", limit.as_secs_f32());
        }
        std::thread::sleep(LOOK);
    }
}

/// Looks until `look` is true.
///
/// # Errors
/// As `until`.
pub fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    until(what, limit, || Ok(look()?.then_some(())))
}

/// Lets time pass where time itself is the matter: a silence, a time-out that must not strike.
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}
