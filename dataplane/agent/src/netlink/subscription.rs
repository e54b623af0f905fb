//! A socket that hears what the kernel tells to multicast groups of one netlink protocol.

use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use nix::errno::Errno;

use super::Error;

/// A subscription in the network namespace of the thread that opened it.
pub(super) struct Subscription(TokioSocket);

impl Subscription {
    /// Subscribes; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket or a group.
    pub(super) fn open(protocol: isize, groups: &[u32]) -> Result<Self, Error> {
        let mut socket = TokioSocket::new(protocol).map_err(Error::socket)?;
        socket.socket_mut().bind_auto().map_err(Error::socket)?;
        for &group in groups {
            socket.socket_mut().add_membership(group).map_err(Error::socket)?;
        }
        Ok(Self(socket))
    }

    /// Waits for the next datagram; `None` when notifications were lost. Cancel-safe.
    ///
    /// # Errors
    /// When the socket fails.
    pub(super) async fn datagram(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self.0.recv_from_full().await {
            Ok((datagram, _)) => Ok(Some(datagram)),
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(None),
            Err(error) => Err(Error::socket(error)),
        }
    }
}
