//! callgate-ppp: a PPP end for PPTP peers without a kernel that has PPP; stands where pppd would.
//!
//! Server, started by pptpctrl (pptpd.conf: `ppp /path/to/callgate-ppp`):
//! `callgate-ppp local SPEED LOCAL:REMOTE ipparam IP remotenumber IP`.
//! Client, on the other end of a socket pair or pty from `pptp SERVER --nolaunchpppd`: `callgate-ppp client`.
//! Client that starts pptp itself: `callgate-ppp dial SERVER [PPTP OPTION...]`.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;

use anyhow::Context as _;
use callgate_e2e::ppp::dial::dial;
use callgate_e2e::ppp::ipcp::Ipcp;
use callgate_e2e::ppp::run::{End, run};
use nix::sys::signal::{SigHandler, Signal, signal};

/// pppd's exit code for a link that the peer ended.
const EXIT_PEER: u8 = 16;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut log = Log::open();
    // pptpctrl leaves SIGCHLD ignored: then nobody can wait for `ip`.
    // SAFETY: the default action takes no handler; nothing else runs yet.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    match link(&args, &mut log) {
        Ok(End::LineClosed) => {
            log.say("down the line was closed");
            ExitCode::SUCCESS
        }
        Ok(End::Signal) => ExitCode::SUCCESS,
        Ok(End::Peer(_)) => ExitCode::from(EXIT_PEER),
        Err(error) => {
            log.say(&format!("failed {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs the link that the arguments ask for to its end.
fn link(args: &[String], log: &mut Log) -> anyhow::Result<End> {
    let dialled = match args {
        [word, server, options @ ..] if word == "dial" => Some(dial(server, options)?),
        _ => None,
    };
    let ipcp = if dialled.is_some() { Ipcp::client() } else { addresses(args)? };
    run(ipcp, std::process::id(), &mut |line| log.say(line))
}

/// What pptpctrl's arguments, or `client`, say about addresses.
fn addresses(args: &[String]) -> anyhow::Result<Ipcp> {
    if args.first().is_some_and(|first| first == "client") {
        return Ok(Ipcp::client());
    }
    let pair = args.iter().find_map(|arg| {
        let (local, remote) = arg.split_once(':')?;
        Some((local.parse::<Ipv4Addr>().ok()?, remote.parse::<Ipv4Addr>().ok()?))
    });
    let (local, remote) = pair
        .context("usage: callgate-ppp client | callgate-ppp dial SERVER | callgate-ppp local SPEED LOCAL:REMOTE ...")?;
    Ok(Ipcp::server(local, remote))
}

/// Syslog where there is one (pptpctrl closes stderr), else stderr.
struct Log(Option<UnixDatagram>);

impl Log {
    fn open() -> Self {
        Self(UnixDatagram::unbound().and_then(|socket| socket.connect("/dev/log").map(|()| socket)).ok())
    }

    fn say(&mut self, line: &str) {
        // Facility daemon, severity info (RFC 3164 section 4.1.1).
        let sent =
            self.0.as_ref().map(|log| log.send(format!("<30>callgate-ppp[{}]: {line}", std::process::id()).as_bytes()));
        if !matches!(sent, Some(Ok(_))) {
            eprintln!("callgate-ppp: {line}");
        }
    }
}
