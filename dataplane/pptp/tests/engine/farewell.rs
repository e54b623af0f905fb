//! A connection that is being taken leave of, and a process that ends meanwhile.

use callgate_pptp::{CloseReason, Command, Engine, Event};

use super::pair::{Link, Pair, client_addr};

/// A connection with two calls whose rule has just gone. What that leads to is in the journal, and reaches nobody.
fn taken_leave_of() -> (Pair, Link) {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.call(link, 6, 101);
    let now = pair.now;
    pair.engine.set_policies(&mut |_| None, now);
    while let Some(command) = pair.engine.poll_command() {
        match command {
            Command::Persist(change) => pair.journal.push(change),
            Command::Send { .. } | Command::OpenPath(_) | Command::ClosePath(_) | Command::Note(_) => {}
        }
    }
    (pair, link)
}

#[test]
fn the_journal_knows_everything_that_was_said_at_parting() {
    let (pair, _) = taken_leave_of();
    let restored = |changes| Engine::restore(pair.engine.limits().clone(), 7, changes, pair.now).records();
    assert_eq!(restored(pair.journal.clone()), restored(pair.engine.records()));
}

#[test]
fn a_parting_goes_on_after_a_restart() {
    let (mut pair, link) = taken_leave_of();
    pair.restart();
    pair.wait(pair.engine.limits().farewell_ms + 1);
    let closed: Vec<CloseReason> = pair
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Closed { reason, .. } => Some(*reason),
            _ => None,
        })
        .collect();
    assert_eq!(closed, [CloseReason::RuleRemoved]);
    assert!(pair.clients[&link.client].reset && pair.servers[&link.server].reset);
}
