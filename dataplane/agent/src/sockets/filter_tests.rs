//! The filters, attached to one end of a datagram socket pair and fed real packets: the kernel itself runs them.

use std::os::unix::net::UnixDatagram;

use socket2::{SockFilter, SockRef};

use super::*;

const EXTERNAL: [u8; 4] = [192, 0, 2, 1];
const OTHER: [u8; 4] = [192, 0, 2, 9];
const SERVER: [u8; 4] = [203, 0, 113, 7];

fn outside() -> Outside {
    Outside {
        addresses: vec![Ipv4Addr::from(EXTERNAL)],
        server_ports: vec![PortRange { first: 1723, last: 1723 }, PortRange { first: 2000, last: 2010 }],
        external_ports: vec![PortRange { first: 10_000, last: 29_999 }, PortRange { first: 61_000, last: 65_535 }],
        elsewhere: vec![],
    }
}

/// Whether the kernel lets `packet` through `program`. A datagram of a unix socket has no network header, so offsets are moved
/// from it to the datagram's start; its packet type is that of a packet to this host.
fn passes(program: &[Instruction], packet: &[u8]) -> bool {
    let (a, b) = UnixDatagram::pair().unwrap();
    b.set_nonblocking(true).unwrap();
    let moved: Vec<_> = program
        .iter()
        .map(|i| {
            let from_network = (net(0)..net(0x1_0000)).contains(&i.k);
            SockFilter::new(i.code, i.yes, i.no, if from_network { i.k - net(0) } else { i.k })
        })
        .collect();
    SockRef::from(&b).attach_filter(&moved).unwrap();
    assert_eq!(a.send(packet).unwrap(), packet.len());
    let mut read = vec![0; packet.len() + 1];
    match b.recv(&mut read) {
        Ok(n) => {
            assert_eq!(&read[..n], packet, "an accepted packet passes whole");
            true
        }
        // Delivery between the ends of a pair is immediate: what is not there now was refused.
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => false,
        Err(e) => panic!("{e}"),
    }
}

/// An IPv4 header with `options` words of options (as no-operation) before `payload`.
fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], fragment: u16, options: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x45 + options, 0, 0, 0, 0, 7, 0, 0, 64, protocol, 0, 0];
    p[6..8].copy_from_slice(&fragment.to_be_bytes());
    p.extend(from);
    p.extend(to);
    p.extend(vec![1; usize::from(options) * 4]);
    p.extend(payload);
    p
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut p = source.to_be_bytes().to_vec();
    p.extend(destination.to_be_bytes());
    p.extend([0; 16]);
    p
}

fn icmp(kind: u8, about: &[u8]) -> Vec<u8> {
    let mut p = vec![kind, 4, 0, 0, 0, 0, 5, 0xdc];
    p.extend(about);
    p
}

const GRE_V1: [u8; 12] = [0x30, 0x81, 0x88, 0x0b, 0, 4, 0, 7, 0, 0, 0, 1];
const GRE_V0: [u8; 12] = [0x20, 0x00, 0x08, 0x00, 0, 4, 0, 7, 0, 0, 0, 1];

#[test]
fn control_connections_of_ours_pass_and_no_others() {
    let p = outside().program();
    let tcp = |source, destination| passes(&p, &ipv4(6, SERVER, EXTERNAL, 0, 0, &ports(source, destination)));
    let seen: Vec<_> = [
        (1723, 10_000),
        (1723, 29_999),
        (1723, 61_000),
        (1723, 65_535),
        (2000, 10_000),
        (2010, 10_000),
        (1722, 10_000),
        (1724, 10_000),
        (1999, 10_000),
        (2011, 10_000),
        (1723, 9_999),
        (1723, 30_000),
        (1723, 60_999),
        (0, 10_000),
        (65_535, 65_535),
    ]
    .into_iter()
    .filter(|(s, d)| tcp(*s, *d))
    .collect();
    assert_eq!(seen, [(1723, 10_000), (1723, 29_999), (1723, 61_000), (1723, 65_535), (2000, 10_000), (2010, 10_000)]);
}

#[test]
fn options_in_the_header_do_not_move_the_ports() {
    let p = outside().program();
    assert!(passes(&p, &ipv4(6, SERVER, EXTERNAL, 0, 10, &ports(1723, 10_000))));
    assert!(!passes(&p, &ipv4(6, SERVER, EXTERNAL, 0, 10, &ports(1723, 9_999))));
}

#[test]
fn only_our_addresses_are_looked_at() {
    let p = outside().program();
    assert!(!passes(&p, &ipv4(6, SERVER, OTHER, 0, 0, &ports(1723, 10_000))));
    assert!(!passes(&p, &ipv4(47, SERVER, OTHER, 0, 0, &GRE_V1)));
    assert!(!passes(&Outside { addresses: vec![], ..outside() }.program(), &ipv4(47, SERVER, EXTERNAL, 0, 0, &GRE_V1)));
}

