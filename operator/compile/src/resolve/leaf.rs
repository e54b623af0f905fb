//! A leaf Service: its protocols and ports, its limits, its ALG.
use callgate_crds::conditions::Reason;
use callgate_crds::fields::{Duration, PortRange, Ports, ProtocolMatch};
use callgate_crds::{ServiceSpec, Timeouts};
use callgate_proto::model::{self, Match, ObjectKey};
use serde::{Deserialize, Serialize};

use super::lookup::Hints;
use super::{Algs, Report, Version, lookup};
use crate::status::Kind;
use crate::world::{Object, World};

/// IP protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;

/// A leaf service; its ALG by name, because indices are a node's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaf {
    pub(crate) key: ObjectKey,
    #[serde(flatten)]
    pub(crate) version: Version,
    pub(crate) matches: Vec<Match>,
    pub(crate) alg: Option<ObjectKey>,
    pub(crate) max_sessions: u32,
    pub(crate) forward_icmp_errors: bool,
    pub(crate) timeouts: Option<model::Timeouts>,
}

/// The leaf at `key`; the value is there only where the report is good.
pub(super) fn leaf(
    world: &World,
    algs: &Algs,
    hints: &mut Hints,
    key: &ObjectKey,
    object: &Object<ServiceSpec>,
) -> (Option<Leaf>, Report) {
    let spec = &object.spec;
    let mut report = Report::default();
    let matches = matches(spec, &mut report);
    let alg = spec.alg_ref.as_ref().and_then(|named| {
        let field = "spec.algRef.name";
        match lookup::find(world, algs, &key.namespace, &named.name) {
            Ok(found) => {
                if algs.get(&found).is_some_and(|(alg, _)| alg.is_none()) {
                    let message =
                        format!("PptpAlg {found} is not accepted: mend it first, its status says what is wrong");
                    report.add(Reason::RefNotAccepted, field, message);
                }
                Some(found)
            }
            Err(places) => {
                let looked_in = [key.namespace.as_str(), world.operator_namespace.as_str()];
                let refused = lookup::refused(world, Kind::PptpAlg, looked_in, &named.name);
                let message = refused.unwrap_or_else(|| {
                    let hint = hints.nearest(algs, &key.namespace, looked_in, &named.name);
                    format!("there is no PptpAlg {} in {places}{hint}: create it, or correct the name", named.name)
                });
                report.add(Reason::AlgNotFound, field, message);
                None
            }
        }
    });
    if alg.is_some() {
        check_alg_match(&matches, &mut report);
    }
    let timeouts = spec.timeouts.as_ref().and_then(|timeouts| seconds(timeouts, &mut report));
    note_what_is_not_used(spec, &matches, &mut report);
    let leaf = Leaf {
        key: key.clone(),
        version: Version::of(&object.meta),
        matches,
        alg,
        max_sessions: spec.max_sessions,
        forward_icmp_errors: spec.forward_icmp_errors,
        timeouts,
    };
    (report.is_good().then_some(leaf), report)
}

fn matches(spec: &ServiceSpec, report: &mut Report) -> Vec<Match> {
    let Some(protocol) = &spec.protocol else {
        let message = "a service needs a protocol (TCP, UDP, TCPUDP, ICMP, ANY or a number), or members to be a group";
        report.add(Reason::Invalid, "spec.protocol", message);
        return Vec::new();
    };
    let protocol = match protocol.resolve() {
        Ok(protocol) => protocol,
        Err(error) => {
            report.add(Reason::Invalid, "spec.protocol", error.to_string());
            return Vec::new();
        }
    };
    let source_ports = ports(Some(&spec.source_ports), "spec.sourcePorts", report);
    let destination_ports = ports(spec.destination_ports.as_ref(), "spec.destinationPorts", report);
    if !protocol.has_ports() {
        for (field, listed) in [("spec.sourcePorts", &source_ports), ("spec.destinationPorts", &destination_ports)] {
            if !listed.is_empty() {
                let message =
                    "only TCP, UDP and TCPUDP, written by name, have ports: remove it, or change spec.protocol";
                report.add(Reason::Invalid, field, message);
            }
        }
    }
    let one =
        |protocol| Match { protocol, source_ports: source_ports.clone(), destination_ports: destination_ports.clone() };
    match protocol {
        ProtocolMatch::Tcp => vec![one(Some(TCP))],
        ProtocolMatch::Udp => vec![one(Some(UDP))],
        ProtocolMatch::TcpUdp => vec![one(Some(TCP)), one(Some(UDP))],
        ProtocolMatch::Icmp => vec![one(Some(ICMP))],
        ProtocolMatch::Any => vec![one(None)],
        ProtocolMatch::Number(number) => vec![one(Some(number))],
    }
}

