//! NATs without Callgate: how they treat the second client of a server.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::Context as _;

use crate::lab::node::Node;
use crate::lab::topology::{EXTERNAL, OUT_IF};

/// No NAT at all: the router outside knows the way back to the clients.
///
/// # Errors
/// If ip refuses it.
pub fn routed(inet: &Node) -> anyhow::Result<()> {
    inet.ip(&format!("route add 10.10.0.0/16 via {EXTERNAL}"))
}

/// Plain masquerade of a present kernel on device `out`, no helper: conntrack keys GRE by Call ID and finds nothing.
///
/// # Errors
/// If nft refuses it.
pub fn masquerade(gw: &Node, out: &str) -> anyhow::Result<()> {
    gw.nft(&format!(
        "table ip nat {{ chain post {{ type nat hook postrouting priority 100; oifname \"{out}\" masquerade; }}; }}"
    ))
}

/// The kernel's own ALG: nf_nat_pptp behind an explicitly assigned helper, with masquerade on device `out`.
///
/// # Errors
/// If nft refuses it.
pub fn kernel_alg(gw: &Node, out: &str) -> anyhow::Result<()> {
    gw.nft(&format!(
        "table ip nat {{
            ct helper pptp {{ type \"pptp\" protocol tcp; }}
            chain pre {{ type filter hook prerouting priority -150; tcp dport 1723 ct helper set \"pptp\"; }}
            chain post {{ type nat hook postrouting priority 100; oifname \"{out}\" masquerade; }}
        }}"
    ))
}

/// How many calls can be set up through the kernel's ALG before GRE of any of them, so that all of them carry it: it expects GRE both
/// ways of each, and the kernel has room for so many expectations, by its memory. Nothing says so before conntrack is there.
///
/// # Errors
/// As said.
pub fn calls_without_gre() -> anyhow::Result<usize> {
    const ROOM: &str = "/proc/sys/net/netfilter/nf_conntrack_expect_max";
    let room = fs::read_to_string(ROOM).context(ROOM)?;
    Ok(room.trim().parse::<usize>().context(ROOM)? / 2)
}

/// A NAT that maps GRE by address alone, as many routers do: TCP is masqueraded, GRE goes to one client.
///
/// # Errors
/// If nft refuses it.
pub fn gre_by_address(gw: &Node) -> anyhow::Result<()> {
    gw.nft(&format!(
        "table ip nat {{
            map newest {{ type ipv4_addr : ipv4_addr; }}
            chain raw {{ type filter hook prerouting priority -300; ip protocol gre notrack; }}
            chain pre {{ type filter hook prerouting priority -150; iifname \"{OUT_IF}\" ip protocol gre ip daddr set ip saddr map @newest; }}
            chain post {{ type filter hook postrouting priority -150; oifname \"{OUT_IF}\" ip protocol gre ip saddr set {EXTERNAL}; }}
            chain nat {{ type nat hook postrouting priority 100; oifname \"{OUT_IF}\" ip protocol tcp masquerade; }}
        }}"
    ))
}

/// GRE of `server` belongs to `client` from now on.
///
/// # Errors
/// If nft refuses it.
pub fn gre_goes_to(gw: &Node, server: Ipv4Addr, client: Ipv4Addr) -> anyhow::Result<()> {
    gw.nft(&format!("flush map ip nat newest\nadd element ip nat newest {{ {server} : {client} }}"))
}

/// All of it away again, flows too.
///
/// # Errors
/// If nft refuses it.
pub fn clear(gw: &Node) -> anyhow::Result<()> {
    gw.nft("flush ruleset")?;
    // Says so when there was nothing to delete, with an exit code of 1 in some versions.
    drop(gw.run("conntrack", &["-F"]));
    Ok(())
}
