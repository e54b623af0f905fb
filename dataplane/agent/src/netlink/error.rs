//! Why a netlink request failed.

use thiserror::Error as ThisError;

/// An error of the kernel or of the netlink socket.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Error {
    /// The kernel refused the request; with its own words where it gave any (NLM_F ext ack).
    #[error("{}{}", .errno.desc(), .message.as_deref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Kernel {
        /// The error number.
        errno: nix::errno::Errno,
        /// The kernel's explanation.
        message: Option<String>,
    },
    /// The socket failed.
    #[error("netlink socket: {}", .0.desc())]
    Socket(nix::errno::Errno),
    /// No answer in time.
    #[error("the kernel did not answer within {0:?}")]
    Silent(std::time::Duration),
    /// An answer that does not follow the protocol.
    #[error("netlink answer not understood: {0}")]
    Protocol(&'static str),
}

impl Error {
    /// A failure of the socket itself.
    pub(super) fn socket(error: std::io::Error) -> Self {
        Self::Socket(nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    }
}
