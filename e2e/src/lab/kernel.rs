//! What the kernel below the labs has.

use std::path::Path;

/// The module that makes bridges call iptables shows this, in every network namespace.
pub const BRIDGE_CALLS_IPTABLES: &str = "net/bridge/bridge-nf-call-iptables";

/// Whether eBPF can be at tcx: since Linux 6.6.
pub fn has_tcx() -> bool {
    is((6, 6))
}

/// Whether the kernel says what drivers can do with XDP: since Linux 6.3.
pub fn has_xdp() -> bool {
    is((6, 3))
}

/// Whether there is br_netfilter.
pub fn has_br_netfilter() -> bool {
    Path::new("/proc/sys").join(BRIDGE_CALLS_IPTABLES).exists()
}

/// Whether the kernel is of this version or a later one.
fn is(wanted: (u32, u32)) -> bool {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    release.is_ok_and(|release| version(&release) >= wanted)
}

/// Of a release such as `6.1.0-28-amd64`.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_whatever_stands_behind_them() {
        let releases = ["6.1.0-28-amd64", "6.6.0", "6.12-rc1", "6.18.44-x", "10.0.1", "5.15.0+"];
        let tcx = releases.map(|release| version(release) >= (6, 6));
        assert_eq!(tcx, [false, true, true, true, true, false]);
    }
}
