//! The file by which one process hands the shared mode to the next: connections without sockets, and what they were for.

use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use callgate_pptp::Now;
use callgate_pptp::shared::{Frozen, Leg};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ends::End;
use super::outbox::Outbox;
use super::repair::Lifted;
use crate::state::{HANDOVER, write_whole};

/// The form of the file; that of the state within has a number of its own.
const VERSION: u32 = 1;

/// How old it may be, ms. RFC 2637 §4.2 has an end ask after a silence of 60 s and give up 60 s later; whoever has said something
/// meanwhile that nobody acknowledged gives up in the same order of time.
pub(super) const LIMIT: u64 = 120_000;

/// A connection of a leg, as its process left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) leg: Leg,
    pub(super) end: End,
    pub(super) tcp: Lifted,
    /// Beside the rest in the file.
    #[serde(flatten)]
    pub(super) outbox: Outbox,
}

impl Kept {
    /// Whether the connection's ends are those it was for.
    pub(super) fn is_sound(&self) -> bool {
        let ends = match self.end {
            End::Client(flow) => {
                let (client, server) = ((flow.client, flow.client_port), (flow.server, flow.server_port));
                (SocketAddrV4::new(server.0, server.1), SocketAddrV4::new(client.0, client.1))
            }
            End::Server(outer) => (outer.external, outer.server),
        };
        matches!((self.leg, self.end), (Leg::Client(_), End::Client(_)) | (Leg::Upstream(_), End::Server(_)))
            && self.tcp.ends() == ends
    }
}

/// What is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handover<S> {
    version: u32,
    /// When the sockets were closed.
    pub(super) at: Now,
    pub(super) lines: Vec<Kept>,
    /// Connections that are over, but whose last segments may still come, until then.
    pub(super) leaving: Vec<(End, Now)>,
    pub(super) state: S,
}

/// What was found of it.
pub(super) struct Found {
    pub(super) handover: Handover<()>,
    /// What the connections were for, or why that cannot be told.
    pub(super) state: Result<Frozen, String>,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    /// In this state directory.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join(HANDOVER) }
    }

    /// Whether something was handed over and not taken yet.
    pub(crate) fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Hands over.
    ///
    /// # Errors
    /// When it cannot be written; there is then nothing.
    pub(super) fn put(&self, at: Now, lines: &[Kept], leaving: Vec<(End, Now)>, state: &Frozen) -> io::Result<()> {
        let handover = Handover { version: VERSION, at, lines: lines.to_vec(), leaving, state };
        write_whole(&self.path, &serde_json::to_vec(&handover)?)
    }

    /// Takes it, so that nobody else does: what it says of sequence numbers is true once.
    ///
    /// # Errors
    /// Why not even the connections can be told.
    pub(super) fn take(&self) -> Result<Option<Found>, String> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        std::fs::remove_file(&self.path).map_err(|error| format!("it cannot be removed: {error}"))?;
        let Handover::<Value> { version, at, lines, leaving, state } =
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let state = if version == VERSION {
            serde_json::from_value(state).map_err(|error| error.to_string())
        } else {
            Err(format!("it has version {version}, and this agent reads version {VERSION}"))
        };
        Ok(Some(Found { handover: Handover { version, at, lines, leaving, state: () }, state }))
    }

    /// Which file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use callgate_pptp::Limits;
    use callgate_pptp::shared::{Config, Shared};

    use super::*;

    fn frozen() -> Frozen {
        Shared::new(Config::default(), Limits::default(), 1).freeze(Now(7))
    }

    #[test]
    fn it_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path());
        assert!(place.take().unwrap().is_none() && !place.is_there());
        place.put(Now(7), &[], Vec::new(), &frozen()).unwrap();
        assert!(place.is_there());
        let found = place.take().unwrap().unwrap();
        assert_eq!((found.handover.at, found.handover.lines, found.state), (Now(7), vec![], Ok(frozen())));
        assert!(place.take().unwrap().is_none() && !place.is_there());
    }

    fn kept() -> Value {
        let tcp = serde_json::json!({
            "local": "192.0.2.1:10001", "remote": "203.0.113.7:1723", "send_next": 1, "receive_next": 1, "send": [], "unsent": 0,
            "receive": [], "mss": 1448, "scales": null, "sack": true, "timestamp": null,
            "window": { "snd_wl1": 1, "snd_wnd": 1, "max_window": 1, "rcv_wnd": 1, "rcv_wup": 1 },
        });
        let end = serde_json::json!({ "Server": { "external": "192.0.2.1:10001", "server": "203.0.113.7:1723" } });
        serde_json::json!({ "leg": { "Upstream": 1 }, "end": end, "tcp": tcp, "waiting": [[1, 2, 3], [4]], "taken": 2 })
    }

    #[test]
    fn what_an_agent_before_has_written_of_a_connection_can_be_read() {
        let text = kept();
        let kept: Kept = serde_json::from_value(text.clone()).unwrap();
        assert_eq!((kept.outbox.next(), kept.is_sound()), (Some(&[3][..]), true));
        // And it could read what is written now, which says one thing more.
        let mut written = serde_json::to_value(kept).unwrap();
        assert_eq!(written.as_object_mut().unwrap().remove("told"), Some(0.into()));
        assert_eq!(written, text);
    }

    #[test]
    fn of_another_version_the_connections_are_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path());
        place.put(Now(7), &[], Vec::new(), &frozen()).unwrap();
        let text = std::fs::read_to_string(place.path()).unwrap();
        let newer = text.replacen("\"version\":1", "\"version\":2", 1);
        std::fs::write(place.path(), newer).unwrap();
        let found = place.take().unwrap().unwrap();
        assert_eq!(found.state, Err("it has version 2, and this agent reads version 1".into()));
        std::fs::write(place.path(), text.replace("\"policies\"", "\"politics\"")).unwrap();
        let why = place.take().unwrap().unwrap().state.unwrap_err();
        assert!(why.contains("missing field `policies`"), "{why}");
    }

    #[test]
    fn rubbish_is_an_error_and_gone() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path());
        for rubbish in ["", "{", "[1,2]", "\u{0}\u{1}", "{\"version\":1}"] {
            std::fs::write(place.path(), rubbish).unwrap();
            assert!(place.take().is_err(), "{rubbish:?}");
            assert!(!place.is_there());
        }
    }
}
