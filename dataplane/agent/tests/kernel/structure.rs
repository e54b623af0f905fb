//! What the table looks like to the nft tool.

use std::net::Ipv4Addr;

use callgate_proto::model::{Action, External, NodeConfig, Timeouts};

use super::configs::{ANYWHERE, Config, POD_A, POD_B, anything, ports, pptp, service, tcp, udp};
use super::lab::{Lab, root, sh, skipped};

/// One of everything.
pub(crate) fn everything() -> NodeConfig {
    let mut web = service("web", &[ports(6, "80,443,8000-8100")]);
    (web.max_sessions, web.forward_icmp_errors) = (200, false);
    web.timeouts = Some(Timeouts { initial: 60, established: 3600, closing: 30 });
    let dns = service("dns", &[ports(6, "53"), ports(17, "53")]);
    let pool = External::Address(Ipv4Addr::new(192, 0, 2, 2));
    Config::new()
        .full("tills", Action::Nat, External::NodeAddress, true, &[POD_A], ANYWHERE, &[pptp(), web.clone()])
        .full("pool", Action::Nat, pool, false, &[POD_A, POD_B], &["198.51.100.0/24"], &[udp("high", "1024-65535")])
        .rule("dns", Action::Allow, &[POD_A, "10.244.3.0/24"], &["192.0.2.10/32", "192.0.2.12/30"], &[dns])
        .rule("no", Action::Reject, &["10.244.3.0/24"], ANYWHERE, &[tcp("ssh", "22")])
        .full("last", Action::Drop, External::NodeAddress, true, &[POD_A], ANYWHERE, &[anything("any")])
        .build()
}

#[test]
fn the_nft_tool_prints_the_table_as_documented() {
    if !root() {
        return;
    }
    if !sh("nft --version").contains("v1.0.6") {
        return skipped("the golden table is of nft 1.0.6");
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&everything(), &[Ipv4Addr::new(192, 0, 2, 1)]).unwrap();
    insta::assert_snapshot!(sh("nft -s list table ip callgate"));
    kernel.stop().unwrap();
}
