//! Policy routing: rules by mark, and the one route of our table.

use std::net::Ipv4Addr;

use nix::errno::Errno;

use super::Error;
use super::attr::{Attrs, find, find_text, find_u32};
use super::socket::{CREATE, DUMP, EXCL, Socket};

const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
const GET_RULE: u16 = 34;

const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_MARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_MASK: u16 = 16;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;

const AF_INET: u8 = 2;
/// RTNH_F_ONLINK: the gateway need not be on a network of the link.
const ONLINK: u32 = 4;

/// `[iif LINK] fwmark mark/mask lookup table` at this priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MarkRule {
    /// Only for packets from this link.
    pub(crate) from: Option<String>,
    /// Value of the mark.
    pub(crate) mark: u32,
    /// Bits of the mark that count.
    pub(crate) mask: u32,
    /// Routing table.
    pub(crate) table: u32,
    /// Priority.
    pub(crate) priority: u32,
}

/// fib_rule_hdr; action 1 is "look up a table".
const RULE_HEADER: [u8; 12] = [AF_INET, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

impl MarkRule {
    fn body(&self) -> Vec<u8> {
        let attrs = Attrs::after(&RULE_HEADER)
            .u32(FRA_PRIORITY, self.priority)
            .u32(FRA_MARK, self.mark)
            .u32(FRA_MASK, self.mask)
            .u32(FRA_TABLE, self.table);
        match &self.from {
            Some(link) => attrs.text(FRA_IIFNAME, link).into_bytes(),
            None => attrs.into_bytes(),
        }
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let attrs = body.get(12..)?;
        Some(Self {
            from: find_text(attrs, FRA_IIFNAME),
            mark: find_u32(attrs, FRA_MARK)?,
            mask: find_u32(attrs, FRA_MASK)?,
            table: find_u32(attrs, FRA_TABLE)?,
            priority: find_u32(attrs, FRA_PRIORITY)?,
        })
    }

    /// Every rule by mark.
    pub(crate) fn all(socket: &mut Socket) -> Result<Vec<Self>, Error> {
        let answers = socket.request(GET_RULE, DUMP, &[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        Ok(answers.iter().filter_map(|(_, body)| Self::parse(body)).collect())
    }

    /// Adds it.
    pub(crate) fn add(&self, socket: &mut Socket) -> Result<(), Error> {
        match socket.request(NEW_RULE, CREATE | EXCL, &self.body()) {
            Ok(_) | Err(Error::Kernel { errno: Errno::EEXIST, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes it; one that is gone already is fine.
    pub(crate) fn remove(&self, socket: &mut Socket) -> Result<(), Error> {
        match socket.request(DELETE_RULE, 0, &self.body()) {
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
    /// The link.
    pub(crate) link: u32,
    /// The next hop.
    pub(crate) gateway: Option<Ipv4Addr>,
}

/// The IPv4 routes of one table.
pub(crate) fn routes(socket: &mut Socket, table: u32) -> Result<Vec<TableRoute>, Error> {
    let body = Attrs::after(&[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).u32(RTA_TABLE, table).into_bytes();
    let answers = match socket.request(GET_ROUTE, DUMP, &body) {
        // A table that was never used does not exist.
        Err(Error::Kernel { errno: Errno::ENOENT, .. }) => return Ok(Vec::new()),
        answers => answers?,
    };
    let of_table = answers.iter().filter_map(|(_, body)| {
        let attrs = body.get(12..)?;
        (find_u32(attrs, RTA_TABLE)? == table).then(|| TableRoute {
            default: find(attrs, RTA_DST).is_none(),
            link: find_u32(attrs, RTA_OIF).unwrap_or(0),
            gateway: find(attrs, RTA_GATEWAY).and_then(|g| <[u8; 4]>::try_from(g).ok()).map(Ipv4Addr::from),
        })
    });
    Ok(of_table.collect())
}

/// Adds the default route of a table, into a link, by a next hop that need not exist. It goes with the link.
pub(crate) fn add_default(socket: &mut Socket, table: u32, link: u32, gateway: Ipv4Addr) -> Result<(), Error> {
    // rtmsg: protocol 4 (static), scope 0 (universe), type 1 (unicast).
    let mut header = vec![AF_INET, 0, 0, 0, 0, 4, 0, 1];
    header.extend_from_slice(&ONLINK.to_ne_bytes());
    let attrs = Attrs::after(&header).u32(RTA_TABLE, table).bytes(RTA_GATEWAY, &gateway.octets()).u32(RTA_OIF, link);
    socket.request(NEW_ROUTE, CREATE | EXCL, &attrs.into_bytes()).map(|_| ())
}
