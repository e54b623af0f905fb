//! The numbers and names Callgate uses in a node's kernel, and the checks that keep them off everybody else's.

use std::fmt;
use std::str::FromStr;

use callgate_proto::model::PortRange;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Some bits of a 32-bit packet mark: `mark & mask == value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkBits {
    /// What the bits under `mask` are set to; no bit outside `mask`.
    pub value: u32,
    /// Which bits are ours.
    pub mask: u32,
}

impl fmt::Display for MarkBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

impl FromStr for MarkBits {
    type Err = String;

    /// `VALUE/MASK` or `VALUE` alone (then the mask is the value), decimal or 0x hexadecimal.
    fn from_str(text: &str) -> Result<Self, String> {
        let (value, mask) = text.split_once('/').unwrap_or((text, text));
        Ok(Self { value: parse_u32(value)?, mask: parse_u32(mask)? })
    }
}

/// Reads a decimal or 0x hexadecimal 32-bit number; for flags such as `--tag-mask`.
pub fn parse_u32(text: &str) -> Result<u32, String> {
    let text = text.trim();
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a 32-bit number (write 4194304 or 0x400000)"))
}

/// A list of inclusive port ranges, as a flag writes it: `10000-29999,61000-65535`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRanges(pub Vec<PortRange>);

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match range.first == range.last {
                true => write!(f, "{comma}{}", range.first)?,
                false => write!(f, "{comma}{}-{}", range.first, range.last)?,
            }
        }
        Ok(())
    }
}

impl FromStr for PortRanges {
    type Err = String;

    /// Sorted by first port; overlaps are refused.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
            let port = |p: &str| p.trim().parse::<u16>().map_err(|_| format!("{p:?} is not a port (0-65535)"));
            let range = PortRange { first: port(first)?, last: port(last)? };
            if range.first > range.last {
                return Err(format!("{part:?} ends before it begins"));
            }
            ranges.push(range);
        }
        ranges.sort();
        match ranges.windows(2).find(|pair| pair[1].first <= pair[0].last) {
            Some(pair) => Err(format!("{}-{} is listed twice", pair[1].first, pair[1].last.min(pair[0].last))),
            None => Ok(Self(ranges)),
        }
    }
}

/// Everything that could clash with another tenant of the node. The defaults are the table in docs/dataplane.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Packet mark that steers to the ALG (`--steer-mark`).
    pub steer: MarkBits,
    /// Packet mark of everything the ALG sends (`--sent-mark`); set it with SO_MARK on the raw socket.
    pub sent: MarkBits,
    /// Bits of the connection mark that hold the rule tag (`--tag-mask`): 11 in a row.
    pub tag_mask: u32,
    /// Routing table with the one route into `steer_link` (`--route-table`).
    pub route_table: u32,
    /// Priority of the last of our policy routing rules, which are five in a row (`--rule-priority`).
    pub rule_priority: u32,
    /// The end of the veth pair that steered packets are routed into (`--steer-link`).
    pub steer_link: String,
    /// The end the ALG reads with AF_PACKET (`--tap-link`).
    pub tap_link: String,
    /// Name of the nftables table, family ip (`--nft-table`).
    pub nft_table: String,
    /// External TCP ports of control connections (`--external-ports`).
    pub external_ports: PortRanges,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            steer: MarkBits { value: 0x0020_0000, mask: 0x0020_0000 },
            sent: MarkBits { value: 0x0040_0000, mask: 0x0040_0000 },
            tag_mask: 0xffe0_0000,
            route_table: 7411,
            // Behind a CNI's rule of a pod's own route nothing would be steered: docs/dataplane.md says who is where.
            rule_priority: 95,
            steer_link: "callgate0".into(),
            tap_link: "callgate1".into(),
            nft_table: "callgate".into(),
            external_ports: PortRanges(vec![
                PortRange { first: 10000, last: 29999 },
                PortRange { first: 61000, last: 65535 },
            ]),
        }
    }
}

/// Mark bits others are known to use (facts: their sources and documentation), with who does.
const FOREIGN_MARKS: &[(u32, &str)] = &[
    (0x0000_4000, "kube-proxy (masquerade)"),
    (0x0000_8000, "kube-proxy (drop)"),
    (0x0008_0000, "Calico"),
    (0x0000_03f0, "OVN-Kubernetes"),
    (0x0017_45ec, "OVN-Kubernetes"),
    (0x0000_0f00, "Cilium"),
    (0x0000_2000, "the CNI portmap plugin"),
    (0x0000_0080, "the AWS VPC CNI"),
];

/// Width of a rule tag in the connection mark.
pub const TAG_BITS: u32 = 11;

/// What is wrong with an `Options`, naming the flag and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("--{flag} {value}: {problem}; {remedy}")]
pub struct OptionError {
    /// The flag without its dashes.
    pub flag: &'static str,
    /// What was given.
    pub value: String,
    /// Why that cannot work.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl Options {
    /// Checks everything that can be checked without a kernel.
    pub fn validate(&self) -> Result<(), OptionError> {
        for (flag, bits) in [("steer-mark", self.steer), ("sent-mark", self.sent)] {
            if bits.value == 0 || bits.value & !bits.mask != 0 {
                return Err(error(flag, bits, "the value must be non-zero and inside its mask", "write VALUE/MASK"));
            }
            not_foreign(flag, &bits.to_string(), bits.mask)?;
        }
        if self.steer.mask & self.sent.mask != 0 {
            let problem = format!("shares bits with --steer-mark {}", self.steer);
            return Err(error("sent-mark", self.sent, problem, "choose other bits for one of them"));
        }
        let tag = format!("{:#x}", self.tag_mask);
        if self.tag_mask == 0 || self.tag_mask >> self.tag_mask.trailing_zeros() != (1 << TAG_BITS) - 1 {
            return Err(error("tag-mask", tag, "must be 11 bits in a row", "for instance 0xffe00000"));
        }
        not_foreign("tag-mask", &tag, self.tag_mask)?;
        self.validate_routing()?;
        self.validate_names()?;
        self.validate_ports()
    }

    /// Packet mark of what the ALG gives to the kernel's own TCP (the shared mode): both of the others at once, which no
    /// other packet has.
    pub fn inward(&self) -> MarkBits {
        MarkBits { value: self.steer.value | self.sent.value, mask: self.steer.mask | self.sent.mask }
    }

    /// Routing table with the one route that delivers such packets here, whatever their destination.
    pub fn inward_table(&self) -> u32 {
        self.route_table + 1
    }

    /// The connection mark of a tag.
    pub fn tag_mark(&self, tag: u16) -> u32 {
        u32::from(tag) << self.tag_mask.trailing_zeros()
    }

    fn validate_routing(&self) -> Result<(), OptionError> {
        if matches!(self.route_table, 0 | 252..=255 | u32::MAX) {
            return Err(error(
                "route-table",
                self.route_table,
                "it or the one behind it, which is ours too, belongs to the kernel",
                "choose any other, such as 7411",
            ));
        }
        if !(5..=32765).contains(&self.rule_priority) {
            let problem = "must come after table local (0) and before table main (32766)";
            return Err(error("rule-priority", self.rule_priority, problem, "choose 5 to 32765, such as 95"));
        }
        Ok(())
    }

    fn validate_names(&self) -> Result<(), OptionError> {
        for (flag, name) in [("steer-link", &self.steer_link), ("tap-link", &self.tap_link)] {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.len() > 15 || !name.chars().all(legal) || name == "." || name == ".." {
                let problem = "is not a link name of 1 to 15 letters, digits, '-', '_' or '.'";
                return Err(error(flag, name, problem, "choose one, such as callgate0"));
            }
        }
        if self.steer_link == self.tap_link {
            return Err(error("tap-link", &self.tap_link, "is also --steer-link", "name the two ends differently"));
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !self.nft_table.starts_with(|c: char| c.is_ascii_alphabetic())
            || !self.nft_table.chars().all(legal)
            || self.nft_table.len() > 31
        {
            let problem = "is not a table name: a letter, then letters, digits or '_', 31 at most";
            return Err(error("nft-table", &self.nft_table, problem, "choose one, such as callgate"));
        }
        Ok(())
    }

    fn validate_ports(&self) -> Result<(), OptionError> {
        let ranges = &self.external_ports;
        if ranges.0.is_empty() {
            return Err(error("external-ports", ranges, "is empty", "give at least one range, such as 10000-29999"));
        }
        for range in &ranges.0 {
            if range.first < 1024 {
                let problem = format!("{}-{} reaches into the privileged ports", range.first, range.last);
                return Err(error("external-ports", ranges, problem, "begin at 1024 or above"));
            }
        }
        Ok(())
    }

    /// Whether the external ports keep off those of the host's own connections.
    pub fn keep_off(&self, local: &LocalPorts) -> Result<(), OptionError> {
        let ranges = &self.external_ports;
        let PortRange { first, last } = local.range;
        match ranges.0.iter().find(|range| local.takes_of(**range)) {
            None => Ok(()),
            Some(range) => {
                let problem = format!(
                    "{}-{} overlaps net.ipv4.ip_local_port_range {first}-{last}, whose ports the host's own connections use",
                    range.first, range.last
                );
                let (from, to) = (range.first.max(first), range.last.min(last));
                let remedy = format!(
                    "choose ranges outside it, narrow that sysctl, or add {from}-{to} to net.ipv4.ip_local_reserved_ports, which keeps \
                     those connections off"
                );
                Err(error("external-ports", ranges, problem, remedy))
            }
        }
    }
}

/// Ports that the kernel gives to connections of the host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPorts {
    /// `net.ipv4.ip_local_port_range`.
    pub range: PortRange,
    /// But for these: `net.ipv4.ip_local_reserved_ports`.
    pub reserved: PortRanges,
}

impl LocalPorts {
    /// Whether any of `range` is among them.
    fn takes_of(&self, range: PortRange) -> bool {
        let last = u32::from(range.last.min(self.range.last));
        let mut first = u32::from(range.first.max(self.range.first));
        // Sorted, as the kernel lists them.
        for reserved in &self.reserved.0 {
            if (u32::from(reserved.first)..=u32::from(reserved.last)).contains(&first) {
                first = u32::from(reserved.last) + 1;
            }
        }
        first <= last
    }
}

fn error(
    flag: &'static str,
    value: impl fmt::Display,
    problem: impl Into<String>,
    remedy: impl Into<String>,
) -> OptionError {
    OptionError { flag, value: value.to_string(), problem: problem.into(), remedy: remedy.into() }
}

fn not_foreign(flag: &'static str, value: &str, mask: u32) -> Result<(), OptionError> {
    match FOREIGN_MARKS.iter().find(|(bits, _)| bits & mask != 0) {
        None => Ok(()),
        Some((bits, who)) => Err(error(
            flag,
            value,
            format!("shares bits {:#x} with {who}", bits & mask),
            "choose bits from 0xffe00000, of which no known CNI uses any",
        )),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
