//! Logs the engine's events in a thread of its own: a log that nobody reads must not stop packets.

use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use callgate_pptp::shared;
use callgate_pptp::{CallIds, Event, Severity};

use super::restraint::Restraint;

/// Events that may wait for the log: a few seconds of a storm of refusals.
const WAITING: usize = 8192;

/// After an event the thread waits for more of them without being woken by each: a wake-up costs the ALG more than an event.
const GATHER: Duration = Duration::from_millis(5);

/// An event of either mode.
#[derive(Debug)]
pub(crate) enum Note {
    /// Of the in-path mode, or in its words.
    InPath(Event),
    /// Of the shared mode.
    Shared(shared::Event),
}

/// Starts the thread; it ends when the sender is dropped and everything is logged.
///
/// # Errors
/// When no thread can be made.
pub(super) fn start() -> io::Result<(SyncSender<Note>, JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(WAITING);
    let thread = thread::Builder::new().name("events".into()).spawn(move || log_all(&receiver))?;
    Ok((sender, thread))
}

fn log_all(events: &Receiver<Note>) {
    let mut restraint = Restraint::default();
    while let Ok(first) = events.recv() {
        for note in std::iter::once(first).chain(events.try_iter()) {
            let held = match note.provoked() {
                Some(about) => restraint.due(about, Instant::now()),
                None => Some(0),
            };
            let Some(held) = held else { continue };
            let held = (held > 0).then_some(held);
            match note {
                Note::InPath(event) => log(&event, held),
                Note::Shared(event) => log_shared(&event, held),
            }
        }
        thread::sleep(GATHER);
    }
}

impl Note {
    /// Of what somebody can have happen without end: its name, and who it is. What begins and ends is each told: clients have no
    /// more of that than their share.
    fn provoked(&self) -> Option<(&'static str, Option<Ipv4Addr>)> {
        match self {
            Self::InPath(event) => match event {
                Event::Refused { flow, .. }
                | Event::CallRefused { flow, .. }
                | Event::PacIdTaken { flow, .. }
                | Event::Malformed { flow, .. } => Some((event.name(), Some(flow.client))),
                Event::Dropped { source, .. } => Some((event.name(), Some(*source))),
                Event::Opened { .. }
                | Event::Closed { .. }
                | Event::CallUp { .. }
                | Event::CallDown { .. }
                | Event::PacIdCollision { .. } => None,
            },
            Self::Shared(event) => match event {
                shared::Event::CallRefused { flow, .. } => Some((event.name(), Some(flow.client))),
                shared::Event::Malformed { .. } | shared::Event::PacIdTaken { .. } => Some((event.name(), None)),
                shared::Event::SessionStarted { .. }
                | shared::Event::SessionClosed { .. }
                | shared::Event::UpstreamOpening { .. }
                | shared::Event::UpstreamUp { .. }
                | shared::Event::UpstreamFailed { .. }
                | shared::Event::Learned { .. }
                | shared::Event::UpstreamClosed { .. }
                | shared::Event::CallUp { .. }
                | shared::Event::CallDown { .. } => None,
            },
        }
    }
}

/// One event, one line: the same fields under the same names in every event, and the sentence.
macro_rules! line {
    ($event:expr, $($field:tt)*) => {
        match $event.severity() {
            Severity::Info => tracing::info!(event = $event.name(), $($field)*, "{}", $event),
            Severity::Warn => tracing::warn!(event = $event.name(), $($field)*, "{}", $event),
        }
    };
}

/// `held`: how many of its kind were held back before it.
fn log(event: &Event, held: Option<u64>) {
    match event {
        Event::Opened { flow, external, external_port, rule } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, %external, external_port, rule);
        }
        Event::Refused { flow, why } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, reason = %why, held);
        }
        Event::Closed { flow, reason, calls } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, reason = %reason, calls);
        }
        Event::CallUp { call } => call_line(event, call, None),
        Event::CallDown { call, reason, .. } => call_line(event, call, Some(reason.to_string())),
        Event::PacIdCollision { older } => call_line(event, older, None),
        Event::PacIdTaken { flow, external, pac_id, holder } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, %external, pac_id, %holder, held);
        }
        Event::CallRefused { flow, pns_id, why } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, pns_id, reason = %why, held);
        }
        Event::Malformed { flow, from: _, reason, closed } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, reason, closed, held);
        }
        Event::Dropped { from: _, source, destination, what } => {
            line!(event, %source, %destination, reason = what, held);
        }
    }
}

fn log_shared(event: &shared::Event, held: Option<u64>) {
    match event {
        shared::Event::SessionStarted { session, flow, rule } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, session = session.0, rule);
        }
        shared::Event::SessionClosed { session, flow, why, calls } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, session = session.0, reason = %why, calls);
        }
        shared::Event::UpstreamOpening { upstream, external, server } => {
            line!(event, tunnel = upstream.0, %server, %external);
        }
        shared::Event::UpstreamUp { upstream, channels } => line!(event, tunnel = upstream.0, channels),
        shared::Event::UpstreamFailed { upstream, why, wait_ms } => {
            line!(event, tunnel = upstream.0, reason = %why, wait_ms);
        }
        shared::Event::Learned { server, server_port, why } => {
            line!(event, %server, server_port, reason = why.text());
        }
        shared::Event::UpstreamClosed { upstream, why, calls } => {
            line!(event, tunnel = upstream.0, reason = %why, calls);
        }
        shared::Event::CallUp { call } => shared_call_line(event, call, None),
        shared::Event::CallDown { call, why, .. } => shared_call_line(event, call, Some(why.to_string())),
        shared::Event::CallRefused { flow, pns_id, why } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, pns_id, reason = %why, held);
        }
        shared::Event::PacIdTaken { upstream, external, server, pac_id, holder } => {
            line!(event, tunnel = upstream.0, %server, %external, pac_id, %holder, held);
        }
        shared::Event::Malformed { leg, reason, closed } => line!(event, leg = %leg, reason, closed, held),
    }
}

fn shared_call_line(event: &shared::Event, call: &shared::CallNames, reason: Option<String>) {
    let shared::CallNames { flow, upstream, external, server, pns_id, pac_id } = call;
    let client = flow.map(|flow| flow.client.to_string());
    let (pns_id, translated_id, pac_id) = (pns_id.0, pns_id.1, pac_id.0.or(pac_id.1));
    line!(event, client, %server, %external, tunnel = upstream.map(|upstream| upstream.0), pns_id, translated_id, pac_id, reason);
}

fn call_line(event: &Event, call: &CallIds, reason: Option<String>) {
    let CallIds { flow, external, pns_id, translated_id, pac_id } = call;
    line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, %external, pns_id, translated_id, pac_id, reason);
}
