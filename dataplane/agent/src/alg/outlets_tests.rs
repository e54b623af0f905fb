//! What taps count, over their whole life and after it.

use std::net::UdpSocket;

use super::*;
use crate::own_network::in_a_network_of_its_own;

/// A host whose only device may vanish.
struct Vanishing(Arc<std::sync::atomic::AtomicBool>);

impl Node for Vanishing {
    fn way(&mut self, _: Ipv4Addr) -> io::Result<Option<Way>> {
        Ok(None)
    }

    fn claim(&mut self, _: &[Ipv4Addr], _: &Peers) -> io::Result<()> {
        Ok(())
    }

    fn index_of(&mut self, _: &str) -> Option<u32> {
        None
    }

    fn exists(&mut self, _: u32) -> bool {
        !self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A host that writes down what is claimed, and refuses it if told so.
#[derive(Clone, Default)]
struct Claims(Arc<std::sync::Mutex<Heard>>);

/// Addresses, whether they are refused, peers.
type Heard = (Vec<Vec<Ipv4Addr>>, bool, Vec<Peers>);

impl Node for Claims {
    fn way(&mut self, _: Ipv4Addr) -> io::Result<Option<Way>> {
        Ok(None)
    }

    fn claim(&mut self, addresses: &[Ipv4Addr], peers: &Peers) -> io::Result<()> {
        let mut claims = self.0.lock().unwrap();
        claims.0.push(addresses.to_vec());
        claims.2.push(peers.clone());
        if claims.1 { Err(io::Error::other("no")) } else { Ok(()) }
    }

    fn index_of(&mut self, name: &str) -> Option<u32> {
        (name == "lo").then_some(1)
    }

    fn exists(&mut self, _: u32) -> bool {
        true
    }
}

#[test]
fn at_rest_no_device_is_read_and_no_address_is_ours_and_the_kernel_hears_of_it_once() {
    in_a_network_of_its_own(|| {
        let own = Ipv4Addr::new(192, 0, 2, 1);
        let claims = Claims::default();
        let mut outlets = Outlets::new(Box::new(claims.clone()), Vec::new(), Vec::new());
        outlets.ready(own, 1).unwrap();
        claims.0.lock().unwrap().1 = true;
        assert!(outlets.rest().is_err());
        assert_eq!((outlets.taps().len(), outlets.is_ours(own)), (1, true), "as before");
        claims.0.lock().unwrap().1 = false;
        outlets.rest().unwrap();
        outlets.rest().unwrap();
        assert_eq!((outlets.taps().len(), outlets.is_ours(own)), (0, false));
        outlets.ready(own, 1).unwrap();
        assert_eq!((outlets.taps().len(), outlets.is_ours(own)), (1, true));
        outlets.rest().unwrap();
        outlets.expect();
        outlets.rest().unwrap();
        let heard = std::mem::take(&mut claims.0.lock().unwrap().0);
        assert_eq!(heard, [vec![own], vec![], vec![], vec![own], vec![], vec![]]);
    });
}

#[test]
fn servers_of_live_connections_are_claimed_when_they_change_and_stay_claimed_with_every_new_address() {
    let own = [1, 2].map(|last| Ipv4Addr::new(192, 0, 2, last));
    let claims = Claims::default();
    let mut outlets = Outlets::new(Box::new(claims.clone()), vec!["cg-none".to_owned()], Vec::new());
    let server = Peers { servers: [Ipv4Addr::new(203, 0, 113, 7)].into(), ports: [1723].into(), ..Peers::default() };
    outlets.claim_also(&BTreeSet::new(), &Peers::default()).unwrap();
    outlets.claim_also(&[own[0]].into(), &server).unwrap();
    outlets.claim_also(&[own[0]].into(), &server).unwrap();
    outlets.ready(own[1], 7).unwrap();
    outlets.claim_also(&own.into(), &Peers::default()).unwrap();
    outlets.rest().unwrap();
    let heard = std::mem::take(&mut *claims.0.lock().unwrap());
    assert_eq!(heard.0, [vec![own[0]], own.to_vec(), own.to_vec(), vec![]]);
    assert_eq!(heard.2, [server.clone(), server, Peers::default(), Peers::default()]);
}

#[test]
fn at_rest_the_devices_of_the_command_line_stay_read() {
    in_a_network_of_its_own(|| {
        let mut outlets = Outlets::new(Box::new(Claims::default()), vec!["lo".to_owned()], Vec::new());
        outlets.refresh();
        outlets.rest().unwrap();
        assert_eq!(outlets.taps().len(), 1);
    });
}

#[test]
fn what_a_tap_lost_still_counts_when_its_device_is_gone() {
    in_a_network_of_its_own(|| {
        let gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut outlets = Outlets::new(Box::new(Vanishing(Arc::clone(&gone))), Vec::new(), Vec::new());
        // Everything on the loopback, and nobody who reads it.
        let all = [crate::sockets::filter::Instruction { code: 0x06, yes: 0, no: 0, k: u32::MAX }];
        outlets.taps.push(Arc::new(Tap::open(1, &all).unwrap()));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        while outlets.overflow() == 0 {
            for _ in 0..1000 {
                // Nobody listens there: the ICMP errors that come back are no failure of the test.
                let _ = socket.send_to(&[0; 1400], "127.0.0.1:9");
            }
        }
        let lost = outlets.overflow();
        gone.store(true, std::sync::atomic::Ordering::Relaxed);
        outlets.refresh();
        assert_eq!((outlets.taps().len(), outlets.overflow() >= lost), (0, true), "{lost} before");
    });
}
