//! What this kernel has of what Callgate uses, and what it costs where something is missing.

use std::collections::BTreeSet;

use callgate_proto::Optional;
use callgate_proto::pb::Feature;

use super::Options;
use crate::netlink::conntrack;
use crate::netlink::socket::Socket;
use crate::nft::probe::{self, PARTS, Part};
use crate::sockets;

/// Asks the kernel, but not for what it is taken to be `without`; sorted by name.
pub(super) fn find(netfilter: &mut Socket, options: &Options, without: &BTreeSet<Optional>) -> Vec<Feature> {
    let mut found = nftables(netfilter, options, without);
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

fn nftables(netfilter: &mut Socket, options: &Options, without: &BTreeSet<Optional>) -> Vec<Feature> {
    // A name of ours that is not the table's: the question may be asked while the table of a previous run is in force.
    let missing = match probe::missing(netfilter, &format!("{}_probe", options.nft_table)) {
        Ok(missing) => missing,
        // Which parts there are is not known then: nothing is left out for it.
        Err(error) => return vec![feature("nftables", Err(error.to_string()), "no rule can be put into the kernel")],
    };
    let of = |part: Part| match part {
        Part::Optional(part) if without.contains(&part) => Err(format!("--without {part}")),
        Part::Optional(_) | Part::Fib | Part::Nat | Part::Notrack | Part::Reject => {
            missing.get(&part).map_or(Ok(()), |words| Err(words.clone()))
        }
    };
    PARTS.into_iter().map(|part| feature(name(part), of(part), &cost(part))).collect()
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Fib => "nftables: route types",
        Part::Nat => "nftables: NAT",
        Part::Notrack => "nftables: notrack",
        Part::Optional(part) => part.feature(),
        Part::Reject => "nftables: reject",
    }
}

fn cost(part: Part) -> String {
    let all = |modules| format!("no rule can be put into the kernel: load {modules}");
    match part {
        Part::Fib => all("nft_fib_ipv4"),
        Part::Nat => all("nft_nat and nft_masq"),
        Part::Notrack => all("nft_ct"),
        Part::Optional(part) => format!("{}: {}, and start the agent anew", part.cost(), part.remedy()),
        Part::Reject => all("nft_reject_ipv4"),
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
        let told = |part| feature(name(part), Err("No such file or directory".into()), &cost(part)).detail;
        let log = "No such file or directory; what it costs: log: true of rules has no effect: load module nft_log, and start the \
                   agent anew";
        let nat =
            "No such file or directory; what it costs: no rule can be put into the kernel: load nft_nat and nft_masq";
        assert_eq!([told(Part::Optional(Optional::Logging)), told(Part::Nat)], [log, nat]);
    }
}
