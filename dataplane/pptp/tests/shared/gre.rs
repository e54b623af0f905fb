//! GRE and ICMP of the shared mode's calls.

use callgate_pptp::shared::Gone;
use callgate_pptp::wire::{gre as wire_gre, icmp, ipv4};
use callgate_pptp::{Side, Verdict};

use super::lab::{CallView, EXTERNAL, Lab, SERVER, client_addr, id};
use super::messages::{self, gre, read_gre};
use super::peer::Back;

/// Two clients whose calls have other ids on each leg.
fn two() -> (Lab, CallView, CallView) {
    let mut lab = Lab::new(1);
    lab.server.first_pac = Some(0);
    let a = lab.start_with_call(0, 5);
    lab.says(a, &messages::outgoing_request(6));
    lab.server.first_pac = Some(1);
    lab.start_with_call(1, 5);
    let calls = lab.calls();
    (lab, calls[1].clone(), calls[2].clone())
}

#[test]
fn both_call_ids_are_translated_and_counted_a_tunnel() {
    let (mut lab, a, b) = two();
    // The server gave the same id to both calls of the first client; to the second one that client knows another.
    assert_eq!((a.server_pac, b.server_pac), (Some(0), Some(1)));
    assert_ne!(a.client_pac, Some(0));
    lab.assert_gre_passes(&a);
    lab.assert_gre_passes(&b);
    lab.assert_gre_passes(&b);
    let counters = lab.shared.counters();
    assert_eq!((counters.gre_up_packets, counters.gre_down_packets), (3, 3));
    let carried = |lab: &Lab, call: &CallView| {
        let tunnels = lab.shared.tunnels();
        tunnels.iter().find(|tunnel| Some(tunnel.tunnel) == call.tunnel).map(|tunnel| tunnel.up.packets)
    };
    assert_eq!((carried(&lab, &a), carried(&lab, &b)), (Some(1), Some(2)));
    // What ended calls have carried stays counted.
    let session = lab.shared.sessions().iter().find(|view| view.flow == b.flow).unwrap().session;
    lab.leaves(session, Gone::Reset);
    assert_eq!(carried(&lab, &b), Some(2));
}

#[test]
fn gre_of_nobody_here_is_left_to_the_in_path_mode_and_that_of_a_dead_call_passes_no_more() {
    let (mut lab, a, _) = two();
    let mut foreign = gre(client_addr(9), SERVER, a.client_pac.unwrap(), 1, b"forged");
    assert_eq!(lab.shared.from_client(&mut foreign, lab.now), None);
    let mut nobodys = gre(SERVER, EXTERNAL, a.server_pns.unwrap().wrapping_add(1), 1, b"?");
    assert_eq!(lab.shared.from_server(&mut nobodys, lab.now), None);
    let session = lab.shared.sessions()[0].session;
    lab.leaves(session, Gone::Reset);
    let mut late = gre(client_addr(0), SERVER, a.client_pac.unwrap(), 2, b"late");
    assert_eq!(lab.shared.from_client(&mut late, lab.now), None);
    let mut late = gre(SERVER, EXTERNAL, a.server_pns.unwrap(), 2, b"late");
    assert_eq!(lab.shared.from_server(&mut late, lab.now), None);
}

#[test]
fn a_damaged_header_from_outside_is_not_made_right_but_dropped_and_counted() {
    let (mut lab, a, _) = two();
    let sound = gre(SERVER, EXTERNAL, a.server_pns.unwrap(), 1, b"down");
    for at in [1, 8, 10] {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        assert_eq!(lab.shared.from_server(&mut damaged, lab.now), None);
        assert_eq!(lab.engine.from_server(&mut damaged, lab.now), Verdict::Consumed);
    }
    assert_eq!((lab.engine.counters().drop_ip_malformed, lab.shared.counters().gre_down_packets), (3, 0));
    assert_eq!(lab.shared.from_server(&mut sound.clone(), lab.now), Some(Verdict::Forward(Side::Client)));
}

