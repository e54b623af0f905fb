//! Fixed replies, each with every kind of value a table has to show.

use callgate_proto::pb;

use super::NOW;

fn traffic(packets: u64, bytes: u64, lost: u64) -> Option<pb::Traffic> {
    Some(pb::Traffic { packets, bytes, lost })
}

/// Two clients with the same Call ID to one server, and an incoming call that is not answered yet.
pub fn calls() -> pb::CallList {
    let call = pb::Call {
        client_address: "10.42.0.7".into(),
        client_port: 40001,
        server_address: "203.0.113.9".into(),
        server_port: 1723,
        external_address: "198.51.100.1".into(),
        external_port: 10007,
        pns_call_id: Some(0),
        pns_call_id_outside: Some(51712),
        pac_call_id: Some(512),
        direction: pb::Direction::Outgoing.into(),
        state: pb::CallState::Up.into(),
        tx: traffic(1200, 98_304, 0),
        rx: traffic(1187, 1_572_864, 3),
        age_ms: 312_000,
        idle_ms: 350,
        rule: "pos/tills-to-head-office".into(),
        service: "pos/pptp-service".into(),
        alg: "pos/pptp".into(),
        ..pb::Call::default()
    };
    let second = pb::Call {
        client_address: "10.42.0.10".into(),
        client_port: 40001,
        external_port: 61002,
        pns_call_id_outside: Some(7),
        pac_call_id: Some(640),
        tx: traffic(9, 720, 2),
        rx: traffic(9, 720, 0),
        age_ms: 4_000,
        idle_ms: 1_000,
        ..call.clone()
    };
    let incoming = pb::Call {
        client_address: "10.42.0.10".into(),
        client_port: 40002,
        server_address: "203.0.113.20".into(),
        external_port: 61003,
        pns_call_id: None,
        pns_call_id_outside: None,
        pac_call_id: Some(0),
        direction: pb::Direction::Incoming.into(),
        state: pb::CallState::Requested.into(),
        tx: None,
        rx: None,
        age_ms: 20,
        idle_ms: 20,
        ..call.clone()
    };
    // Not in order: the command sorts.
    pb::CallList { calls: vec![incoming, second, call], taken_unix_ms: NOW, ..pb::CallList::default() }
}

/// The same, with pods known.
pub fn calls_of_pods() -> pb::CallList {
    let mut list = calls();
    for call in &mut list.calls {
        if call.client_address == "10.42.0.7" {
            call.pod = "pos/till-1".into();
        }
    }
    list
}

fn condition(type_: &str, status: &str, reason: &str, message: &str, ago_ms: i64) -> pb::Condition {
    pb::Condition {
        r#type: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: 2,
        last_transition_unix_ms: NOW - ago_ms,
    }
}

fn counter(name: &str, value: u64) -> pb::Counter {
    pb::Counter { name: name.into(), value }
}

/// An agent that runs two rules, of which one is refused, beside a file that cannot be read.
pub fn status() -> pb::StatusReply {
    let object = |kind: &str, name: &str, conditions, counters| pb::ObjectStatus {
        kind: kind.into(),
        namespace: "pos".into(),
        name: name.into(),
        conditions,
        counters,
    };
    let good = || {
        vec![
            condition("Accepted", "True", "Accepted", "", 312_000),
            condition("ResolvedRefs", "True", "ResolvedRefs", "", 312_000),
            condition("Programmed", "True", "Programmed", "", 311_000),
        ]
    };
    let refused = vec![
        condition("Accepted", "True", "Accepted", "", 5_000),
        condition(
            "ResolvedRefs",
            "False",
            "ServiceNotFound",
            "spec.services[0].name: there is no Service pos/htp; did you mean callgate-system/http?",
            5_000,
        ),
        condition("Programmed", "False", "NotAccepted", "not carried out", 5_000),
    ];
    pb::StatusReply {
        version: "0.1.0".into(),
        node: "standalone".into(),
        config_hash: "8a072661d6d354c9d731a11dd945e2052499517f51f020a1056126af31401ba2".into(),
        programmed: Some(pb::Programmed {
            value: true,
            since_unix_ms: NOW - 311_000,
            reason: "Programmed".into(),
            message: String::new(),
        }),
        objects: vec![
            object("IpRule", "web", refused, vec![]),
            object("IpRule", "tills-to-head-office", good(), vec![counter("clients", 2), counter("flows", 5)]),
            object("PptpAlg", "pptp", vec![condition("Accepted", "True", "Accepted", "", 312_000)], vec![]),
        ],
        counters: vec![counter("gre_up_packets", 1209), counter("drop_ttl", 0), counter("calls_up", 3)],
        connections: 3,
        calls: 2,
        problems: vec![
            pb::Problem {
                file: "web.yaml".into(),
                line: 7,
                message: "there is no Service pos/htp; did you mean callgate-system/http?".into(),
                object: "IpRule pos/web".into(),
                field: "spec.services[0].name".into(),
            },
            pb::Problem {
                file: "broken.yaml".into(),
                line: 0,
                message: "is not YAML".into(),
                object: String::new(),
                field: String::new(),
            },
        ],
        path: "AF_PACKET".into(),
        features: vec![
            pb::Feature { name: "nftables".into(), available: true, detail: "kernel 6.18".into() },
            pb::Feature { name: "tcx".into(), available: false, detail: String::new() },
        ],
        ..pb::StatusReply::default()
    }
}