#[test]
fn enhanced_gre_and_its_later_fragments_pass_other_gre_does_not() {
    let p = outside().program();
    let gre = |fragment, bytes: &[u8]| passes(&p, &ipv4(47, SERVER, EXTERNAL, fragment, 0, bytes));
    assert!(gre(0, &GRE_V1));
    assert!(gre(0x2000, &GRE_V1), "first fragment");
    assert!(gre(0x0005, &[1, 2, 3, 4]), "last fragment");
    assert!(gre(0x2005, &[1, 2, 3, 4]), "middle fragment");
    assert!(!gre(0, &GRE_V0));
    assert!(!gre(0, &GRE_V1[..2]), "too short to tell");
    assert!(passes(&p, &ipv4(47, SERVER, EXTERNAL, 0, 10, &GRE_V1)), "behind options");
}

#[test]
fn icmp_errors_pass_when_they_are_about_gre_or_our_control_connections() {
    let p = outside().program();
    let error = |kind, about: &[u8]| passes(&p, &ipv4(1, SERVER, EXTERNAL, 0, 0, &icmp(kind, about)));
    let gre = ipv4(47, EXTERNAL, SERVER, 0, 0, &GRE_V1);
    let ours = ipv4(6, EXTERNAL, SERVER, 0, 0, &ports(10_000, 1723)[..8]);
    let ours_with_options = ipv4(6, EXTERNAL, SERVER, 0, 3, &ports(10_000, 1723)[..8]);
    let hosts = ipv4(6, EXTERNAL, SERVER, 0, 0, &ports(40_000, 1723)[..8]);
    let udp = ipv4(17, EXTERNAL, SERVER, 0, 0, &ports(10_000, 53)[..8]);
    assert!(error(3, &gre) && error(11, &gre));
    assert!(error(3, &ours) && error(11, &ours) && error(3, &ours_with_options));
    assert!(!error(3, &hosts) && !error(3, &udp));
    assert!(!error(0, &gre) && !error(5, &gre) && !error(8, &gre));
}

#[test]
fn nothing_else_passes_the_outside() {
    let p = outside().program();
    assert!(!passes(&p, &ipv4(17, SERVER, EXTERNAL, 0, 0, &ports(1723, 10_000))));
    assert!(!passes(&p, &ipv4(6, SERVER, EXTERNAL, 0x00b9, 0, &ports(1723, 10_000))), "later TCP fragment");
    assert!(!passes(&p, &[0x45, 0, 0]));
}

#[test]
fn lists_at_their_caps_still_assemble_and_beyond_them_the_check_is_left_out() {
    let many = |n: u16| (0..n).map(|i| PortRange { first: 2 * i + 1, last: 2 * i + 1 }).collect::<Vec<_>>();
    let hosts = |n: u32| (0..n).map(|i| Ipv4Addr::from(0x0a00_0000 + i)).collect::<Vec<_>>();
    let caps = Outside {
        addresses: hosts(MAX_ADDRESSES as u32),
        server_ports: many(MAX_RANGES as u16),
        external_ports: many(MAX_RANGES as u16),
        elsewhere: vec![],
    };
    let last = [10, 0, 0, MAX_ADDRESSES as u8 - 1];
    let beyond = [10, 0, 0, MAX_ADDRESSES as u8];
    let p = caps.program();
    assert!(passes(&p, &ipv4(6, SERVER, last, 0, 0, &ports(2 * MAX_RANGES as u16 - 1, 1))));
    assert!(!passes(&p, &ipv4(6, SERVER, last, 0, 0, &ports(2 * MAX_RANGES as u16 - 2, 1))));
    assert!(!passes(&p, &ipv4(6, SERVER, beyond, 0, 0, &ports(1, 1))));
    let elsewhere: Vec<u32> = (1..=64).collect();
    assert_eq!(Outside { elsewhere, ..caps }.program().len(), p.len() + 64 + 3);
    let more = Outside { addresses: hosts(201), server_ports: many(25), external_ports: many(25), elsewhere: vec![] }
        .program();
    assert!(passes(&more, &ipv4(6, SERVER, beyond, 0, 0, &ports(2, 2))));
}

#[test]
fn the_pod_side_passes_tcp_enhanced_gre_and_icmp_errors() {
    let p = pod_side();
    let pod = [10, 0, 0, 2];
    let to_server = |protocol, fragment, payload: &[u8]| passes(&p, &ipv4(protocol, pod, SERVER, fragment, 0, payload));
    assert!(to_server(6, 0, &ports(40_000, 1723)));
    assert!(to_server(47, 0, &GRE_V1) && to_server(47, 0x0010, &[0; 8]));
    assert!(to_server(1, 0, &icmp(3, &ipv4(47, SERVER, pod, 0, 0, &GRE_V1))));
    assert!(!to_server(47, 0, &GRE_V0) && !to_server(1, 0, &icmp(8, &[])) && !to_server(2, 0, &[0; 8]));
    assert!(!to_server(17, 0, &ports(5353, 5353)) && !to_server(6, 0x0010, &ports(40_000, 1723)));
}