#[test]
fn a_pac_id_a_client_knew_rests_before_it_means_another_call() {
    let mut lab = Lab::new(1);
    lab.server.first_pac = Some(7);
    let session = lab.start_with_call(0, 5);
    assert_eq!(lab.calls_of(session)[0].client_pac, Some(7));
    lab.says(session, &messages::call_clear(5));
    lab.says(session, &messages::outgoing_request(5));
    let call = lab.calls_of(session)[0].clone();
    assert_eq!(call.server_pac, Some(7));
    assert_ne!(call.client_pac, Some(7));
    lab.assert_gre_passes(&call);
    lab.says(session, &messages::call_clear(5));
    lab.wait(361_000);
    lab.says(session, &messages::outgoing_request(5));
    assert_eq!(lab.calls_of(session)[0].client_pac, Some(7));
}

#[test]
fn gre_of_the_server_that_comes_before_its_reply_follows_the_reply() {
    let mut lab = Lab::new(65_535);
    lab.server.mute = true;
    let session = lab.start_with_call(0, 5);
    let upstream = lab.live_upstreams()[0];
    let asked = id(&lab.server.heard[&upstream][1], 12);
    for n in 0..10 {
        let mut early = gre(SERVER, EXTERNAL, asked, n, b"early");
        assert_eq!(lab.shared.from_server(&mut early, lab.now), Some(Verdict::Consumed));
    }
    lab.settle();
    assert_eq!(lab.packets, []);
    let replies = lab.server.accept(upstream, asked);
    replies.into_iter().for_each(|back: Back| lab.server_does(upstream, back));
    let got: Vec<_> = lab.packets.iter().map(|(to, packet)| (*to, read_gre(packet))).collect();
    assert_eq!(got, vec![(Side::Client, (SERVER, client_addr(0), 5, b"early".to_vec())); 8]);
    assert_eq!((lab.shared.counters().drop_gre_not_up, lab.calls_of(session).len()), (2, 1));
}

#[test]
fn gre_that_comes_too_early_is_held_for_a_second_and_for_all_calls_together_in_bounds() {
    let mut lab = Lab::new(65_535);
    lab.server.mute = true;
    let sessions: Vec<_> = (0..130).map(|number| lab.start_with_call(number, 5)).collect();
    let upstream = lab.live_upstreams()[0];
    let asked: Vec<u16> = lab.server.heard[&upstream][1..].iter().map(|request| id(request, 12)).collect();
    let early = |lab: &mut Lab, call: usize| {
        let mut packet = gre(SERVER, EXTERNAL, asked[call], 1, b"early");
        assert_eq!(lab.shared.from_server(&mut packet, lab.now), Some(Verdict::Consumed));
    };
    let counted = |lab: &Lab| (lab.shared.counters().gre_held, lab.shared.counters().drop_gre_not_up);
    for call in 0..129 {
        (0..8).for_each(|_| early(&mut lab, call));
    }
    assert_eq!(counted(&lab), (1_024, 8), "eight of each of 128 calls");
    // A call that ends makes room.
    lab.leaves(sessions[0], Gone::Reset);
    early(&mut lab, 129);
    assert_eq!(counted(&lab), (1_025, 8));
    lab.wait(600);
    lab.leaves(sessions[1], Gone::Reset);
    early(&mut lab, 129);
    lab.wait(400);
    assert_eq!(counted(&lab), (1_026, 8 + 126 * 8 + 1), "all but the last are a second old");
    for back in lab.server.accept(upstream, asked[2]).into_iter().chain(lab.server.accept(upstream, asked[129])) {
        lab.server_does(upstream, back);
    }
    let got: Vec<_> = lab.packets.iter().map(|(to, packet)| (*to, read_gre(packet))).collect();
    assert_eq!(got, [(Side::Client, (SERVER, client_addr(129), 5, b"early".to_vec()))]);
    let timers = |lab: &Lab| lab.shared.poll_timeout().map(|at| at.since(lab.now));
    lab.wait(1_000);
    assert!(timers(&lab) > Some(1_000), "nothing is held, nothing of it is due");
}

/// The packet in two fragments.
fn halves(packet: &[u8]) -> [Vec<u8>; 2] {
    let payload = &packet[ipv4::HEADER_LEN..];
    let part = |range: std::ops::Range<usize>, more: bool| {
        let mut bytes = [&packet[..ipv4::HEADER_LEN], &payload[range.clone()]].concat();
        let length = bytes.len() as u16;
        let mut ip = ipv4::Packet::new_unchecked(&mut bytes[..]);
        ip.set_total_len(length);
        ip.set_fragment(false, more, range.start);
        ip.fill_checksum();
        bytes
    };
    [part(0..48, true), part(48..payload.len(), false)]
}