/// Sorted, disjoint ranges; empty where every port is meant.
fn ports(ports: Option<&Ports>, field: &str, report: &mut Report) -> Vec<model::PortRange> {
    let ranges = match ports.map(Ports::ranges) {
        None => Vec::new(),
        Some(Ok(ranges)) => ranges,
        Some(Err(error)) => {
            report.add(Reason::Invalid, field, error.to_string());
            Vec::new()
        }
    };
    if ranges == [PortRange { first: 0, last: u16::MAX }] {
        return Vec::new();
    }
    ranges.into_iter().map(|range| model::PortRange { first: range.first, last: range.last }).collect()
}

/// The ALG takes whole flows, so its service must say which: TCP, with destination ports.
fn check_alg_match(matches: &[Match], report: &mut Report) {
    let tcp_only = matches.iter().all(|entry| entry.protocol == Some(TCP));
    if !tcp_only {
        let message = "the PPTP ALG treats TCP only (GRE belongs to its call and needs no service): write protocol: TCP, \
                       or remove spec.algRef";
        report.add(Reason::Invalid, "spec.protocol", message);
    } else if matches.iter().any(|entry| entry.destination_ports.is_empty()) {
        let message = "the ALG would take over every TCP connection: write its ports, \"1723\" for PPTP, or remove \
                       spec.algRef";
        report.add(Reason::Invalid, "spec.destinationPorts", message);
    }
}

/// Fields that this service has and that change nothing.
fn note_what_is_not_used(spec: &ServiceSpec, matches: &[Match], report: &mut Report) {
    let timed = |entry: &Match| entry.protocol.is_none_or(|protocol| [ICMP, TCP, UDP, GRE].contains(&protocol));
    if spec.timeouts.is_some() && spec.alg_ref.is_some() {
        let message =
            "is not used, the ALG keeps time itself: remove it, and write echoTimeout and idleTimeout of the PptpAlg";
        report.add(Reason::Accepted, "spec.timeouts", message);
    } else if spec.timeouts.is_some() && !matches.is_empty() && !matches.iter().any(timed) {
        let message =
            "is not used, connection tracking has time-outs of its own for TCP, UDP, ICMP and GRE only: remove it";
        report.add(Reason::Accepted, "spec.timeouts", message);
    }
    if !spec.forward_icmp_errors && spec.alg_ref.is_some() {
        let message = "is not used, the ALG judges ICMP errors itself: remove it";
        report.add(Reason::Accepted, "spec.forwardIcmpErrors", message);
    }
}

/// `None` where all of them keep the kernel's.
fn seconds(timeouts: &Timeouts, report: &mut Report) -> Option<model::Timeouts> {
    let mut read = |duration: &Option<Duration>, field: &str| match duration.as_ref().map(Duration::seconds) {
        None => 0,
        Some(Ok(seconds)) => seconds,
        Some(Err(error)) => {
            report.add(Reason::Invalid, field, error.to_string());
            0
        }
    };
    let read = model::Timeouts {
        initial: read(&timeouts.initial, "spec.timeouts.initial"),
        established: read(&timeouts.established, "spec.timeouts.established"),
        closing: read(&timeouts.closing, "spec.timeouts.closing"),
    };
    (read.initial != 0 || read.established != 0 || read.closing != 0).then_some(read)
}
