//! Logs the engine's events in a thread of its own: a log that nobody reads must not stop packets.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::{io, thread};

use callgate_pptp::{CallIds, Event, Severity};

/// Events that may wait for the log: a few seconds of a storm of refusals.
const WAITING: usize = 8192;

/// Starts the thread; it ends when the sender is dropped and everything is logged.
///
/// # Errors
/// When no thread can be made.
pub(super) fn start() -> io::Result<(SyncSender<Event>, JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(WAITING);
    let thread = thread::Builder::new().name("events".into()).spawn(move || log_all(&receiver))?;
    Ok((sender, thread))
}

fn log_all(events: &Receiver<Event>) {
    while let Ok(event) = events.recv() {
        log(&event);
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

fn log(event: &Event) {
    match event {
        Event::Opened { flow, external, external_port, rule } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, %external, external_port, rule);
        }
        Event::Refused { flow, why } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, reason = %why);
        }
        Event::Closed { flow, reason, calls } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, reason = %reason, calls);
        }
        Event::CallUp { call } => call_line(event, call, None),
        Event::CallDown { call, reason, .. } => call_line(event, call, Some(reason.to_string())),
        Event::PacIdCollision { older } => call_line(event, older, None),
        Event::CallRefused { flow, pns_id, why } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, pns_id, reason = %why);
        }
        Event::Malformed { flow, from: _, reason, closed } => {
            line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, reason, closed);
        }
        Event::Dropped { from: _, source, destination, what } => {
            line!(event, %source, %destination, reason = what);
        }
    }
}

fn call_line(event: &Event, call: &CallIds, reason: Option<String>) {
    let CallIds { flow, external, pns_id, translated_id, pac_id } = call;
    line!(event, client = %flow.client, client_port = flow.client_port, server = %flow.server, %external, pns_id, translated_id, pac_id, reason);
}
