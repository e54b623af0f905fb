//! What people are told about a packet, and every way a packet can go.

use std::net::Ipv4Addr;

use callgate_compile::compile;
use callgate_compile::explain::{Packet, explain};
use callgate_compile::manifests::parse;
use callgate_proto::model::NodeConfig;

const MANIFESTS: &str = "
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: no-mail, namespace: pos}
spec: {order: 10, action: Reject, source: {cidrs: [10.20.0.0/16]}, services: [{name: smtp}]}
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: partner, namespace: pos}
spec:
  order: 20
  action: NAT
  source: {cidrs: [10.20.0.0/16]}
  destination: {cidrs: [203.0.113.0/24], except: [203.0.113.9/32]}
  services: [{name: pptp-ctl}]
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: offices, namespace: pos}
spec: {order: 30, action: Allow, source: {cidrs: [10.30.0.0/16]}, services: [{name: all}]}
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: rest, namespace: pos}
spec: {order: 40, action: Drop, source: {cidrs: [10.20.1.0/24]}, services: [{name: all-tcp}]}
";

fn config() -> NodeConfig {
    let files = [("a.yaml".to_owned(), MANIFESTS.to_owned())];
    let mut parsed = parse(&files, callgate_crds::predefined());
    assert_eq!(parsed.problems, []);
    parsed.world.cluster_nets = vec!["10.0.0.0/8".parse().unwrap()];
    NodeConfig::clone(&compile(&parsed.world, None).nodes["standalone"])
}

fn told(src: [u8; 4], dst: [u8; 4], dst_port: u16, protocol: u8) -> String {
    let packet = Packet { src: Ipv4Addr::from(src), src_port: 40000, dst: Ipv4Addr::from(dst), dst_port, protocol };
    explain(&config(), &packet).to_string()
}

#[test]
fn a_tunnel_is_told_with_its_rule_service_and_alg() {
    assert_eq!(
        told([10, 20, 1, 7], [203, 0, 113, 5], 1723, 6),
        "\
10.20.1.7:40000 -> 203.0.113.5:1723 TCP
verdict: NAT by rule pos/partner, service callgate-system/pptp-ctl, through ALG callgate-system/pptp
  pos/no-mail  Reject  no service matches: callgate-system/smtp (TCP 25)
  pos/partner  NAT     matches
  pos/offices  Allow   not reached: an earlier rule matches
  pos/rest     Drop    not reached: an earlier rule matches
"
    );
}

#[test]
fn an_excepted_destination_falls_to_the_next_rule() {
    assert_eq!(
        told([10, 20, 1, 7], [203, 0, 113, 9], 1723, 6),
        "\
10.20.1.7:40000 -> 203.0.113.9:1723 TCP
verdict: Drop by rule pos/rest, service callgate-system/all-tcp
  pos/no-mail  Reject  no service matches: callgate-system/smtp (TCP 25)
  pos/partner  NAT     destination is not in destination.cidrs, or is in destination.except
  pos/offices  Allow   does not select this source
  pos/rest     Drop    matches
"
    );
}

#[test]
fn a_packet_that_no_rule_takes_says_so_in_each_of_the_three_ways() {
    let verdict = |text: String| text.lines().nth(1).unwrap_or_default().to_owned();
    assert_eq!(
        verdict(told([10, 20, 1, 7], [203, 0, 113, 9], 0, 47)),
        "verdict: left to the CNI: no rule of this source matches"
    );
    assert_eq!(
        verdict(told([192, 0, 2, 1], [203, 0, 113, 9], 80, 6)),
        "verdict: not touched: no rule selects this source"
    );
    assert_eq!(
        told([10, 20, 1, 7], [10, 30, 0, 1], 1723, 6),
        "10.20.1.7:40000 -> 10.30.0.1:1723 TCP\nverdict: not looked at: the destination is inside the cluster\n"
    );
}
