//! The table of calls against captures on both sides of the gateway: each side's peers must name a call as the table does.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_e2e::gateway::callgate::Call;
use callgate_e2e::lab::control;
use callgate_e2e::lab::packet::Packet;

/// One end of a control connection with the Call IDs of the PNS and the PAC.
type Name = (Ipv4Addr, u16, u16, u16);

/// Fails unless table and captures name the same calls, the server can tell them apart, and no other GRE left or came.
pub(crate) fn check(calls: &[Call], inside: &[Packet], outside: &[Packet]) {
    assert_eq!(table(calls, false), seen(inside));
    assert_eq!(table(calls, true), seen(outside));
    let ids: BTreeSet<_> =
        calls.iter().map(|call| (call.external.address, call.server.address, call.pns_call_id_outside)).collect();
    assert_eq!(ids.len(), calls.len(), "Call IDs towards the server must differ");
    let (mut up, mut down) = (0, 0);
    for packet in outside {
        let Some(gre) = packet.gre() else { continue };
        let known = calls.iter().any(|call| {
            (packet.source == call.external.address && Some(gre.call_id) == call.pac_call_id)
                || (packet.destination == call.external.address && Some(gre.call_id) == call.pns_call_id_outside)
        });
        assert!(known, "GRE outside that belongs to no call of the table: {packet:?}");
        let leaves = calls.iter().any(|call| packet.source == call.external.address);
        *(if leaves { &mut up } else { &mut down }) += 1;
    }
    assert!(up > 0 && down > 0, "GRE outside: {up} up, {down} down");
}

fn table(calls: &[Call], external: bool) -> Vec<Name> {
    let name = |call: &Call| {
        let (end, pns) =
            if external { (&call.external, call.pns_call_id_outside) } else { (&call.client, call.pns_call_id) };
        (end.address, end.port, pns.unwrap(), call.pac_call_id.unwrap())
    };
    let mut names: Vec<Name> = calls.iter().map(name).collect();
    names.sort();
    names
}

fn seen(packets: &[Packet]) -> Vec<Name> {
    let calls = control::calls(packets, 1723);
    let mut names: Vec<Name> = calls.iter().map(|c| (*c.client.ip(), c.client.port(), c.pns, c.pac)).collect();
    names.sort();
    names.dedup();
    names
}
