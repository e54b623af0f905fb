//! Among others: bridges that call iptables, a foreign masquerade, a FORWARD chain that drops by default.

use callgate_e2e::gateway::callgate::{CLASSIC, Callgate};
use callgate_e2e::lab::kernel;
use callgate_e2e::lab::root::skip;
use callgate_e2e::lab::topology::{LAN_IF, Lab, OUT_IF, client_address, server_address};
use callgate_e2e::peers::pptp_client::PptpClient;
use callgate_e2e::peers::pptpd::Pptpd;

use super::support::{LOOK, Scene, UP, can_run};

#[test]
fn a_cni_with_masquerade_default_drop_and_a_forbidden_pod_keeps_its_say() {
    if !can_run("a_cni_with_masquerade_default_drop_and_a_forbidden_pod_keeps_its_say") {
        return;
    }
    if !kernel::has_br_netfilter() {
        skip(
            "a_cni_with_masquerade_default_drop_and_a_forbidden_pod_keeps_its_say",
            "needs the module br_netfilter in the kernel: modprobe br_netfilter; bridges of this machine then pass netfilter \
             unless sysctl net.bridge.bridge-nf-call-iptables=0 says no",
        );
        return;
    }
    let lab = Lab::new(3, 1).unwrap();
    let forbidden = client_address(2);
    lab.gw
        .nft(&format!(
            "table ip cni {{
                chain forward {{ type filter hook forward priority 0; policy drop;
                    ip saddr {forbidden} drop;
                    ct state established,related accept;
                    iifname \"{LAN_IF}\" accept;
                }}
                chain post {{ type nat hook postrouting priority 100; ip saddr 10.10.0.0/16 masquerade random,fully-random; }}
            }}"
        ))
        .unwrap();
    // The client side is a bridge, so its packets are seen by the IPv4 hooks twice.
    lab.gw.sysctl(kernel::BRIDGE_CALLS_IPTABLES, "1").unwrap();
    let _server = Pptpd::start(&lab.servers[0], 0).unwrap();
    let callgate = Callgate::start(&lab.gw, &CLASSIC).unwrap();
    let clients: Vec<PptpClient> =
        lab.clients.iter().map(|node| PptpClient::dial(node, server_address(0)).unwrap()).collect();
    let links: Vec<_> = (0..2).map(|index| clients[index].wait_up(&lab.clients[index], UP).unwrap()).collect();
    let targets = lab.clients.iter().zip(&links).map(|(node, link)| (node, link.remote));
    let losses: Vec<u32> =
        callgate_e2e::lab::ping::all(targets, LOOK).unwrap().iter().map(|p| p.loss_percent()).collect();
    assert_eq!(losses, [0, 0], "{}", callgate.log());
    assert!(clients[2].wait_up(&lab.clients[2], std::time::Duration::from_millis(100)).is_err());
    let calls = callgate.wait_calls(&lab.gw, 2).unwrap();
    assert!(calls.iter().all(|call| call.client.address != forbidden), "{calls:?}");
}

#[test]
fn a_client_without_a_rule_goes_its_cnis_way() {
    if !can_run("a_client_without_a_rule_goes_its_cnis_way") {
        return;
    }
    let only_first = CLASSIC.replace("10.10.0.0/16", &format!("{}/32", client_address(0)));
    let scene = Scene::with(2, 1, &only_first);
    let outside = callgate_e2e::lab::capture::Capture::start(&scene.lab.gw, OUT_IF).unwrap();
    // No NAT at all here, so its packets leave as they are.
    drop(scene.lab.clients[1].run("ping", &["-n", "-c", "1", "-W", "1", &server_address(0).to_string()]));
    let own = client_address(1);
    outside.wait("a ping with the client's own address", LOOK, |packet| packet.source == own).unwrap();
}
