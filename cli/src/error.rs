//! What goes wrong, as a sentence with the remedy and an exit code.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use crate::cluster::ClusterError;

/// Exit code: done.
pub const OK: u8 = 0;
/// Exit code: `check` found problems.
pub const PROBLEMS: u8 = 1;
/// Exit code: wrong arguments, or files that cannot be read (clap uses it too).
pub const USAGE: u8 = 2;
/// Exit code: nobody answers: no agent on the socket, no operator in the cluster, or no right to ask it.
pub const NO_AGENT: u8 = 3;
/// Exit code: the agent or operator answered with an error.
pub const REFUSED: u8 = 4;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The agent that has this socket.
    Agent(PathBuf),
    /// The operator in this pod, "namespace/name".
    Operator(String),
}

impl Peer {
    /// What it is.
    pub fn who(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Operator(_) => "operator",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(socket) => write!(f, "the agent at {}", socket.display()),
            Self::Operator(pod) => write!(f, "the operator in pod {pod}"),
        }
    }
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifests cannot be read.
    #[error("{path}: {problem}", path = path.display())]
    Files {
        /// File or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The arguments contradict each other or name what is not there.
    #[error("{0}")]
    Usage(String),
    /// Nothing answers on the socket.
    #[error("{}", no_agent(socket, source))]
    NoAgent {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The cluster's operator cannot be reached.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Who was asked went away in the middle.
    #[error("{peer} does not answer: {message}")]
    Gone {
        /// Who.
        peer: Peer,
        /// What the transport said.
        message: String,
    },
    /// Who was asked answered with an error.
    #[error("the {who} says: {message}")]
    Refused {
        /// "agent" or "operator".
        who: &'static str,
        /// What it said.
        message: String,
    },
    /// The answer cannot be written out.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Files { .. } | Self::Usage(_) | Self::Output(_) => USAGE,
            Self::NoAgent { .. } | Self::Cluster(_) | Self::Gone { .. } => NO_AGENT,
            Self::Refused { .. } => REFUSED,
        }
    }

    /// Sorts a failed call into "gone" and "refused".
    pub fn from_status(peer: &Peer, status: &tonic::Status) -> Self {
        use tonic::Code;
        let who = peer.who();
        match status.code() {
            // What tonic itself reports for a broken connection.
            Code::Unavailable | Code::Unknown | Code::Cancelled => {
                Self::Gone { peer: peer.clone(), message: reason(status) }
            }
            Code::Unimplemented => {
                let message = format!("this request is not known to it; {who} and kubectl-callgate differ in version");
                Self::Refused { who, message }
            }
            Code::Ok
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => Self::Refused { who, message: status.message().to_owned() },
        }
    }
}

/// The innermost cause that says something, or the message.
fn reason(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text.clear();
        let _ = write!(text, "{error}");
        source = error.source();
    }
    if text.is_empty() { "the connection broke".into() } else { text }
}

fn no_agent(socket: &Path, error: &io::Error) -> String {
    let socket = socket.display();
    let start = "start one with `callgate-dataplane standalone --manifests DIR --state-dir DIR`";
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "no agent here: the socket {socket} does not exist; {start}, or pass --api SOCKET if its socket is elsewhere"
        ),
        io::ErrorKind::ConnectionRefused => format!(
            "no agent listens on {socket}: it is gone and left its socket behind; {start}, or pass --api SOCKET if \
             another one is meant"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "not permitted to use {socket}: the agent's API is for root alone; run this as root, or pass --api SOCKET"
        ),
        _ => format!("cannot connect to the agent's socket {socket}: {error}; pass --api SOCKET if it is elsewhere"),
    }
}
