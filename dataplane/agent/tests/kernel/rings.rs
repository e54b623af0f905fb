//! A packet handed straight to a neighbour, and the ring of the tap on the other side, on a veth pair with a large MTU.

use std::os::fd::AsFd;

use callgate_agent::sockets::{Neighbour, Place, Reader, SEND_BATCH, Sent, Straight, Tap, filter};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::lab::{empty, index, root, sh, without_ipv6};

/// Two ends of a link; packets go from the first to the second.
struct Pair {
    straight: Straight,
    neighbour: Neighbour,
    tap: Tap,
    reader: Reader,
}

impl Pair {
    fn new() -> Self {
        empty();
        sh("ip link add cg-x mtu 9000 type veth peer name cg-y mtu 9000");
        ["cg-x", "cg-y"].iter().for_each(|link| without_ipv6(link));
        sh("ip link set cg-x up && ip link set cg-y up");
        let text = sh("ip -o link show cg-y");
        let mac = text.split("link/ether ").nth(1).unwrap()[..17].split(':');
        let mut address = [0; 6];
        address.iter_mut().zip(mac).for_each(|(octet, text)| *octet = u8::from_str_radix(text, 16).unwrap());
        let neighbour = Neighbour { link: index("cg-x"), address };
        let tap = Tap::open(index("cg-y"), &filter::pod_side()).unwrap();
        Self { straight: Straight::open(0).unwrap(), neighbour, tap, reader: Reader::default() }
    }

    fn send(&mut self, packets: &[Vec<u8>]) {
        let all: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        for batch in all.chunks(SEND_BATCH) {
            assert_eq!(self.straight.send(batch, &vec![self.neighbour; batch.len()]), Sent::Taken(batch.len()));
        }
    }

    /// Everything up to the `count`th, each both as it was handed over and as it is read back where it was left.
    fn read(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < count {
            let (mut kept, mut handed) = (Vec::<(Place, ())>::new(), Vec::new());
            let each = |packet: &mut [u8], _: &mut Vec<(Place, ())>| {
                handed.push(packet.to_vec());
                Some(())
            };
            if self.reader.read(&self.tap, &mut kept, each).unwrap() == 0 {
                let ready = poll(&mut [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000u16));
                assert_eq!(ready, Ok(1), "{} of {count} came", all.len());
            }
            let left: Vec<Vec<u8>> = kept.iter().map(|(place, ())| self.reader.bytes(place).to_vec()).collect();
            assert_eq!(handed, left);
            all.extend(handed);
        }
        self.reader.release();
        all
    }
}

/// Enhanced GRE of this length; every packet of a test is another one.
fn gre(length: usize, number: u32) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 47, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet.extend([0x30, 0x01, 0x88, 0x0b, 0, 0, 0, 1]);
    packet.extend(number.to_be_bytes());
    packet.resize(length, number as u8);
    packet
}

#[test]
fn packets_come_whole_and_in_their_order_whatever_their_length() {
    if !root() {
        return;
    }
    let mut pair = Pair::new();
    // Short ones in padded frames, those that just fit a slot of the ring or do not, and the longest of the link.
    let lengths = [32, 46, 80, 1_400, 1_500, 1_950, 1_960, 1_961, 1_962, 1_970, 1_972, 1_980, 2_048, 5_000, 9_000, 80];
    let sent: Vec<Vec<u8>> = lengths.iter().zip(1..).map(|(length, number)| gre(*length, number)).collect();
    pair.send(&sent);
    assert_eq!(pair.read(sent.len()), sent);
}

#[test]
fn a_ring_goes_round_and_what_it_has_no_room_for_is_counted() {
    if !root() {
        return;
    }
    let mut pair = Pair::new();
    for round in 0..5 {
        let sent: Vec<Vec<u8>> = (0..1_000).map(|number| gre(80, round * 1_000 + number)).collect();
        pair.send(&sent);
        assert_eq!(pair.read(sent.len()), sent, "round {round}");
    }
    assert_eq!(pair.tap.drops(), 0);
    let sent: Vec<Vec<u8>> = (0..5_000).map(|number| gre(80, number)).collect();
    pair.send(&sent);
    // What is in the ring is whole; then it goes on.
    assert_eq!(pair.read(4_096), sent[..4_096]);
    assert_eq!(pair.tap.drops(), 5_000 - 4_096);
    pair.send(&sent[..1_000]);
    assert_eq!(pair.read(1_000), sent[..1_000]);
}

#[test]
fn a_link_that_goes_down_is_told_once() {
    if !root() {
        return;
    }
    let mut pair = Pair::new();
    sh("ip link set cg-y down");
    let mut kept: Vec<(Place, ())> = Vec::new();
    let mut look = || pair.reader.read(&pair.tap, &mut kept, |_, _| None).map_err(|error| error.raw_os_error());
    assert_eq!([look(), look()], [Err(Some(libc::ENETDOWN)), Ok(0)]);
    sh("ip link set cg-x down");
    let refused = pair.straight.send(&[&gre(80, 1)], &[pair.neighbour]);
    assert!(matches!(refused, Sent::Refused(_)), "{refused:?}");
}
