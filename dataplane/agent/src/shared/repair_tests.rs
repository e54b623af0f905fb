//! Connections of the kernel's own TCP, lifted and set down again in a network of their own, with half a message under way each way.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::own_network::in_a_network_of_its_own;

/// Both ends of a connection from a socket as ours are to a server that listens on lo.
fn connection() -> (Socket, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let server = listener.local_addr().unwrap();
    let std::net::SocketAddr::V4(server) = server else { panic!("{server}") };
    let ours = socket::connect(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 1), 10_001), server, 0).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    theirs.set_nodelay(true).unwrap();
    (ours, theirs)
}

fn read(socket: &Socket, count: usize) -> Vec<u8> {
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut octets = vec![0; count];
    (&mut &*socket).read_exact(&mut octets).unwrap();
    octets
}

/// Between two sockets nobody answers for the connection: as in a pod network, where nothing comes to the host without one (nft::sockets).
fn nobody_answers_without_a_socket() {
    let silence =
        "table ip callgate-test { chain output { type filter hook output priority 0; tcp flags rst drop; }; }";
    assert!(std::process::Command::new("nft").arg(silence).status().unwrap().success());
}

#[test]
fn a_connection_goes_on_in_another_socket_and_nothing_that_was_said_is_lost() {
    in_a_network_of_its_own(|| {
        nobody_answers_without_a_socket();
        let (ours, mut theirs) = connection();
        theirs.write_all(b"unread").unwrap();
        while pending(&ours, libc::FIONREAD).unwrap() < 6 {
            std::thread::yield_now();
        }
        hush(&ours).unwrap();
        // Neither is acknowledged: what it says still leaves, what it hears is dropped.
        write(&ours, b"unacknowledged").unwrap();
        theirs.write_all(b"while away").unwrap();
        let lifted = lift(&ours).unwrap();
        assert_eq!((lifted.receive.as_slice(), lifted.send.as_slice()), (&b"unread"[..], &b"unacknowledged"[..]));
        assert!(lifted.sack && lifted.scales.is_some() && lifted.timestamp.is_some(), "{lifted:?}");
        drop(ours);
        let text = serde_json::to_string(&lifted).unwrap();
        let again = set_down(&serde_json::from_str(&text).unwrap(), 0, 5).unwrap().release().unwrap().socket;
        assert_eq!(read(&again, 16), b"unreadwhile away");
        write(&again, b", and more").unwrap();
        let mut octets = vec![0; 24];
        theirs.read_exact(&mut octets).unwrap();
        assert_eq!(octets, b"unacknowledged, and more");
        theirs.write_all(b"back").unwrap();
        assert_eq!(read(&again, 4), b"back");
        // Once more, and then an ordinary end.
        hush(&again).unwrap();
        let lifted = lift(&again).unwrap();
        drop(again);
        let again = set_down(&lifted, 0, 0).unwrap().release().unwrap().socket;
        drop(theirs);
        again.set_nonblocking(false).unwrap();
        assert_eq!((&again).read(&mut [0; 8]).unwrap(), 0, "FIN is heard");
    });
}

#[test]
fn what_was_never_sent_is_sent_by_the_next_socket() {
    in_a_network_of_its_own(|| {
        nobody_answers_without_a_socket();
        let (ours, mut theirs) = connection();
        // Until neither the other end's buffer nor our own takes more.
        let mut said = 0;
        let message = [7u8; 200];
        while let Ok(taken) = ours.send_with_flags(&message, libc::MSG_EOR) {
            said += taken;
        }
        hush(&ours).unwrap();
        let lifted = lift(&ours).unwrap();
        assert!(lifted.unsent > 0 && lifted.unsent < said, "{} of {said}", lifted.unsent);
        drop(ours);
        let reader = std::thread::spawn(move || {
            let mut octets = vec![0; said];
            theirs.read_exact(&mut octets).map(|()| (octets, theirs))
        });
        let again = set_down(&lifted, 0, 0).unwrap().release().unwrap().socket;
        let (octets, _theirs) = reader.join().unwrap().unwrap();
        assert!(octets.iter().all(|octet| *octet == 7));
        assert_eq!(pending(&again, libc::FIONREAD).unwrap(), 0);
    });
}