#[test]
fn fragments_follow_their_first_one_and_two_clients_identifications_stay_apart() {
    let (mut lab, a, b) = two();
    let text: Vec<u8> = (0..100).collect();
    let mut ids = Vec::new();
    for call in [&a, &b] {
        let [mut one, mut two] = halves(&gre(call.flow.client, SERVER, call.client_pac.unwrap(), 1, &text));
        assert_eq!(lab.shared.from_client(&mut one, lab.now), Some(Verdict::Forward(Side::Server)));
        assert_eq!(lab.shared.from_server(&mut two.clone(), lab.now), None, "it came from the other side");
        assert_eq!(lab.shared.from_client(&mut two, lab.now), Some(Verdict::Forward(Side::Server)));
        let (first, second) =
            (ipv4::Packet::new_checked(&one[..]).unwrap(), ipv4::Packet::new_checked(&two[..]).unwrap());
        assert!(first.verify_checksum() && second.verify_checksum());
        assert_eq!((first.id(), first.src(), second.src()), (second.id(), EXTERNAL, EXTERNAL));
        ids.push(first.id());
        let whole = [first.payload(), second.payload()].concat();
        let gre = wire_gre::Packet::new_checked(&whole[..]).unwrap();
        assert_eq!((gre.call_id(), gre.payload()), (call.server_pac.unwrap(), &text[..]));
    }
    assert_ne!(ids[0], ids[1]);
    let [_, mut unknown] = halves(&gre(client_addr(7), SERVER, 1, 1, &text));
    assert_eq!(lab.shared.from_client(&mut unknown, lab.now), None);
}

/// An error about `packet`, said by its receiver.
fn error(mut kind: icmp::Repr, packet: &[u8], code: Option<u8>) -> Vec<u8> {
    let ip = ipv4::Packet::new_checked(packet).unwrap();
    if let Some(code) = code {
        kind.code = code;
    }
    let header = ipv4::Repr {
        src: ip.dst(),
        dst: ip.src(),
        protocol: ipv4::PROTOCOL_ICMP,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: false,
        payload_len: kind.buffer_len(),
    };
    let mut bytes = vec![0; header.buffer_len() + kind.buffer_len()];
    header.emit(&mut bytes).unwrap();
    kind.emit(&mut bytes[ipv4::HEADER_LEN..]).unwrap();
    bytes
}

fn quoted(packet: &[u8]) -> (std::net::Ipv4Addr, std::net::Ipv4Addr, u16) {
    let ip = ipv4::Packet::new_checked(packet).unwrap();
    let error = icmp::Packet::new_checked(ip.payload()).unwrap();
    assert!(ip.verify_checksum() && error.verify_checksum());
    let original = error.original().unwrap();
    let id = wire_gre::Packet::new_embedded(original.payload()).unwrap().call_id();
    (original.src(), original.dst(), id)
}

#[test]
fn fragmentation_needed_reaches_the_client_as_it_knows_the_call_and_a_server_hears_of_no_error() {
    let (mut lab, a, _) = two();
    let client = a.flow.client;
    // From a router before the server: each client whose call has that id hears it.
    let left = gre(EXTERNAL, SERVER, a.server_pac.unwrap(), 1, b"big");
    let mut packet = error(icmp::Repr::fragmentation_needed(1_400, &left[..28]), &left, None);
    assert_eq!(lab.shared.from_server(&mut packet, lab.now), Some(Verdict::Consumed));
    lab.settle();
    let heard: Vec<_> = lab.packets.drain(..).map(|(to, packet)| (to, quoted(&packet))).collect();
    assert_eq!(heard.len(), 2);
    assert!(heard.contains(&(Side::Client, (client, SERVER, a.client_pac.unwrap()))), "{heard:?}");
    // About a packet of the server that its client could not take.
    let arrived = gre(SERVER, client, a.client_pns.unwrap(), 1, b"big");
    for code in [2, 3, 4] {
        let mut packet = error(icmp::Repr::fragmentation_needed(0, &arrived[..28]), &arrived, Some(code));
        assert_eq!(lab.shared.from_client(&mut packet, lab.now), Some(Verdict::Consumed));
        lab.settle();
        assert_eq!(lab.packets, []);
    }
    assert_eq!(lab.shared.counters().drop_icmp, 3);
}
