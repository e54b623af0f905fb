//! Random lives of clients and servers; after each step all three parties agree which calls there are.

use std::collections::BTreeMap;

use callgate_pptp::shared::{Command, Gone, Leg, SessionId};
use callgate_pptp::{CallDirection, Policy};
use proptest::prelude::*;

use super::lab::{Lab, Rings, id};
use super::messages;
use super::peer::{Back, Clears};

#[derive(Debug, Clone)]
enum Step {
    Connect(u8),
    Start(u8),
    /// Connect, start and call in one breath.
    Rush(u8, u8),
    /// The same of a client with connections to the server of its own.
    Apart(u8, u8),
    Call(u8, u8),
    Clear(u8, u8),
    Stop(u8),
    Leave(u8, bool),
    Nonsense(u8),
    /// A piece of a message, then nothing.
    Half(u8),
    Deaf(u8),
    Dumb(u8),
    Rings(u8, u8),
    Rung(u8),
    HangUp(u8),
    ServerEnds(u8, bool),
    ServerStops(u8),
    ServerNonsense(u8),
    Unreachable(bool),
    Wait(u32),
    /// What the PptpAlg says, or one of two rules, is another; later clients come by the one that is left.
    Edit(u8),
    /// The gateway is replaced by another process, which takes so long.
    Restart(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => any::<u8>().prop_map(Step::Connect),
        2 => any::<u8>().prop_map(Step::Start),
        6 => (any::<u8>(), 0u8..4).prop_map(|(n, pns)| Step::Rush(n, pns)),
        3 => (any::<u8>(), 0u8..4).prop_map(|(n, pns)| Step::Apart(n, pns)),
        6 => (any::<u8>(), 0u8..4).prop_map(|(n, pns)| Step::Call(n, pns)),
        4 => (any::<u8>(), 0u8..4).prop_map(|(n, pns)| Step::Clear(n, pns)),
        1 => any::<u8>().prop_map(Step::Stop),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(n, fin)| Step::Leave(n, fin)),
        1 => any::<u8>().prop_map(Step::Nonsense),
        1 => any::<u8>().prop_map(Step::Half),
        1 => any::<u8>().prop_map(Step::Deaf),
        1 => any::<u8>().prop_map(Step::Dumb),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(n, how)| Step::Rings(n, how)),
        2 => any::<u8>().prop_map(Step::Rung),
        2 => any::<u8>().prop_map(Step::HangUp),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(n, fin)| Step::ServerEnds(n, fin)),
        1 => any::<u8>().prop_map(Step::ServerStops),
        1 => any::<u8>().prop_map(Step::ServerNonsense),
        1 => any::<bool>().prop_map(Step::Unreachable),
        3 => (0u32..120_000).prop_map(Step::Wait),
        1 => any::<u8>().prop_map(Step::Edit),
        2 => prop_oneof![Just(0), 0u32..60_000].prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// One of these, by a number.
fn pick<T: Copy>(of: &[T], n: u8) -> Option<T> {
    (!of.is_empty()).then(|| of[usize::from(n) % of.len()])
}

