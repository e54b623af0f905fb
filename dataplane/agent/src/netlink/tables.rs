//! Tells when somebody, ourselves too, has changed nftables.

use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use nix::errno::Errno;

use super::Error;

/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;

/// A subscription in the network namespace of the thread that opened it.
pub struct Tables {
    socket: TokioSocket,
}

impl Tables {
    /// Subscribes; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        let mut socket = TokioSocket::new(super::NETFILTER).map_err(failed)?;
        socket.socket_mut().bind_auto().map_err(failed)?;
        socket.socket_mut().add_membership(GROUP).map_err(failed)?;
        Ok(Self { socket })
    }

    /// Waits for the next notification; one change may cause several. Cancel-safe.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn next(&mut self) -> Result<(), Error> {
        match self.socket.recv_from_full().await {
            Ok(_) => Ok(()),
            // Notifications were lost: so there were some.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::Socket(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}
