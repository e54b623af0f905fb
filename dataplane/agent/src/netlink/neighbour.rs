//! The link-layer address of a neighbour, as far as the kernel would send by it now.

use std::net::Ipv4Addr;

use nix::errno::Errno;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::rt::Rt;
use super::{Error, Routes};

impl Routes {
    /// The Ethernet address of `address` on link `ifindex`; `None` where the kernel would have to ask for it, or does not know it
    /// (before Linux 5.0 it cannot be asked for one).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn neighbour(&self, ifindex: u32, address: Ipv4Addr) -> Result<Option<[u8; 6]>, Error> {
        neighbour(self.connection(), ifindex, address)
    }
}

fn neighbour(rt: &Rt, ifindex: u32, address: Ipv4Addr) -> Result<Option<[u8; 6]>, Error> {
    let mut question = NeighbourMessage::default();
    question.header.family = AddressFamily::Inet;
    question.header.ifindex = ifindex;
    question.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(address))];
    let answers = match rt.request(&Message::GetNeighbour(question), 0) {
        Ok(answers) => answers,
        Err(Error::Kernel { errno: Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENODEV, .. }) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok(answers.into_iter().find_map(|answer| match answer {
        Message::NewNeighbour(neighbour) => known(&neighbour),
        _ => None,
    }))
}

/// In these states the kernel sends without asking first (NUD_VALID, include/net/neighbour.h).
fn known(neighbour: &NeighbourMessage) -> Option<[u8; 6]> {
    let sent_to = match neighbour.header.state {
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent => true,
        // Without address resolution there is nothing to keep, and the rest is not known.
        _ => false,
    };
    let address = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(address) => address.as_slice().try_into().ok(),
        _ => None,
    });
    address.filter(|_| sent_to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_while_the_kernel_sends_by_it() {
        let told = |state, address: &[u8]| {
            let mut message = NeighbourMessage::default();
            message.header.state = state;
            message.attributes = vec![NeighbourAttribute::LinkLayerAddress(address.to_vec())];
            known(&message)
        };
        let mac = [2, 0, 0, 0, 0, 1];
        let sent = [NeighbourState::Reachable, NeighbourState::Stale, NeighbourState::Delay, NeighbourState::Permanent];
        assert_eq!(sent.map(|state| told(state, &mac)), [Some(mac); 4]);
        assert_eq!([NeighbourState::Failed, NeighbourState::Incomplete].map(|state| told(state, &mac)), [None; 2]);
        assert_eq!(told(NeighbourState::Reachable, &mac[..4]), None);
        assert_eq!(known(&NeighbourMessage::default()), None);
    }
}