#[test]
fn one_that_is_not_wanted_any_more_is_ended_by_rst() {
    in_a_network_of_its_own(|| {
        let (ours, mut theirs) = connection();
        hush(&ours).unwrap();
        let lifted = lift(&ours).unwrap();
        drop(ours);
        set_down(&lifted, 0, 0).unwrap().reset();
        let error = theirs.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn one_that_has_heard_fin_is_not_lifted_and_ends_by_rst() {
    in_a_network_of_its_own(|| {
        let (ours, theirs) = connection();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_end(&ours), 0);
        hush(&ours).unwrap();
        assert_eq!(lift(&ours).unwrap_err().to_string(), "one end has closed it");
        drop(ours);
        let error = (&theirs).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

fn read_end(socket: &Socket) -> usize {
    socket.set_nonblocking(false).unwrap();
    (&mut &*socket).read(&mut [0; 8]).unwrap()
}

#[test]
fn clocks_of_timestamps_go_on_in_their_own_unit() {
    assert_eq!((later(1_000, 0), later(1_000, 7)), (1_002, 1_008));
    assert_eq!((later(1_001, 0), later(1_001, 7)), (1_001, 8_001));
    assert_eq!(later(u32::MAX - 1, 4), 4);
}

/// So many Echo-Requests, each with a number of its own.
fn small_messages(count: u32) -> Vec<Vec<u8>> {
    let message = |identifier| callgate_pptp::wire::control::EchoRequest { reserved0: 0, identifier }.to_bytes();
    (0..count).map(message).collect()
}

/// A connection without a socket, on which we have said this and nobody has acknowledged it; and its other end.
fn lifted_with(messages: &[Vec<u8>]) -> (Lifted, TcpStream) {
    nobody_answers_without_a_socket();
    let (ours, theirs) = connection();
    hush(&ours).unwrap();
    // The kernel's buffer has grown with the connection.
    set_at(&ours, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &(4 << 20)).unwrap();
    messages.iter().for_each(|message| write(&ours, message).unwrap());
    (lift(&ours).unwrap(), theirs)
}

#[test]
fn hundreds_of_the_smallest_messages_that_nobody_has_acknowledged_go_on_too() {
    in_a_network_of_its_own(|| {
        let messages = small_messages(400);
        let (lifted, mut theirs) = lifted_with(&messages);
        assert!(lifted.unsent > 0, "the window of a new connection is ten segments");
        // As if all had been sent, as on a connection that is not new.
        let again = set_down(&Lifted { unsent: 0, ..lifted }, 0, 0).unwrap();
        assert_eq!(again.unsent, Vec::<Vec<u8>>::new());
        let Released { socket: _again, left } = again.release().unwrap();
        assert_eq!(left, Vec::<Vec<u8>>::new());
        let mut octets = vec![0; 400 * 16];
        theirs.read_exact(&mut octets).unwrap();
        assert_eq!(octets, messages.concat());
    });
}

#[test]
fn what_the_new_socket_does_not_take_is_given_back_in_order() {
    in_a_network_of_its_own(|| {
        let messages = small_messages(400);
        let (lifted, mut theirs) = lifted_with(&messages);
        let again = set_down(&lifted, 0, 0).unwrap();
        again.socket.set_send_buffer_size(4_608).unwrap();
        let Released { socket: again, left } = again.release().unwrap();
        assert!(!left.is_empty());
        let mut octets = vec![0; 400 * 16 - left.concat().len()];
        theirs.read_exact(&mut octets).unwrap();
        again.set_nonblocking(false).unwrap();
        assert_eq!([octets, left.concat()].concat(), messages.concat());
    });
}

#[test]
fn one_that_cannot_be_set_down_is_ended_by_rst() {
    in_a_network_of_its_own(|| {
        let (ours, mut theirs) = connection();
        hush(&ours).unwrap();
        write(&ours, b"heard, but not acknowledged").unwrap();
        let mut octets = [0; 27];
        theirs.read_exact(&mut octets).unwrap();
        let lifted = lift(&ours).unwrap();
        assert_eq!(lifted.send.len(), 27);
        drop(ours);
        // More than a socket can have to be read.
        let error = set_down(&Lifted { receive: vec![0; 64 << 20], ..lifted }, 0, 0).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
        let error = theirs.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}