/// An agent that has just started and failed.
pub fn status_not_programmed() -> pb::StatusReply {
    pb::StatusReply {
        version: "0.1.0".into(),
        node: "standalone".into(),
        programmed: Some(pb::Programmed {
            value: false,
            since_unix_ms: NOW - 2_000,
            reason: "KernelRefused".into(),
            message: "nftables: table callgate: Operation not permitted".into(),
        }),
        path: "AF_PACKET".into(),
        ..pb::StatusReply::default()
    }
}

/// The second of three rules wins, through the ALG.
pub fn explanation() -> pb::ExplainReply {
    let considered = |rule: &str, action: pb::Action, matched, reason: &str| pb::Considered {
        rule: rule.into(),
        action: action.into(),
        matched,
        reason: reason.into(),
    };
    pb::ExplainReply {
        verdict: pb::Verdict::Nat.into(),
        rule: "pos/tills-to-head-office".into(),
        service: "pos/pptp-service".into(),
        alg: "pos/pptp".into(),
        external_address: "198.51.100.1".into(),
        considered: vec![
            considered("pos/web", pb::Action::Allow, false, "no service matches: callgate-system/http (TCP 80)"),
            considered("pos/tills-to-head-office", pb::Action::Nat, true, "matches"),
            considered("pos/rest", pb::Action::Drop, false, "not reached: an earlier rule matches"),
        ],
        from_address: "10.42.0.7".into(),
        from_pod: "pos/till-1".into(),
        note: String::new(),
        node: String::new(),
    }
}

/// PPTP from the tills to anywhere.
pub const CLASSIC: &str = "\
apiVersion: callgate.io/v1alpha1
kind: PptpAlg
metadata: {name: pptp, namespace: pos}
spec: {echoTimeout: 180s, idleTimeout: 0s}
---
apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {name: pptp-service, namespace: pos}
spec: {protocol: TCP, destinationPorts: \"1723\", algRef: {kind: PptpAlg, name: pptp}}
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: tills-to-head-office, namespace: pos}
spec:
  order: 100
  action: NAT
  source: {cidrs: [10.42.0.0/28], podSelector: {matchLabels: {app: till}}}
  destination: {cidrs: [0.0.0.0/0]}
  services: [{name: pptp-service}]
";

/// A till that runs and one that has no address yet.
pub const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: till-1, namespace: pos, labels: {app: till}}
status: {podIP: 10.42.0.7}
---
apiVersion: v1
kind: Pod
metadata: {name: till-2, namespace: pos, labels: {app: till}}
";

/// A name that leads nowhere, a value that does not exist, and a document that is not YAML.
pub const WRONG: &str = "\
# What the tills may see of the web.
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: web, namespace: pos}
spec:
  order: 200
  action: Allow
  source: {cidrs: [10.42.0.0/28]}
  destination: {cidrs: [0.0.0.0/0]}
  services: [{name: htp}]
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: rest, namespace: pos}
spec:
  order: 300
  action: Dorp
  source: {cidrs: [10.42.0.0/28]}
  destination: {cidrs: [0.0.0.0/0]}
  services: [{name: all-tcp}]
---
a: [
";

/// A rule whose every packet an earlier one takes.
pub const SHADOWED: &str = "\
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: late, namespace: pos}
spec:
  order: 300
  action: NAT
  source: {cidrs: [10.42.0.0/30]}
  destination: {cidrs: [10.0.0.0/8]}
  services: [{name: pptp-service}]
";
