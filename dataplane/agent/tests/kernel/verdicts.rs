//! What becomes of packets: every action with every protocol, first match, exceptions, established flows.

use std::net::Ipv4Addr;
use std::time::Duration;

use callgate_proto::model::{Action, External, PortRange, Service};

use super::configs::{ANYWHERE, Config, POD_A, POD_B, anything, ports, service, tcp as tcp_to, udp as udp_to};
use super::lab::{Lab, root, sh};
use super::probes::{Connection, Seen, Servers, ping, tcp, udp, udp_from};

const POD: Seen = Seen::From(Ipv4Addr::new(10, 244, 1, 2));
const NODE: Seen = Seen::From(Ipv4Addr::new(192, 0, 2, 1));

fn icmp() -> Service {
    service("icmp", &[ports(1, "")])
}

fn lab() -> (Lab, Servers) {
    let lab = Lab::new();
    let servers = Servers::start(lab.server.clone(), &[80, 443, 8080], &[53, 80, 5000]);
    (lab, servers)
}

#[test]
fn every_action_does_its_own_with_every_protocol() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let table = [
        (Action::Nat, (NODE, NODE, "answered")),
        (Action::Allow, (POD, POD, "answered")),
        (Action::Drop, (Seen::Nothing, Seen::Nothing, "nothing")),
        (Action::Reject, (Seen::Refused, Seen::Refused, "Packet filtered")),
    ];
    for (action, expected) in table {
        // One name an action: another rule, so nothing is left of the one before.
        let config = Config::new().rule(&format!("{action:?}"), action, &[POD_A], ANYWHERE, &[anything("any")]).build();
        kernel.apply(&config, &[]).unwrap();
        let pinged = ping(&lab.a, "192.0.2.10");
        let seen = (tcp(&lab.a, "192.0.2.10:80"), udp(&lab.a, "192.0.2.10:53"), pinged.as_str());
        assert_eq!(seen, expected, "{action:?}");
    }
    kernel.stop().unwrap();
}
