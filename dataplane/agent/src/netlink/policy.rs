//! The policy routing rule and the one route of our table.

use nix::errno::Errno;

use super::Error;
use super::attr::{Attrs, find};
use super::socket::{CREATE, DUMP, EXCL, Socket};

const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
const GET_RULE: u16 = 34;

const FRA_PRIORITY: u16 = 6;
const FRA_MARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_MASK: u16 = 16;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;

const AF_INET: u8 = 2;

/// `fwmark mark/mask lookup table` at this priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MarkRule {
    /// Value of the mark.
    pub(crate) mark: u32,
    /// Bits of the mark that count.
    pub(crate) mask: u32,
    /// Routing table.
    pub(crate) table: u32,
    /// Priority.
    pub(crate) priority: u32,
}

impl MarkRule {
    fn body(&self) -> Vec<u8> {
        // fib_rule_hdr; action 1 is "look up a table".
        Attrs::after(&[AF_INET, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
            .u32(FRA_PRIORITY, self.priority)
            .u32(FRA_MARK, self.mark)
            .u32(FRA_MASK, self.mask)
            .u32(FRA_TABLE, self.table)
            .into_bytes()
    }

    /// Whether this very rule is there.
    pub(crate) fn exists(&self, socket: &mut Socket) -> Result<bool, Error> {
        let answers = socket.request(GET_RULE, DUMP, &[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        let number = |attrs, kind| find(attrs, kind).and_then(|value| value.try_into().ok()).map(u32::from_ne_bytes);
        Ok(answers.iter().filter_map(|(_, body)| body.get(12..)).any(|attrs| {
            number(attrs, FRA_PRIORITY) == Some(self.priority)
                && number(attrs, FRA_MARK) == Some(self.mark)
                && number(attrs, FRA_MASK) == Some(self.mask)
                && number(attrs, FRA_TABLE) == Some(self.table)
        }))
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

/// The default route of a table, into a link. It goes with the link.
pub(crate) fn default_route(socket: &mut Socket, table: u32, link: u32) -> Result<(), Error> {
    // rtmsg: protocol 4 (static), scope 253 (link), type 1 (unicast).
    let body = Attrs::after(&[AF_INET, 0, 0, 0, 0, 4, 253, 1, 0, 0, 0, 0]).u32(RTA_TABLE, table).u32(RTA_OIF, link);
    match socket.request(NEW_ROUTE, CREATE | EXCL, &body.into_bytes()) {
        Ok(_) | Err(Error::Kernel { errno: Errno::EEXIST, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
