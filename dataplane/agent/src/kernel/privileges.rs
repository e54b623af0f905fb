//! Whether this process may change the network: by capability, not by user.

use super::Error;

/// CAP_NET_ADMIN is bit 12, CAP_NET_RAW bit 13 (linux/capability.h).
const NEEDED: u64 = 1 << 12 | 1 << 13;

/// Only who may change the network gets further: everything after this would fail with less helpful words.
///
/// # Errors
/// `Privilege`, with what is missing.
pub fn permitted() -> Result<(), Error> {
    let user = nix::unistd::geteuid();
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    match effective(&status) {
        Some(held) if held & NEEDED == NEEDED => Ok(()),
        None if user.is_root() => Ok(()),
        Some(_) | None => Err(Error::Privilege(format!("running as user {user} without them"))),
    }
}

/// The effective capabilities in a /proc/PID/status.
fn effective(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read_and_nonsense_is_none() {
        let status = "Name:\tx\nCapPrm:\t0000000000003000\nCapEff:\t0000000000001000\nCapBnd:\t000001ffffffffff\n";
        assert_eq!(effective(status), Some(0x1000));
        assert_eq!((effective("CapEff:\tx\n"), effective("")), (None, None));
    }
}
