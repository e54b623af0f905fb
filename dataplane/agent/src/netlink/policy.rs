//! Policy routing: rules by mark, and the one route of our table.

use std::net::Ipv4Addr;

use nix::errno::Errno;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::Error;
use super::rt::Rt;

/// `[iif LINK] [oif LINK] fwmark mark/mask lookup table` at this priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MarkRule {
    /// Only for packets from this link.
    pub(crate) from: Option<String>,
    /// Only for what a socket bound to this link sends.
    pub(crate) to: Option<String>,
    /// Value of the mark.
    pub(crate) mark: u32,
    /// Bits of the mark that count.
    pub(crate) mask: u32,
    /// Routing table.
    pub(crate) table: u32,
    /// Priority.
    pub(crate) priority: u32,
}

/// A rule of IPv4 without anything.
fn ipv4() -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = AddressFamily::Inet;
    rule
}

impl MarkRule {
    fn message(&self) -> RuleMessage {
        let mut rule = ipv4();
        rule.header.action = RuleAction::ToTable;
        rule.attributes = vec![
            RuleAttribute::Priority(self.priority),
            RuleAttribute::FwMark(self.mark),
            RuleAttribute::FwMask(self.mask),
            RuleAttribute::Table(self.table),
        ];
        rule.attributes.extend(self.from.clone().map(RuleAttribute::Iifname));
        rule.attributes.extend(self.to.clone().map(RuleAttribute::Oifname));
        rule
    }

    fn read(message: Message) -> Option<Self> {
        let Message::NewRule(RuleMessage { attributes, .. }) = message else { return None };
        let number = |of: fn(&RuleAttribute) -> Option<u32>| attributes.iter().find_map(of);
        let from =
            attributes.iter().find_map(|a| if let RuleAttribute::Iifname(v) = a { Some(v.clone()) } else { None });
        let to = attributes.iter().find_map(|a| if let RuleAttribute::Oifname(v) = a { Some(v.clone()) } else { None });
        Some(Self {
            from,
            to,
            mark: number(|a| if let RuleAttribute::FwMark(v) = a { Some(*v) } else { None })?,
            mask: number(|a| if let RuleAttribute::FwMask(v) = a { Some(*v) } else { None })?,
            table: number(|a| if let RuleAttribute::Table(v) = a { Some(*v) } else { None })?,
            priority: number(|a| if let RuleAttribute::Priority(v) = a { Some(*v) } else { None })?,
        })
    }

    /// Every rule by mark.
    pub(crate) fn all(rt: &Rt) -> Result<Vec<Self>, Error> {
        let answers = rt.request(&Message::GetRule(ipv4()), NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(Self::read).collect())
    }

    /// Adds it.
    pub(crate) fn add(&self, rt: &Rt) -> Result<(), Error> {
        match rt.request(&Message::NewRule(self.message()), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) | Err(Error::Kernel { errno: Errno::EEXIST, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes it; one that is gone already is fine.
    pub(crate) fn remove(&self, rt: &Rt) -> Result<(), Error> {
        match rt.request(&Message::DelRule(self.message()), 0) {
            Ok(_) | Err(Error::Kernel { errno: Errno::ENOENT, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// One route of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableRoute {
    /// It is the default route.
    pub(crate) default: bool,
    /// It delivers to this host.
    pub(crate) local: bool,
    /// The link.
    pub(crate) link: u32,
    /// The next hop.
    pub(crate) gateway: Option<Ipv4Addr>,
}

impl TableRoute {
    /// The route, if it is one of `table`.
    fn read(message: Message, table: u32) -> Option<Self> {
        let Message::NewRoute(RouteMessage { header, attributes, .. }) = message else { return None };
        let mut route = Self { default: true, local: header.kind == RouteType::Local, link: 0, gateway: None };
        let mut of_table = false;
        for attribute in attributes {
            match attribute {
                RouteAttribute::Table(found) => of_table = found == table,
                RouteAttribute::Destination(_) => route.default = false,
                RouteAttribute::Oif(link) => route.link = link,
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => route.gateway = Some(gateway),
                _ => {}
            }
        }
        of_table.then_some(route)
    }
}

/// The IPv4 routes of one table.
pub(crate) fn routes(rt: &Rt, table: u32) -> Result<Vec<TableRoute>, Error> {
    let mut wanted = RouteMessage::default();
    wanted.header.address_family = AddressFamily::Inet;
    wanted.attributes = vec![RouteAttribute::Table(table)];
    match rt.request(&Message::GetRoute(wanted), NLM_F_DUMP) {
        Ok(answers) => Ok(answers.into_iter().filter_map(|answer| TableRoute::read(answer, table)).collect()),
        // A table that was never used does not exist.
        Err(Error::Kernel { errno: Errno::ENOENT, .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn default(table: u32, link: u32, gateway: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new().table_id(table).output_interface(link).gateway(gateway).onlink().build()
}

/// Adds the default route of a table, into a link, by a next hop that need not exist. It goes with the link.
pub(crate) fn add_default(rt: &Rt, table: u32, link: u32, gateway: Ipv4Addr) -> Result<(), Error> {
    rt.request(&Message::NewRoute(default(table, link, gateway)), NLM_F_CREATE | NLM_F_EXCL).map(drop)
}

/// Removes it; one that is gone already is fine.
pub(crate) fn remove_default(rt: &Rt, table: u32, link: u32, gateway: Ipv4Addr) -> Result<(), Error> {
    gone(rt.request(&Message::DelRoute(default(table, link, gateway)), 0))
}

/// The route that delivers every destination to this host, by the loopback link.
fn local(table: u32, loopback: u32) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .table_id(table)
        .output_interface(loopback)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .build()
}

/// Adds the route that delivers every destination to this host.
pub(crate) fn add_local(rt: &Rt, table: u32, loopback: u32) -> Result<(), Error> {
    rt.request(&Message::NewRoute(local(table, loopback)), NLM_F_CREATE | NLM_F_EXCL).map(drop)
}

/// Removes it; one that is gone already is fine.
pub(crate) fn remove_local(rt: &Rt, table: u32, loopback: u32) -> Result<(), Error> {
    gone(rt.request(&Message::DelRoute(local(table, loopback)), 0))
}

fn gone(removed: Result<Vec<Message>, Error>) -> Result<(), Error> {
    match removed {
        Ok(_) | Err(Error::Kernel { errno: Errno::ESRCH | Errno::ENOENT, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
