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
        Part::Sockets => "nftables: transparent sockets",
        Part::Timeouts => "nftables: conntrack time-outs",
    }
}

fn cost(part: Part) -> &'static str {
    match part {
        Part::Connlimit => {
            "while rules use a service without maxSessions: 0, no new configuration takes effect on this node: load module nft_connlimit"
        }
        Part::Fib => "no rule can be put into the kernel: load module nft_fib_ipv4",
        Part::Log => {
            "while there are rules with log: true, no new configuration takes effect on this node: load module nft_log"
        }
        Part::Nat => "no rule can be put into the kernel: load modules nft_nat and nft_masq",
        Part::Notrack => "no rule can be put into the kernel: load module nft_ct",
        Part::Reject => "no rule can be put into the kernel: load module nft_reject_ipv4",
        Part::Sockets => {
            "while rules use a PptpAlg of controlConnection Shared or Auto, no new configuration takes effect on this node: load modules \
             nft_socket and nft_tproxy"
        }
        Part::Timeouts => {
            "while rules use services with timeouts, no new configuration takes effect on this node: load modules nft_ct and \
             nfnetlink_cttimeout"
        }
    }
}

fn feature(name: &str, found: Result<(), String>, cost: &str) -> Feature {
    let (available, detail) = match found {
        Ok(()) => (true, String::new()),
        Err(words) => (false, format!("{words}; what it costs: {cost}")),
    };
    Feature { name: name.to_owned(), available, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_the_kernels_words_and_what_it_costs() {
        let told = feature("nftables: logging", Err("No such file or directory".into()), cost(Part::Log));
        let detail = "No such file or directory; what it costs: while there are rules with log: true, no new configuration takes effect \
                      on this node: load module nft_log";
        assert_eq!(told, Feature { name: "nftables: logging".into(), available: false, detail: detail.into() });
    }
}
