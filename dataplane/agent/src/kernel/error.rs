//! What can go wrong between a configuration and the kernel.

use thiserror::Error;

use super::options::OptionError;
use super::tags::TagsExhausted;
use crate::netlink;

/// An error of `Kernel`; the text names the object, the field and the remedy.
#[derive(Debug, Error)]
pub enum Error {
    /// Not allowed to change the network.
    #[error(
        "changing links, routes and nftables needs root (CAP_NET_ADMIN and CAP_NET_RAW): {0}; start callgate-dataplane as root or with these capabilities"
    )]
    Privilege(String),
    /// A flag does not fit this node.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// More rules than connection tags.
    #[error(transparent)]
    Tags(#[from] TagsExhausted),
    /// The kernel refused a request, or netlink itself failed.
    #[error("{what}: {source}")]
    Netlink {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: netlink::Error,
    },
    /// A file under /proc/sys could not be read or written.
    #[error("sysctl {name}: {source}")]
    Sysctl {
        /// Dotted name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The record could not be made durable, so nothing that depends on it was done.
    #[error("saving the record of kernel changes: {0}; nothing was changed since")]
    Record(std::io::Error),
    /// Something of our name exists and is not ours.
    #[error("{0}")]
    Foreign(String),
    /// This kernel cannot do what the configuration asks.
    #[error("{0}")]
    Unsupported(String),
    /// One of the above, in what an object of the configuration needs.
    #[error("{source}")]
    Of {
        /// `Kind namespace/name`.
        object: String,
        /// What went wrong.
        source: Box<Error>,
    },
    /// Several steps failed; the others were carried out.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

impl Error {
    /// The object of the configuration at fault, as `Kind namespace/name`, where it is known.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Of { object, .. } => Some(object),
            Self::Privilege(_)
            | Self::Options(_)
            | Self::Tags(_)
            | Self::Netlink { .. }
            | Self::Sysctl { .. }
            | Self::Record(_)
            | Self::Foreign(_)
            | Self::Unsupported(_) => None,
            Self::Several(errors) => errors.iter().find_map(Self::object),
        }
    }

    /// The first of all that went wrong, and what else did, each said once.
    pub(crate) fn joined(self, more: impl IntoIterator<Item = Self>) -> Self {
        let mut errors = vec![self];
        for error in more {
            if errors.iter().all(|known| known.to_string() != error.to_string()) {
                errors.push(error);
            }
        }
        if errors.len() == 1 { errors.remove(0) } else { Self::Several(errors) }
    }

    /// `result`, unless something else went wrong too; then all that did.
    pub(crate) fn with<T>(result: Result<T, Self>, more: Option<Self>) -> Result<T, Self> {
        match (result, more) {
            (result, None) => result,
            (Ok(_), Some(error)) => Err(error),
            (Err(error), more) => Err(error.joined(more)),
        }
    }

    /// A netlink error with what was being done.
    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(netlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Netlink { what, source }
    }
}
