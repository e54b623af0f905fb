//! Frozen and thawed: calls go on in another process; what cannot be believed is refused, and harms nobody.

use callgate_pptp::shared::Sizes;
use callgate_pptp::shared::{
    Command, Config, ConnectError, Frozen, Gone, Leg, SessionEnd, Shared, ThawError, UpstreamId,
};
use callgate_pptp::{Engine, Limits, Now};
use proptest::prelude::*;
use serde_json::Value;

use super::lab::{EXTERNAL, Lab, SERVER};
use super::messages;
use super::peer::Back;

/// Thirty clients with calls in tunnels of eight, one in the middle of a message, and one whose call waits.
fn busy() -> Lab {
    let mut lab = Lab::new(8);
    let first = lab.start_with_call(0, 0);
    for number in 1..30 {
        lab.start_with_call(number, 0);
    }
    lab.says(first, &messages::echo_request()[..7]);
    lab
}

fn thaw(text: &str, now: Now) -> (Result<Vec<Leg>, ThawError>, Shared, Engine) {
    let limits = Limits::default();
    let mut engine = Engine::new(limits.clone(), 1);
    let mut shared = Shared::new(Config::default(), limits, 1);
    let frozen: Frozen = serde_json::from_str(text).unwrap();
    (shared.thaw(frozen, &mut engine, now), shared, engine)
}

#[test]
fn calls_go_on_and_half_a_message_of_a_client_is_completed_by_the_rest() {
    let mut lab = busy();
    let first = *lab.clients.keys().next().unwrap();
    lab.restart(3_000);
    lab.assert_all_calls_live(30);
    lab.says(first, &messages::echo_request()[7..]);
    assert_eq!(lab.last(first)[9], 6, "the answer to its Echo-Request");
    let calls = lab.calls_of(first);
    lab.says(first, &messages::call_clear(0));
    assert_eq!(lab.last(first)[9], 13, "Call-Disconnect-Notify");
    assert_eq!(calls.len(), 1);
    lab.assert_all_calls_live(29);
    // Ids rest across the restart, and new ones are not those of others.
    lab.says(first, &messages::outgoing_request(0));
    lab.assert_all_calls_live(30);
    let sessions: Vec<_> = lab.clients.keys().copied().collect();
    sessions.into_iter().for_each(|session| lab.leaves(session, Gone::Reset));
    lab.assert_nothing_left();
}

#[test]
fn nobody_is_held_to_have_been_silent_while_nobody_listened() {
    let mut lab = busy();
    let first = *lab.clients.keys().next().unwrap();
    lab.says(first, &messages::echo_request()[7..]);
    lab.wait(59_000);
    lab.restart(600_000);
    let echoes = |lab: &Lab| lab.clients.values().flat_map(|client| &client.got).filter(|said| said[9] == 5).count();
    assert_eq!(echoes(&lab), 0);
    lab.wait(999);
    assert_eq!(echoes(&lab), 0, "a third of echoTimeout is not over");
    lab.wait(1);
    assert_eq!(echoes(&lab), 30, "now it is");
    lab.assert_all_calls_live(30);
}

#[test]
fn a_tunnel_that_was_being_opened_is_ordered_anew_under_its_name() {
    let limits = Limits::default();
    let mut lab = Lab::new(8);
    let session = lab.connect(0);
    lab.shared.client_bytes(session, &messages::start_request(), &mut lab.engine, lab.now);
    let commands: Vec<Command> = std::iter::from_fn(|| lab.shared.poll_command()).collect();
    let upstream = commands.iter().find_map(|command| match command {
        Command::Open { upstream, .. } => Some(*upstream),
        _ => None,
    });
    let upstream: UpstreamId = upstream.unwrap();
    let text = serde_json::to_string(&lab.shared.freeze(lab.now)).unwrap();
    let (legs, mut shared, mut engine) = thaw(&text, lab.now.after(500));
    assert_eq!(legs, Ok(vec![Leg::Client(session)]), "there is no connection for the other one");
    let expected = Command::Open { upstream, external: EXTERNAL, server: SERVER, server_port: 1723, client: None };
    assert_eq!((shared.poll_command(), shared.poll_command()), (Some(expected), None));
    for _ in 0..limits.half_open_per_client {
        shared.upstream_failed(upstream, ConnectError::Refused, &mut engine, lab.now.after(600));
    }
    assert_eq!(shared.tunnels(), []);
}

