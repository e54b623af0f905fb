//! Installs the Debian packages that labs and demo need, and only those that are missing.

use std::path::Path;
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

/// What others bring too, such as Docker's containerd.io, beside which Debian's cannot be: the programs that are then enough.
const ELSEWHERE: &[(&str, &[&str])] =
    &[("containerd", &["containerd", "containerd-shim-runc-v2", "ctr"]), ("runc", &["runc"])];

/// Packages that may take the place of another: the same programs, linked statically.
const IN_PLACE_OF: &[(&str, &str)] = &[("busybox-static", "busybox")];

/// Makes sure that these packages are there. Says what it does; does nothing when all are installed. Nothing of the host is
/// removed for them, but what is in `IN_PLACE_OF`.
pub(crate) fn ensure(packages: &[(&str, &str)]) -> Result<()> {
    let names = packages.iter().map(|(name, _)| *name);
    let missing: Vec<&str> = names.filter(|name| !installed(name) && !is_elsewhere(name, in_path)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("these Debian packages are missing: {}. Run as root, or: apt-get install {0}", missing.join(" "));
    }
    println!("==> installing Debian packages: {}", missing.join(" "));
    apt(&["update", "-qq"])?;
    let (alone, together): (Vec<&str>, Vec<&str>) =
        missing.iter().partition(|name| IN_PLACE_OF.iter().any(|(package, _)| package == *name));
    for package in alone {
        install(&[package])?;
    }
    if !together.is_empty() {
        install(&together)?;
    }
    stop_services(&missing);
    Ok(())
}

/// Installs them all or none.
fn install(packages: &[&str]) -> Result<()> {
    let args = [&["install", "-y", "-qq", "--no-install-recommends"], packages].concat();
    let gone = gone(&args)?;
    let may_go = |name: &String| packages.iter().any(|package| IN_PLACE_OF.contains(&(*package, name.as_str())));
    if gone.is_empty() {
        return apt(&[&args[..], &["--no-remove"]].concat());
    }
    if !gone.iter().all(may_go) {
        let (wanted, gone) = (packages.join(" "), gone.join(" "));
        bail!(
            "not installed: Debian's {wanted}, which would take away what this host has: {gone}. If you can spare that: \
             apt-get install {wanted}; else use another machine"
        );
    }
    println!("    {} takes the place of {}: the same programs, linked statically", packages.join(" "), gone.join(" "));
    apt(&args)
}

/// What apt would remove if it were called so.
fn gone(args: &[&str]) -> Result<Vec<String>> {
    let out = Command::new("apt-get").arg("--simulate").args(args).output().context("apt-get; is this Debian 12?")?;
    Ok(removed(&String::from_utf8_lossy(&out.stdout)))
}

/// Of what apt says when it only simulates: `Remv PACKAGE [VERSION]`.
fn removed(said: &str) -> Vec<String> {
    let names = said.lines().filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next());
    names.map(str::to_owned).collect()
}

/// Whether all programs of a package are there without it.
fn is_elsewhere(package: &str, has: impl Fn(&str) -> bool) -> bool {
    ELSEWHERE.iter().any(|(name, programs)| *name == package && programs.iter().all(|program| has(program)))
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
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

/// Debian starts these on installation and at each boot; the labs start their own, in namespaces, so the host's must not run. One
/// that was there before is somebody else's.
fn stop_services(installed: &[&str]) {
    for service in ["pptpd", "containerd"].iter().filter(|name| installed.contains(name)) {
        // sd_booted(3)
        let stop: &[&str] = match Path::new("/run/systemd/system").exists() {
            true => &["systemctl", "disable", "--now", service],
            false => &["service", service, "stop"],
        };
        let mut command = Command::new(stop[0]);
        let _ = command.args(&stop[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_runtime_that_somebody_else_has_brought_is_enough_only_if_it_is_whole() {
        let of_docker = ["containerd", "containerd-shim-runc-v2", "ctr", "docker", "runc"];
        let without_shim = ["containerd", "ctr", "runc"];
        let looked_at = ["containerd", "runc", "busybox-static"];
        let enough =
            |there: &[&str]| looked_at.map(|package| is_elsewhere(package, |program| there.contains(&program)));
        assert_eq!(enough(&of_docker), [true, true, false]);
        assert_eq!(enough(&without_shim), [false, true, false]);
        assert_eq!(enough(&[]), [false; 3]);
    }

    #[test]
    fn what_apt_would_remove_is_read_from_its_simulation() {
        let said = "The following packages will be REMOVED:\n  containerd.io docker-ce\n\
                    Remv docker-ce [5:27.3.1-1~debian.12~bookworm]\nRemv containerd.io [1.7.22-1] [docker-ce:amd64 ]\n\
                    Inst runc (1.1.5+ds1-1+deb12u1 Debian:12 [amd64])\nConf runc (1.1.5+ds1-1+deb12u1 Debian:12 [amd64])\n";
        assert_eq!(removed(said), ["docker-ce", "containerd.io"]);
        assert_eq!(removed("Inst runc (1.1.5)\n"), Vec::<String>::new());
    }
}
