//! Paths past the engine: when they open and close, and what the engine makes of what it is told about them.

use callgate_pptp::{CallPath, Command, IdPair, Now, Seen, Side, Verdict};

use super::messages::{self, gre};
use super::pair::{EXTERNAL, Link, Pair, SERVER, client_addr};

fn path(client: u32, pns: u16, translated: u16, pac: u16) -> CallPath {
    CallPath {
        client: client_addr(client),
        external: EXTERNAL,
        server: SERVER,
        pns: IdPair { client: pns, server: translated },
        pac: IdPair { client: pac, server: pac },
    }
}

/// What the engine wants done now, by name.
fn wanted(pair: &mut Pair) -> Vec<&'static str> {
    std::iter::from_fn(|| pair.engine.poll_command())
        .map(|command| match command {
            Command::Persist(_) => "persist",
            Command::Send { to: Side::Client, .. } => "tell client",
            Command::Send { to: Side::Server, .. } => "tell server",
            Command::OpenPath(_) => "open",
            Command::ClosePath(_) => "close",
            Command::Note(_) => "note",
        })
        .collect()
}

fn idle_call(idle_ms: u64) -> (Pair, Link, CallPath) {
    let mut pair = Pair::new();
    pair.policy.idle_timeout_ms = idle_ms;
    pair.policy.echo_timeout_ms = 0;
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    (pair, link, path(0, 5, translated, 100))
}

#[test]
fn a_path_is_open_before_the_client_knows_that_it_may_speak() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.client_says(link, &messages::outgoing_request(5));
    assert_eq!(pair.engine.paths().count(), 0);
    let translated = u16::from_be_bytes(pair.at_server(link).pop().unwrap()[12..14].try_into().unwrap());
    let reply = messages::outgoing_reply(100, translated, 1);
    let mut packet = pair.servers.get_mut(&link.server).unwrap().data(&reply);
    let verdict = pair.engine.from_server(&mut packet, pair.now);
    let commands = wanted(&mut pair);
    let at = |name: &str| commands.iter().position(|command| *command == name);
    assert!(at("persist") < at("open") && at("open").is_some(), "{commands:?}");
    assert!(at("open") < at("tell client") && at("tell client").is_some(), "{commands:?} {verdict:?}");
    assert_eq!(pair.engine.paths().collect::<Vec<_>>(), [path(0, 5, translated, 100)]);
}

#[test]
fn a_path_is_closed_before_either_side_is_told_of_a_time_out() {
    let (mut pair, ..) = idle_call(10_000);
    pair.now = pair.now.after(10_000);
    pair.engine.handle_timeout(pair.now);
    let commands = wanted(&mut pair);
    let at = |name: &str| commands.iter().position(|command| *command == name);
    assert!(at("persist") < at("close") && at("close").is_some(), "{commands:?}");
    assert!(at("close") < at("tell client") && at("close") < at("tell server"), "{commands:?}");
    assert_eq!((at("open"), commands.iter().filter(|name| **name == "close").count()), (None, 1), "{commands:?}");
}

#[test]
fn paths_are_closed_before_a_reset_and_before_the_server_hears_of_the_clients_end() {
    let (mut pair, link, _) = idle_call(0);
    let mut broken = messages::echo_request();
    broken[4] = 0;
    let mut packet = pair.clients.get_mut(&link.client).unwrap().data(&broken);
    let mut nobody = Refusing;
    assert_eq!(pair.engine.from_client(&mut packet, &mut nobody, pair.now), Verdict::Consumed);
    let commands = wanted(&mut pair);
    let at = |name: &str| commands.iter().position(|command| *command == name);
    assert!(at("close") < at("tell client") && at("close") < at("tell server"), "{commands:?}");
}

struct Refusing;

impl callgate_pptp::Admit for Refusing {
    fn admit(&mut self, _: callgate_pptp::Flow) -> Result<callgate_pptp::Admission, callgate_pptp::Refusal> {
        Err(callgate_pptp::Refusal::NoRule)
    }
}

#[test]
fn what_was_seen_beside_the_engine_keeps_a_call_from_idling_out() {
    let (mut pair, _, path) = idle_call(10_000);
    let up = pair.now.after(4_000);
    assert_eq!(pair.engine.paths_due(pair.now.after(9_999)), []);
    pair.now = pair.now.after(10_000);
    assert_eq!(pair.engine.paths_due(pair.now), [path]);
    let seen = Seen { any: Some(pair.now), up_payload: Some(up), down_payload: None };
    pair.engine.seen(&path, seen);
    pair.engine.handle_timeout(pair.now);
    pair.settle(Verdict::Consumed, Vec::new());
    assert_eq!(pair.engine.calls()[0].last_seen, pair.now);
    assert_eq!(pair.engine.poll_timeout(), Some(up.after(10_000)));
    // What is older than what is known changes nothing.
    pair.engine.seen(&path, Seen { any: Some(Now(1)), up_payload: Some(Now(1)), down_payload: Some(Now(1)) });
    assert_eq!(pair.engine.calls()[0].last_seen, pair.now);
    pair.wait(4_000);
    assert_eq!(pair.engine.call_count(), 0);
}

#[test]
fn gaps_in_what_still_comes_to_the_engine_are_no_losses_while_the_rest_passes_beside_it() {
    let (mut pair, _, path) = idle_call(0);
    let send = |pair: &mut Pair, sequence| pair.up(gre(client_addr(0), SERVER, 100, sequence, b"x"));
    send(&mut pair, 0);
    pair.engine.beside(&path, true);
    [10, 20, 30].into_iter().for_each(|sequence| send(&mut pair, sequence));
    pair.engine.beside(&path, false);
    [40, 41, 44].into_iter().for_each(|sequence| send(&mut pair, sequence));
    let up = pair.engine.calls()[0].up;
    assert_eq!((up.packets, up.lost), (7, 2));
}

#[test]
fn where_two_calls_of_a_client_have_one_pac_id_the_older_has_the_way_again_when_the_newer_ends() {
    let mut pair = Pair::new();
    let (first, second) = (pair.start(client_addr(0), 40_000), pair.start(client_addr(0), 40_001));
    let older = path(0, 5, pair.call(first, 5, 100), 100);
    let newer = path(0, 6, pair.call(second, 6, 100), 100);
    assert_eq!(pair.paths, [older, newer].into());
    let mut packet = pair.servers.get_mut(&second.server).unwrap().data(&messages::disconnect_notify(100));
    pair.engine.from_server(&mut packet, pair.now);
    let paths: Vec<Command> = std::iter::from_fn(|| pair.engine.poll_command())
        .filter(|command| matches!(command, Command::OpenPath(_) | Command::ClosePath(_)))
        .collect();
    assert_eq!(paths, [Command::ClosePath(newer), Command::OpenPath(older)]);
}
