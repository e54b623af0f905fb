//! Live calls as the API tells them.

use std::time::{SystemTime, UNIX_EPOCH};

use callgate_pptp::{CallDirection, CallState, CallView, Now, Traffic};
use callgate_proto::pb;

use crate::run::Holders;

/// The list as it was at `now`; `holders` are the pods that have the addresses.
pub(super) fn list(calls: Vec<CallView>, now: Now, holders: &Holders) -> pb::CallList {
    let taken = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let calls = calls.into_iter().map(|call| one(call, now, holders)).collect();
    pb::CallList { calls, taken_unix_ms: taken, ..pb::CallList::default() }
}

/// What a change of makes watchers hear of it: which calls there are, and their states.
pub(super) fn outline(calls: &[CallView]) -> Vec<(callgate_pptp::Flow, Option<u16>, Option<u16>, CallState)> {
    calls.iter().map(|call| (call.flow, call.pns_id, call.pac_id, call.state)).collect()
}

fn one(call: CallView, now: Now, holders: &Holders) -> pb::Call {
    let traffic = |Traffic { packets, bytes, lost }: Traffic| Some(pb::Traffic { packets, bytes, lost });
    let direction = match call.direction {
        CallDirection::Outgoing => pb::Direction::Outgoing,
        CallDirection::Incoming => pb::Direction::Incoming,
    };
    let state = match call.state {
        CallState::Requested => pb::CallState::Requested,
        CallState::Accepted => pb::CallState::Accepted,
        CallState::Up => pb::CallState::Up,
    };
    pb::Call {
        client_address: call.flow.client.to_string(),
        client_port: call.flow.client_port.into(),
        pod: holders.get(&call.flow.client).map(ToString::to_string).unwrap_or_default(),
        server_address: call.flow.server.to_string(),
        server_port: call.flow.server_port.into(),
        external_address: call.external.to_string(),
        external_port: call.external_port.into(),
        pns_call_id: call.pns_id.map(u32::from),
        pns_call_id_outside: call.translated_id.map(u32::from),
        pac_call_id: call.pac_id.map(u32::from),
        direction: direction.into(),
        state: state.into(),
        tx: traffic(call.up),
        rx: traffic(call.down),
        age_ms: now.since(call.created),
        idle_ms: now.since(call.last_seen),
        rule: call.rule,
        service: call.service,
        alg: call.alg,
        // The operator adds it where it tells of all nodes.
        node: String::new(),
        tunnel: call.tunnel,
        pac_call_id_outside: call.tunnel.and(call.pac_id_outside).map(u32::from),
    }
}
