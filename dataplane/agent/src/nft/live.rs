//! What lives on in the ALG whatever the rules say now: the ends of its connections.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::AddAssign;

use callgate_proto::model::PortRange;
use ipnet::{Ipv4Net, Ipv4Subnets};

use super::ruleset::Element;

/// Ends of connections, from which the kernel's own TCP and GRE are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// External addresses.
    pub(crate) own: BTreeSet<Ipv4Addr>,
    /// Clients that no rule with an ALG need know.
    pub(crate) clients: BTreeSet<Ipv4Addr>,
    /// Where servers are.
    pub(crate) servers: Vec<Ipv4Net>,
    /// Their TCP ports.
    pub(crate) ports: Vec<PortRange>,
}

impl AddAssign for Live {
    fn add_assign(&mut self, other: Self) {
        self.own.extend(other.own);
        self.clients.extend(other.clients);
        self.servers.extend(other.servers);
        self.ports.extend(other.ports);
    }
}

/// The blocks that an element of a set of address ranges covers.
pub(super) fn blocks(first: &[u8], element: &Element) -> Option<Ipv4Subnets> {
    let first = u32::from_be_bytes(first.try_into().ok()?);
    let last = match &element.end {
        Some(end) => u32::from_be_bytes(end[..].try_into().ok()?).checked_sub(1)?,
        None => u32::MAX,
    };
    Some(Ipv4Subnets::new(first.into(), last.into(), 0))
}

/// The range that an element of a set of port ranges is.
pub(super) fn range(first: &[u8], element: &Element) -> Option<PortRange> {
    let first = u16::from_be_bytes(first.try_into().ok()?);
    let last = match &element.end {
        Some(end) => u16::from_be_bytes(end[..].try_into().ok()?).checked_sub(1)?,
        None => u16::MAX,
    };
    Some(PortRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::super::ruleset::{Key, Set};
    use super::*;

    #[test]
    fn blocks_and_ranges_come_back_as_they_went_in() {
        let nets: Vec<Ipv4Net> = ["0.0.0.0/1", "192.0.2.10/32", "255.0.0.0/8"].map(|net| net.parse().unwrap()).into();
        let mut set = Set::ranges(Key::Address);
        nets.iter().for_each(|net| set.block(*net, None));
        let back: Vec<Ipv4Net> =
            set.elements.iter().flat_map(|(first, element)| blocks(first, element).unwrap()).collect();
        assert_eq!(back, nets);
        let ranges = [
            PortRange { first: 0, last: 0 },
            PortRange { first: 1723, last: 1800 },
            PortRange { first: 9000, last: 65_535 },
        ];
        let mut set = Set::ranges(Key::Port);
        ranges.iter().for_each(|range| set.ports(range.first, range.last));
        let back: Vec<PortRange> = set.elements.iter().filter_map(|(first, element)| range(first, element)).collect();
        assert_eq!(back, ranges);
    }
}
