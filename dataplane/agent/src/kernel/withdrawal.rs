//! Takes single sources out of force at once, beside a `Kernel` that may be busy.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_proto::model::NodeConfig;
use nix::errno::Errno;

use super::{Error, Options, transaction};
use crate::netlink::socket::Socket;
use crate::netlink::{self, NETFILTER, conntrack};
use crate::nft::Batch;

/// Its own socket, so that it waits for nobody but the kernel.
pub(crate) struct Withdrawal {
    netfilter: Socket,
    table: String,
    tag_mask: u32,
}

impl Withdrawal {
    /// For the table and the marks of a `Kernel` with these options.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub(crate) fn open(options: &Options) -> Result<Self, Error> {
        let netfilter = Socket::open(NETFILTER).map_err(Error::netlink("opening a netfilter netlink socket"))?;
        Ok(Self { netfilter, table: options.nft_table.clone(), tag_mask: options.tag_mask })
    }

    /// No rule judges what comes from these addresses. `Kernel::withdraw` has to follow, or the next apply would not know.
    ///
    /// # Errors
    /// What the kernel refuses, but not that there is nothing to take away.
    pub(crate) fn sources(&mut self, sources: &BTreeSet<Ipv4Addr>) -> Result<(), Error> {
        take_out(&mut self.netfilter, &self.table, sources)
    }

    /// Our flows that these addresses began are in conntrack no more.
    ///
    /// # Errors
    /// When the kernel refuses to list or delete.
    pub(crate) fn flows(&mut self, sources: &BTreeSet<Ipv4Addr>) -> Result<(), Error> {
        forget(&mut self.netfilter, sources, self.tag_mask)
    }
}

/// Each on its own: that one is not there says nothing of the others.
pub(super) fn take_out(netfilter: &mut Socket, table: &str, sources: &BTreeSet<Ipv4Addr>) -> Result<(), Error> {
    for source in sources {
        let mut batch = Batch::new(table);
        batch.without_source(*source);
        match transaction::commit(netfilter, batch.finish(), table, &NodeConfig::default()) {
            Ok(()) => {}
            Err(Error::Netlink { source: netlink::Error::Kernel { errno: Errno::ENOENT, .. }, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn forget(netfilter: &mut Socket, sources: &BTreeSet<Ipv4Addr>, tag_mask: u32) -> Result<(), Error> {
    for source in sources {
        conntrack::flush_source(netfilter, *source, tag_mask)
            .map_err(Error::netlink(format!("deleting the flows of {source}, which is gone, from conntrack")))?;
    }
    Ok(())
}
