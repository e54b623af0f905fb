//! What this kernel has of what Callgate uses, and what it costs where something is missing.

use callgate_proto::pb::Feature;

use super::Options;
use crate::netlink::conntrack;
use crate::netlink::socket::Socket;
use crate::nft::probe::{self, PARTS, Part};
use crate::sockets;

/// Asks the kernel; sorted by name.
pub(super) fn find(netfilter: &mut Socket, options: &Options) -> Vec<Feature> {
    let mut found = nftables(netfilter, options);
    found.push(feature(
        "conntrack over netlink",
        conntrack::available(netfilter).map_err(|error| error.to_string()),
        "flows of rules that are gone cannot be ended: load module nf_conntrack_netlink",
    ));
    found.push(feature(
        "AF_PACKET",
        sockets::available().map_err(|error| error.to_string()),
        "the PPTP ALG cannot read packets: CONFIG_PACKET and CAP_NET_RAW are needed",
    ));
    let release = release();
    found.push(feature(
        "eBPF at tcx",
        tcx(&release, std::path::Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists()),
        "nothing today: this version carries GRE by AF_PACKET on every kernel",
    ));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// `uname -r`.
pub fn release() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

fn nftables(netfilter: &mut Socket, options: &Options) -> Vec<Feature> {
    // A name of ours that is not the table's: the question may be asked while the table of a previous run is in force.
    let missing = probe::missing(netfilter, &format!("{}_probe", options.nft_table));
    let of = |part: Part| match &missing {
        Ok(missing) => missing.get(&part).map_or(Ok(()), |words| Err(words.clone())),
        Err(error) => Err(error.to_string()),
    };
    PARTS.into_iter().map(|part| feature(name(part), of(part), cost(part))).collect()
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Connlimit => "nftables: connection limits",
        Part::Fib => "nftables: route types",
        Part::Log => "nftables: logging",
        Part::Nat => "nftables: NAT",
        Part::Notrack => "nftables: notrack",
        Part::Reject => "nftables: reject",
        Part::Timeouts => "nftables: conntrack time-outs",
    }
}

fn cost(part: Part) -> &'static str {
    match part {
        Part::Connlimit => "services need maxSessions: 0, or their rules are refused: load module nft_connlimit",
        Part::Fib => "no rule can be put into the kernel: load module nft_fib_ipv4",
        Part::Log => "rules with log: true are refused: load module nft_log",
        Part::Nat => "no rule can be put into the kernel: load modules nft_nat and nft_masq",
        Part::Notrack => "no rule can be put into the kernel: load module nft_ct",
        Part::Reject => "no rule can be put into the kernel: load module nft_reject_ipv4",
        Part::Timeouts => "services with timeouts are refused: load modules nft_ct and nfnetlink_cttimeout",
    }
}

fn feature(name: &str, found: Result<(), String>, cost: &str) -> Feature {
    let (available, detail) = match found {
        Ok(()) => (true, String::new()),
        Err(words) => (false, format!("{words}; what it costs: {cost}")),
    };
    Feature { name: name.to_owned(), available, detail }
}

/// Links of type tcx came with Linux 6.6.
fn tcx(release: &str, bpf: bool) -> Result<(), String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match (bpf, version >= (6, 6)) {
        (true, true) => Ok(()),
        (false, _) => Err("this kernel is built without the bpf system call".to_owned()),
        (true, false) => Err(format!("kernel {release} is older than 6.6")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcx_needs_bpf_and_linux_6_6() {
        let old = Err("kernel 6.5.13-amd64 is older than 6.6".to_owned());
        assert_eq!([tcx("6.18.5", true), tcx("6.6.0-rc1+", true), tcx("10.0", true)], [Ok(()), Ok(()), Ok(())]);
        assert_eq!(tcx("6.5.13-amd64", true), old);
        assert_eq!(tcx("6.18.5", false), Err("this kernel is built without the bpf system call".to_owned()));
    }

    #[test]
    fn what_is_missing_is_told_with_the_kernels_words_and_what_it_costs() {
        let told = feature("nftables: logging", Err("No such file or directory".into()), cost(Part::Log));
        let detail = "No such file or directory; what it costs: rules with log: true are refused: load module nft_log";
        assert_eq!(told, Feature { name: "nftables: logging".into(), available: false, detail: detail.into() });
    }
}