fn step(lab: &mut Lab, step: &Step) {
    let clients: Vec<SessionId> =
        lab.clients.iter().filter(|(_, client)| client.cut.is_none()).map(|(&id, _)| id).collect();
    let upstreams = lab.live_upstreams();
    let client = |n: u8| pick(&clients, n);
    match *step {
        Step::Connect(n) => {
            let _refused = lab.try_connect(u32::from(n % 6));
        }
        Step::Start(n) => {
            if let Some(session) = client(n) {
                lab.says(session, &messages::start_request());
            }
        }
        Step::Rush(n, pns) => {
            if let Ok(session) = lab.try_connect(u32::from(n % 6)) {
                let said = [messages::start_request(), messages::outgoing_request(pns.into())].concat();
                lab.says(session, &said);
            }
        }
        Step::Apart(n, pns) => {
            if let Ok(session) = lab.try_connect(u32::from(n % 6)) {
                lab.shared.keep_apart(session);
                let said = [messages::start_request(), messages::outgoing_request(pns.into())].concat();
                lab.says(session, &said);
            }
        }
        Step::Call(n, pns) => client(n).into_iter().for_each(|s| lab.says(s, &messages::outgoing_request(pns.into()))),
        Step::Clear(n, pns) => client(n).into_iter().for_each(|s| lab.says(s, &messages::call_clear(pns.into()))),
        Step::Stop(n) => client(n).into_iter().for_each(|s| lab.says(s, &messages::stop_request())),
        Step::Leave(n, true) => client(n).into_iter().for_each(|s| lab.leaves(s, Gone::Finished)),
        Step::Leave(n, false) => client(n).into_iter().for_each(|s| lab.leaves(s, Gone::Reset)),
        Step::Nonsense(n) => client(n).into_iter().for_each(|s| lab.says(s, &[0xee; 30])),
        Step::Half(n) => client(n).into_iter().for_each(|s| lab.says(s, &messages::echo_request()[..9])),
        Step::Deaf(n) => client(n).into_iter().for_each(|s| lab.clients.get_mut(&s).unwrap().reads = false),
        Step::Dumb(n) => client(n).into_iter().for_each(|s| lab.clients.get_mut(&s).unwrap().answers = false),
        Step::Rings(n, how) => {
            let rings =
                [Rings::Ignores, Rings::Refuses, Rings::Accepts(100 + u16::from(how % 6))][usize::from(how % 3)];
            client(n).into_iter().for_each(|s| lab.clients.get_mut(&s).unwrap().rings = rings);
        }
        Step::Rung(n) => {
            let tunnels = lab.shared.tunnels();
            let able: Vec<_> = tunnels.iter().filter(|t| t.calls < u32::from(t.channels)).map(|t| t.tunnel).collect();
            if let Some(upstream) = pick(&able, n) {
                lab.server_says(upstream, &messages::incoming_request(40_000 + u16::from(n)));
            }
        }
        Step::HangUp(n) => {
            let calls: Vec<_> =
                lab.server.calls.iter().flat_map(|(&up, calls)| calls.keys().map(move |&pac| (up, pac))).collect();
            if let Some((upstream, pac)) = pick(&calls, n) {
                lab.server.calls.get_mut(&upstream).unwrap().remove(&pac);
                lab.server_says(upstream, &messages::disconnect_notify(pac));
            }
        }
        Step::ServerEnds(n, fin) => {
            let gone = if fin { Gone::Finished } else { Gone::Reset };
            pick(&upstreams, n).into_iter().for_each(|up| lab.server_does(up, Back::Ends(gone)));
        }
        Step::ServerStops(n) => {
            if let Some(upstream) = pick(&upstreams, n) {
                lab.server_says(upstream, &messages::stop_request());
            }
        }
        Step::ServerNonsense(n) => {
            pick(&upstreams, n).into_iter().for_each(|up| lab.server_says(up, &[0xee; 30]));
        }
        Step::Unreachable(unreachable) => lab.reachable = !unreachable,
        Step::Wait(ms) => lab.wait(ms.into()),
        Step::Edit(n) => edit(lab, n),
        Step::Restart(ms) => lab.restart(ms.into()),
    }
    lab.wait(0);
}

fn edit(lab: &mut Lab, n: u8) {
    let rule = ["pos/tills", "pos/others"][usize::from(n % 2)];
    let (echo_timeout_ms, removed) = ([0, 60_000, 180_000][usize::from(n / 2 % 3)], n % 4 == 3);
    (lab.policy.rule, lab.policy.echo_timeout_ms) = (rule.to_owned(), echo_timeout_ms);
    let mut look_up = |old: &Policy| (!removed || old.rule == rule).then(|| Policy { echo_timeout_ms, ..old.clone() });
    lab.shared.set_policies(&mut look_up, &mut lab.engine, lab.now);
    lab.settle();
}

/// The calls a client has according to what it was told: PNS id to PAC id, of those it asked for.
fn as_told(got: &[Vec<u8>]) -> BTreeMap<u16, u16> {
    let mut calls = BTreeMap::new();
    for message in got {
        match (message[9], message.get(16)) {
            (8, Some(1)) => {
                calls.insert(id(message, 14), id(message, 12));
            }
            (8, _) => {
                calls.remove(&id(message, 14));
            }
            (13, _) => calls.retain(|_, pac| *pac != id(message, 12)),
            _ => {}
        }
    }
    calls
}

