//! Sockets of both legs in a network of their own.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use callgate_pptp::shared::SessionId;

use super::*;
use crate::own_network::in_a_network_of_its_own;

const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// A socket as ours are, from this port of ours to a listener on lo; the other end.
fn connection(listener: &TcpListener, port: u16) -> (Socket, TcpStream, Outer) {
    let SocketAddr::V4(server) = listener.local_addr().unwrap() else { panic!("IPv4") };
    let external = SocketAddrV4::new(OURS, port);
    let ours = socket::connect(external, server, 0).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (ours, theirs, Outer { external, server })
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap()
}

#[test]
fn a_client_whose_connections_are_closed_holds_eight_descriptors_at_most_until_it_closes_too() {
    in_a_network_of_its_own(|| {
        let (mut legs, mut heard, listener) = (Legs::new(0).unwrap(), Vec::new(), listener());
        let mut theirs = Vec::new();
        for number in 0..20 {
            let (ours, other, outer) = connection(&listener, 10_001 + number);
            let flow = Flow {
                client: Ipv4Addr::new(10, 0, 0, 2),
                client_port: outer.external.port(),
                server: *outer.server.ip(),
                server_port: outer.server.port(),
            };
            let leg = Leg::Client(SessionId(number.into()));
            legs.adopt(leg, End::Client(flow), ours).unwrap();
            legs.close(leg, Now(number.into()), &mut heard);
            theirs.push(other);
        }
        assert_eq!((legs.lines.len(), legs.next()), (8, Some(Now(12 + FAREWELL))));
        let over = heard.drain(..).filter(|heard| matches!(heard, Heard::Over(End::Client(_)))).count();
        assert_eq!(over, 12);
        legs.expire(Now(13 + FAREWELL), &mut heard);
        assert_eq!((legs.lines.len(), legs.next()), (6, Some(Now(14 + FAREWELL))));
        // The others close: nothing is waited for any more.
        drop(theirs);
        while !legs.lines.is_empty() {
            legs.hear(&mut heard);
        }
        assert_eq!(legs.next(), None);
    });
}

#[test]
fn what_a_new_socket_gave_back_is_written_before_the_rest_and_told_to_nobody_again() {
    in_a_network_of_its_own(|| {
        let (mut legs, mut heard, listener) = (Legs::new(0).unwrap(), Vec::new(), listener());
        let (ours, mut theirs, outer) = connection(&listener, 10_001);
        repair::hush(&ours).unwrap();
        let tcp = repair::lift(&ours).unwrap();
        drop(ours);
        let Released { socket, .. } = repair::set_down(&tcp, 0, 0).unwrap().release().unwrap();
        let leg = Leg::Upstream(UpstreamId(1));
        // The kernel had the first message and the first three octets of the second.
        let mut outbox = Outbox::default();
        [b"second".to_vec(), b"third".to_vec()].into_iter().for_each(|message| outbox.push(message));
        outbox.took(3);
        let kept = Kept { leg, end: End::Server(outer), tcp, outbox };
        let left = vec![b"first".to_vec(), b"sec".to_vec()];
        legs.put_back(kept, Released { socket, left }, &mut heard).unwrap();
        assert!(matches!(heard.as_slice(), [Heard::Written(of, 8)] if *of == leg), "{heard:?}");
        let mut octets = [0; 16];
        theirs.read_exact(&mut octets).unwrap();
        assert_eq!(&octets, b"firstsecondthird");
    });
}
