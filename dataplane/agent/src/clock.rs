//! The two clocks: milliseconds since boot for everything that counts time, and which boot that is.

use std::io;

use callgate_pptp::Now;
use nix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME: never goes back, counts suspend, outlives the process, begins anew with each boot.
#[must_use]
pub fn now() -> Now {
    // The clock exists since Linux 2.6.39, and its time is not negative: neither default is ever taken.
    let t = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(std::time::Duration::ZERO, std::time::Duration::from);
    Now(u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}

/// CLOCK_MONOTONIC, ns: stands still in suspend.
#[must_use]
pub fn monotonic() -> u64 {
    let t = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(std::time::Duration::ZERO, std::time::Duration::from);
    u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)
}

/// When it was that much on CLOCK_MONOTONIC (ns), which eBPF programs tell: it stands still in suspend, and ours does not.
#[must_use]
pub fn from_monotonic(ns: u64) -> Now {
    let age = monotonic().saturating_sub(ns) / 1_000_000;
    Now(now().0.saturating_sub(age))
}

/// The kernel's random id of this boot.
///
/// # Errors
/// When /proc is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