fn all_agree(lab: &mut Lab) {
    let calls = lab.calls();
    lab.assert_all_calls_live(calls.iter().filter(|call| call.is_up).count());
    for view in lab.shared.sessions() {
        let own = calls.iter().filter(|call| call.flow == view.flow && call.direction == CallDirection::Outgoing);
        let (live, asked): (Vec<_>, Vec<_>) = own.partition(|call| call.is_up);
        let live: BTreeMap<u16, u16> =
            live.iter().map(|call| (call.client_pns.unwrap(), call.client_pac.unwrap())).collect();
        // A client that asks again for an id has done with the call it had under it.
        let mut told = as_told(&lab.clients[&view.session].got);
        told.retain(|pns, _| asked.iter().all(|call| call.client_pns != Some(*pns)));
        assert_eq!(told, live, "{}", view.session);
    }
    let tunnels = lab.shared.tunnels();
    assert!(tunnels.iter().all(|tunnel| tunnel.channels == 0 || tunnel.calls <= u32::from(tunnel.channels)));
}

/// All that both sides were told, in order; ids towards servers by their number, since each process begins at others.
fn told(steps: &[Step], channels: u16, connections: usize, clears: Clears) -> Vec<Command> {
    let mut lab = Lab::new(channels);
    (lab.server.connections, lab.server.clears) = (connections, clears);
    steps.iter().for_each(|one| step(&mut lab, one));
    let (mut ids, mut given) = (BTreeMap::new(), 0u16);
    let mut number = |message: &mut Vec<u8>| {
        let id = id(message, 12);
        if message[9] != 12 {
            // A call begins; an id that has rested may come again.
            given += 1;
            ids.insert(id, given);
        }
        message[12..14].copy_from_slice(&ids[&id].to_be_bytes());
    };
    let mut log: Vec<Command> = lab.log.into_iter().filter(|told| !matches!(told, Command::Persist(_))).collect();
    for command in &mut log {
        if let Command::Write { leg: Leg::Upstream(_), message } = command
            && (matches!(message[9], 7 | 12) || (message[9] == 10 && message[16] == 1))
        {
            number(message);
        }
    }
    log
}

fn live(channels: u16, connections: usize, clears: Clears, max_calls: u32, steps: &[Step]) {
    let mut lab = Lab::new(channels);
    (lab.server.connections, lab.server.clears) = (connections, clears);
    lab.policy.max_calls = max_calls;
    for one in steps {
        step(&mut lab, one);
        all_agree(&mut lab);
        lab.assert_counts_are_right();
        if max_calls > 0 {
            assert!(lab.calls().len() <= max_calls as usize);
        }
        if connections < usize::MAX {
            assert!(lab.server.most <= connections);
        }
    }
    let left: Vec<SessionId> = lab.clients.iter().filter(|(_, c)| c.cut.is_none()).map(|(&id, _)| id).collect();
    for session in left {
        lab.leaves(session, Gone::Reset);
    }
    lab.assert_nothing_left();
    assert_eq!(lab.server.call_count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn clients_gateway_and_server_always_agree(
        channels in prop::sample::select(&[1u16, 2, 4, 65_535][..]),
        limit in prop::sample::select(&[1usize, 3, usize::MAX][..]),
        clears in prop::sample::select(&[Clears::Book, Clears::WithPnsId, Clears::Closes][..]),
        max_calls in prop::sample::select(&[0u32, 3, 8, 17][..]),
        steps in steps(),
    ) {
        live(channels, limit, clears, max_calls, &steps);
    }

    #[test]
    fn a_gateway_that_was_frozen_and_thawed_says_what_one_that_was_not_says(
        channels in prop::sample::select(&[1u16, 2, 4, 65_535][..]),
        limit in prop::sample::select(&[1usize, 3, usize::MAX][..]),
        clears in prop::sample::select(&[Clears::Book, Clears::WithPnsId, Clears::Closes][..]),
        steps in steps(),
    ) {
        let plain: Vec<Step> = steps.iter().filter(|step| !matches!(step, Step::Restart(_))).cloned().collect();
        let restarted: Vec<Step> = plain.iter().flat_map(|step| [step.clone(), Step::Restart(0)]).collect();
        prop_assert_eq!(told(&restarted, channels, limit, clears), told(&plain, channels, limit, clears));
    }
}