#[test]
fn a_leg_that_could_not_be_kept_ends_as_if_it_had_been_reset() {
    let mut lab = busy();
    lab.restart(100);
    let (first, second) = (*lab.clients.keys().next().unwrap(), *lab.clients.keys().nth(1).unwrap());
    lab.leaves(first, Gone::Reset);
    lab.assert_all_calls_live(29);
    let tunnel = lab.calls_of(second)[0].tunnel.unwrap();
    let carried = lab.shared.tunnels().iter().find(|view| view.tunnel == tunnel).unwrap().calls;
    lab.server_does(tunnel, Back::Ends(Gone::Reset));
    assert_eq!(lab.last(second)[9], 3, "told to go: its tunnel is gone");
    lab.assert_all_calls_live(29 - carried as usize);
    assert!(!format!("{:?}", lab.events).contains(&format!("{:?}", SessionEnd::Unused)));
}

#[test]
fn what_another_version_has_written_is_refused_and_says_so() {
    let lab = busy();
    let mut value = serde_json::to_value(lab.shared.freeze(lab.now)).unwrap();
    value["version"] = 2.into();
    let (result, shared, _) = thaw(&value.to_string(), lab.now);
    let error = result.unwrap_err();
    assert_eq!(error, ThawError::Version(2));
    assert_eq!(error.to_string(), "it has version 2, and this gateway reads version 1");
    assert_eq!(shared.sizes(), Sizes::default());
}

#[test]
fn a_call_id_that_is_somebody_elses_is_not_taken_and_those_before_it_are_given_back() {
    let lab = busy();
    let text = serde_json::to_string(&lab.shared.freeze(lab.now)).unwrap();
    let (first, _, mut engine) = thaw(&text, lab.now);
    assert_eq!(first.map(|legs| legs.len()), Ok(30 + 4));
    let mut shared = Shared::new(Config::default(), Limits::default(), 1);
    let error = shared.thaw(serde_json::from_str(&text).unwrap(), &mut engine, lab.now).unwrap_err();
    assert!(matches!(&error, ThawError::Taken(what) if what.starts_with("Call ID ")), "{error}");
    assert_eq!(shared.sizes(), Sizes::default());
}

#[test]
fn what_was_taken_in_the_future_is_of_another_clock() {
    let lab = busy();
    let text = serde_json::to_string(&lab.shared.freeze(lab.now.after(5))).unwrap();
    assert_eq!(thaw(&text, lab.now).0, Err(ThawError::Future(5)));
}

/// The leaf with this number, from 0.
fn leaf<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    match value {
        Value::Array(values) => values.iter_mut().find_map(|value| leaf(value, number)),
        Value::Object(values) => values.values_mut().find_map(|value| leaf(value, number)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) if *number == 0 => Some(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            *number -= 1;
            None
        }
    }
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(leaves).sum(),
        Value::Object(values) => values.values().map(leaves).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_damaged_state_says_it_is_refused_or_lived_with(
        places in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        with in prop_oneof![
            any::<u64>().prop_map(Value::from),
            (0u64..40).prop_map(Value::from),
            Just(Value::Null),
            Just(Value::from("Up")),
            any::<bool>().prop_map(Value::from),
        ],
    ) {
        let lab = busy();
        let mut value = serde_json::to_value(lab.shared.freeze(lab.now)).unwrap();
        let count = leaves(&value);
        for place in places {
            *leaf(&mut value, &mut place.index(count)).unwrap() = with.clone();
        }
        let Ok(frozen) = serde_json::from_value::<Frozen>(value) else { return Ok(()) };
        let limits = Limits::default();
        let (mut engine, mut shared) = (Engine::new(limits.clone(), 1), Shared::new(Config::default(), limits, 1));
        let mut now = lab.now;
        let Ok(legs) = shared.thaw(frozen, &mut engine, now) else {
            prop_assert_eq!(shared.sizes(), Sizes::default());
            return Ok(());
        };
        for leg in legs {
            match leg {
                Leg::Client(id) => shared.client_bytes(id, &messages::outgoing_request(9), &mut engine, now),
                Leg::Upstream(id) => shared.upstream_bytes(id, &messages::echo_request(), &mut engine, now),
            }
            while shared.poll_command().is_some() {}
        }
        for _ in 0..1_000 {
            let Some(at) = shared.poll_timeout() else { break };
            now = now.max(at);
            shared.handle_timeout(&mut engine, now);
            while shared.poll_command().is_some() {}
        }
    }
}
