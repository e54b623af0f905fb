//! What taps count, over their whole life and after it.

use super::*;
use crate::own_network::in_a_network_of_its_own;

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
        nix::net::if_::if_nametoindex(name).ok()
    }
}

#[test]
fn at_rest_no_device_is_read_and_no_address_is_ours_and_the_kernel_hears_of_it_once() {
    in_a_network_of_its_own(|| {
        let own = Ipv4Addr::new(192, 0, 2, 1);
        let claims = Claims::default();
        let mut outlets = Outlets::new(Box::new(claims.clone()), Vec::new(), Vec::new());
        outlets.ready(own, &[1]).unwrap();
        claims.0.lock().unwrap().1 = true;
        assert!(outlets.rest().is_err());
        assert_eq!((outlets.taps().len(), outlets.is_ours(own)), (1, true), "as before");
        claims.0.lock().unwrap().1 = false;
        outlets.rest().unwrap();
        outlets.rest().unwrap();
        assert_eq!((outlets.taps().len(), outlets.is_ours(own)), (0, false));
        outlets.ready(own, &[1]).unwrap();
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
    outlets.ready(own[1], &[7]).unwrap();
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

/// A veth pair, both ends up: their numbers.
fn pair(near: &str, far: &str) -> [u32; 2] {
    sh(&format!("ip link add {near} type veth peer name {far} && ip link set {near} up && ip link set {far} up"));
    [near, far].map(|name| nix::net::if_::if_nametoindex(name).unwrap())
}

fn sh(line: &str) -> String {
    let output = std::process::Command::new("sh").arg("-c").arg(line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Sends GRE version 1 to `to` by this device, in a frame to this MAC address.
fn send(device: u32, mac: &str, to: Ipv4Addr) {
    send_many(1, device, mac, to);
}

fn send_many(count: usize, device: u32, mac: &str, to: Ipv4Addr) {
    let mut packet = [0; 32];
    packet[..10].copy_from_slice(&[0x45, 0, 0, 32, 0, 0, 0, 0, 64, 47]);
    packet[12..20].copy_from_slice(&[[203, 0, 113, 7], to.octets()].concat());
    packet[20..24].copy_from_slice(&[0x30, 1, 0x88, 0x0b]);
    let mut address = [0; 6];
    for (octet, text) in address.iter_mut().zip(mac.trim().split(':')) {
        *octet = u8::from_str_radix(text, 16).unwrap();
    }
    let neighbour = crate::sockets::Neighbour { link: device, address };
    let mut socket = crate::sockets::Straight::open(0).unwrap();
    for _ in 0..count {
        assert_eq!(socket.send(&[&packet], &[neighbour]), crate::sockets::Sent::Taken(1));
    }
}

fn mac(device: &str) -> String {
    let told = sh(&format!("ip -o link show {device}"));
    told.split("link/ether ").nth(1).unwrap()[..17].to_owned()
}

/// Destinations of what waits at this tap, at least so many.
fn read(tap: &Tap, at_least: usize) -> Vec<Ipv4Addr> {
    let (mut reader, mut seen) = (crate::sockets::Reader::default(), Vec::new());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut frames = 1;
    while frames > 0 || seen.len() < at_least {
        assert!(std::time::Instant::now() < deadline, "{seen:?}");
        let each = |packet: &mut [u8], _: &mut Vec<(crate::sockets::Place, ())>| {
            seen.extend(crate::alg::core::destination(packet));
            None
        };
        frames = reader.read(tap, &mut Vec::new(), each).unwrap();
    }
    seen
}

#[test]
fn what_a_tap_lost_still_counts_when_its_device_is_gone() {
    in_a_network_of_its_own(|| {
        let [near, far] = pair("cg-near", "cg-far");
        let mut outlets = Outlets::new(Box::new(Claims::default()), Vec::new(), Vec::new());
        // Everything that comes, and nobody who reads it.
        let all = [Instruction { code: 0x06, yes: 0, no: 0, k: u32::MAX }];
        outlets.taps.push(Arc::new(Tap::open(far, &all).unwrap()));
        let mac = mac("cg-far");
        while outlets.overflow() == 0 {
            send_many(1_000, near, &mac, Ipv4Addr::new(192, 0, 2, 1));
        }
        let lost = outlets.overflow();
        sh("ip link del cg-near");
        outlets.refresh();
        assert_eq!((outlets.taps().len(), outlets.overflow() >= lost), (0, true), "{lost} before");
    });
}

#[test]
fn a_device_that_was_away_and_is_back_with_its_number_is_read_again() {
    in_a_network_of_its_own(|| {
        let [near, far] = pair("cg-near", "cg-far");
        let own = Ipv4Addr::new(192, 0, 2, 1);
        let mut outlets = Outlets::new(Box::new(Claims::default()), vec!["cg-far".to_owned()], Vec::new());
        outlets.refresh();
        outlets.ready(own, &[far]).unwrap();
        let before = Arc::clone(&outlets.taps()[0]);
        outlets.refresh();
        assert!(Arc::ptr_eq(&before, &outlets.taps()[0]), "a tap that reads stays");
        let here = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
        sh(&format!(
            "unshare -n sh -c 'nsenter --net={here} ip link set cg-far netns $$ && ip link set cg-far netns {here}'"
        ));
        sh("ip link set cg-far up");
        assert_eq!(nix::net::if_::if_nametoindex("cg-far"), Ok(far), "else nothing is seen here");
        outlets.refresh();
        send(near, &mac("cg-far"), own);
        assert_eq!(read(&outlets.taps()[0], 1), [own]);
    });
}

#[test]
fn what_comes_by_a_device_on_top_of_another_is_read_once_and_below_it_where_only_that_one_is() {
    in_a_network_of_its_own(|| {
        let [near, lower] = pair("cg-near", "cg-low");
        sh("ip link add link cg-low name cg-mac type macvlan mode bridge && ip link set cg-mac up");
        let upper = nix::net::if_::if_nametoindex("cg-mac").unwrap();
        let (first, last) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let mut outlets = Outlets::new(Box::new(Claims::default()), Vec::new(), Vec::new());
        outlets.ready(first, &[lower]).unwrap();
        outlets.ready(last, &[lower]).unwrap();
        let both = || {
            send(near, &mac("cg-mac"), first);
            send(near, &mac("cg-low"), last);
        };
        both();
        assert_eq!(read(&outlets.taps()[0], 2), [first, last]);
        outlets.ready(first, &[upper]).unwrap();
        both();
        assert_eq!(read(&outlets.taps()[0], 1), [last]);
        assert_eq!(read(&outlets.taps()[1], 1), [first]);
        sh("ip link del cg-mac");
        outlets.refresh();
        assert_eq!(outlets.taps().len(), 1);
        send(near, &mac("cg-low"), last);
        assert_eq!(read(&outlets.taps()[0], 1), [last]);
    });
}

#[test]
fn answers_are_read_on_every_link_of_a_route() {
    in_a_network_of_its_own(|| {
        let own = Ipv4Addr::new(192, 0, 2, 1);
        let uplinks = [pair("cg-near", "cg-far"), pair("cg-near2", "cg-far2")];
        let mut outlets = Outlets::new(Box::new(Claims::default()), Vec::new(), Vec::new());
        outlets.ready(own, &uplinks.map(|[_, far]| far)).unwrap();
        for ((at, [near, _]), name) in uplinks.iter().enumerate().zip(["cg-far", "cg-far2"]) {
            send(*near, &mac(name), own);
            assert_eq!(read(&outlets.taps()[at], 1), [own]);
        }
    });
}

#[test]
fn that_a_device_cannot_be_read_is_said_when_it_is_news() {
    let mut outlets = Outlets::new(Box::new(Claims::default()), Vec::new(), Vec::new());
    let said = [Some("gone"), Some("gone"), Some("refused"), None, None, Some("refused")];
    let news = said.map(|why| outlets.is_news("eth1", why.map(str::to_owned).as_ref()));
    assert_eq!(news, [true, false, true, true, false, true]);
    assert!(!outlets.is_news("eth2", None), "that it can be is none");
}
