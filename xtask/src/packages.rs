//! Installs the Debian packages that labs and demo need, and only those that are missing.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

/// What the labs run: package, and what for.
const LAB: &[(&str, &str)] = &[
    ("conntrack", "looks into connection tracking from outside"),
    ("ethtool", "switches offloads of lab links"),
    ("iproute2", "network namespaces"),
    ("iputils-ping", "loss"),
    ("kmod", "modules inside User Mode Linux"),
    ("nftables", "reads back rules, and the baselines"),
    ("ppp", "real pppd"),
    ("pptp-linux", "real client"),
    ("pptpd", "real server"),
    ("procps", "sysctl"),
    ("tcpdump", "captures on both sides"),
    ("user-mode-linux", "a kernel with PPP and MPPE as a process"),
];

/// What a cluster needs beside them.
const CLUSTER: &[(&str, &str)] = &[
    ("busybox-static", "shell and tools in one file, for test images"),
    ("containerd", "runs pods"),
    ("containernetworking-plugins", "the pods' network"),
    ("curl", "speaks gRPC with tokens it should not have"),
    ("iptables", "what the CNI plugins masquerade with"),
    ("runc", "runs containers"),
    ("util-linux", "nsenter"),
];

/// What the test client's image is made from.
pub(crate) const TEST_CLIENT: &[(&str, &str)] =
    &[("busybox-static", "shell and tools in one file"), ("pptp-linux", "real client")];

/// Makes sure that the lab packages are there.
pub(crate) fn ensure_lab() -> Result<()> {
    ensure(LAB)
}

/// Makes sure that the packages for labs and for a cluster are there.
pub(crate) fn ensure_cluster() -> Result<()> {
    ensure(LAB)?;
    ensure(CLUSTER)
}

/// Makes sure that these packages are there. Says what it does; does nothing when all are installed.
pub(crate) fn ensure(packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().map(|(name, _)| *name).filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("these Debian packages are missing: {}. Run as root, or: apt-get install {0}", missing.join(" "));
    }
    println!("==> installing Debian packages: {}", missing.join(" "));
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)?;
    stop_services(&missing);
    Ok(())
}

fn installed(package: &str) -> bool {
    let out = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).stderr(Stdio::null()).output();
    out.is_ok_and(|out| out.stdout == b"installed")
}

fn apt(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    let status = process::run(command, Duration::from_secs(900)).context("apt-get; is this Debian 12?")?;
    if !status.success() {
        bail!("`apt-get {}` ended with {status}; try it by hand to see why", args.join(" "));
    }
    Ok(())
}

/// Debian starts these on installation; the labs start their own, in namespaces, so the host's must not keep running. One that
/// was there before is somebody else's.
fn stop_services(installed: &[&str]) {
    for service in ["pptpd", "containerd"].iter().filter(|name| installed.contains(name)) {
        let _ = Command::new("service").args([service, "stop"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
