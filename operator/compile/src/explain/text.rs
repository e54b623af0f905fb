//! Explanations in words.
use std::fmt;

use callgate_proto::model::{Action, Match, PortRange, Service};

use super::{Explanation, Packet, Verdict, Why};

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, src_port, dst, dst_port, protocol } = self;
        match protocol {
            6 | 17 => write!(f, "{src}:{src_port} -> {dst}:{dst_port} {}", protocol_name(*protocol)),
            _ => write!(f, "{src} -> {dst} {}", protocol_name(*protocol)),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "not looked at: the destination is inside the cluster",
            Self::NotSelected => "not touched: no rule selects this source",
            Self::NoRule => "left to the CNI: no rule of this source matches",
            Self::Rule(Action::Nat) => "NAT",
            Self::Rule(Action::Allow) => "Allow",
            Self::Rule(Action::Drop) => "Drop",
            Self::Rule(Action::Reject) => "Reject",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched => f.write_str("matches"),
            Self::Source => f.write_str("does not select this source"),
            Self::Destination => f.write_str("destination is not in destination.cidrs, or is in destination.except"),
            Self::Later => f.write_str("not reached: an earlier rule matches"),
            Self::Services(services) => {
                f.write_str("no service matches: ")?;
                for (index, (key, matches)) in services.iter().enumerate() {
                    write!(f, "{}{key} ({matches})", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Explanation {
    /// The verdict first, then every rule in order, aligned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.packet)?;
        write!(f, "verdict: {}", self.verdict)?;
        for (label, key) in [(" by rule", &self.rule), (", service", &self.service), (", through ALG", &self.alg)] {
            if let Some(key) = key {
                write!(f, "{label} {key}")?;
            }
        }
        writeln!(f)?;
        let width = self.considered.iter().map(|one| one.rule.to_string().len()).max().unwrap_or(0);
        for one in &self.considered {
            writeln!(
                f,
                "  {:width$}  {:6}  {}",
                one.rule.to_string(),
                Verdict::Rule(one.action).to_string(),
                one.why,
                width = width
            )?;
        }
        Ok(())
    }
}

/// What a service matches, as people write it: `TCP 80,443`, `UDP 53 from 1024-65535`, `GRE`, `any`.
pub(super) fn matches(service: &Service) -> String {
    let entries: Vec<String> = service.matches.iter().map(entry).collect();
    entries.join(" or ")
}

fn entry(entry: &Match) -> String {
    let mut text = entry.protocol.map_or_else(|| "any".to_owned(), protocol_name);
    if !entry.destination_ports.is_empty() {
        text.push(' ');
        text.push_str(&ports(&entry.destination_ports));
    }
    if !entry.source_ports.is_empty() {
        text.push_str(" from ");
        text.push_str(&ports(&entry.source_ports));
    }
    text
}

fn ports(ranges: &[PortRange]) -> String {
    let parts: Vec<String> = ranges
        .iter()
        .map(|r| if r.first == r.last { r.first.to_string() } else { format!("{}-{}", r.first, r.last) })
        .collect();
    parts.join(",")
}

/// Protocols that are named, by their numbers (IANA).
pub const PROTOCOLS: [(&str, u8); 7] =
    [("ICMP", 1), ("TCP", 6), ("UDP", 17), ("GRE", 47), ("ESP", 50), ("AH", 51), ("SCTP", 132)];

/// The name of a protocol in upper case, or `IP protocol N`.
pub fn protocol_name(number: u8) -> String {
    match PROTOCOLS.iter().find(|(_, n)| *n == number) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("IP protocol {number}"),
    }
}
