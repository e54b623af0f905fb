//! A PPTP call through the whole agent of a node: it outlives every replacement of the agent, and ends with its pod.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use callgate_proto::model::NodeConfig;
use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Ours;
use callgate_proto::pb::operator_message::Kind as Theirs;
use nix::sys::signal::Signal;
use socket2::Socket;

use super::agent::{Place, acknowledged, here, snapshot};
use super::fake::Stream;
use super::lab::{Lab, Namespace, root, sh};
use super::probes::raw_socket;
use super::steering::config;

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const PATIENCE: Duration = Duration::from_secs(20);

/// The client's Call ID (PNS) and the server's (PAC).
const PNS: u16 = 5;
const PAC: u16 = 100;

/// A control message (RFC 2637 section 2) of this type and length with these bytes at these offsets.
fn message(kind: u16, length: u16, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(length)];
    bytes[..2].copy_from_slice(&length.to_be_bytes());
    bytes[3] = 1;
    bytes[4..8].copy_from_slice(&0x1a2b_3c4d_u32.to_be_bytes());
    bytes[8..10].copy_from_slice(&kind.to_be_bytes());
    parts.iter().for_each(|(at, part)| bytes[*at..at + part.len()].copy_from_slice(part));
    bytes
}

/// Both ends of one call: control connection, and a raw socket for GRE.
struct Call {
    client: TcpStream,
    server: TcpStream,
    pod: Socket,
    outside: Socket,
    /// The PNS's Call ID as the server knows it.
    translated: u16,
}

fn exchange(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    from.write_all(bytes).unwrap();
    let mut read = vec![0; bytes.len()];
    to.read_exact(&mut read).unwrap();
    read
}

impl Call {
    fn open(pod: &Namespace, outside: &Namespace) -> Self {
        let listener = outside.run(|| TcpListener::bind((SERVER, 1723)).unwrap());
        let client = pod.run(|| TcpStream::connect_timeout(&SocketAddr::from((SERVER, 1723)), PATIENCE).unwrap());
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), NODE);
        let gre = || {
            let socket = raw_socket(47);
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (pod, outside) = (pod.run(gre), outside.run(gre));
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut call = Self { client, server, pod, outside, translated: 0 };
        exchange(&mut call.client, &mut call.server, &message(1, 156, &[(12, &[1, 0])]));
        exchange(&mut call.server, &mut call.client, &message(2, 156, &[(12, &[1, 0, 1, 0])]));
        let request = message(7, 168, &[(12, &PNS.to_be_bytes())]);
        let request = exchange(&mut call.client, &mut call.server, &request);
        call.translated = u16::from_be_bytes([request[12], request[13]]);
        let reply = [(12, &PAC.to_be_bytes()[..]), (14, &call.translated.to_be_bytes()[..]), (16, &[1][..])];
        let reply = exchange(&mut call.server, &mut call.client, &message(8, 32, &reply));
        assert_eq!(reply[14..16], PNS.to_be_bytes());
        call
    }

    /// Control messages and GRE pass both ways, each at its end's own Call ID.
    fn passes(&mut self, sequence: u8) {
        let Self { client, server, pod, outside, translated } = self;
        exchange(client, server, &message(5, 16, &[(12, &[1, 2, 3, sequence])]));
        exchange(server, client, &message(6, 20, &[(12, &[1, 2, 3, sequence, 1])]));
        pod.send_to(&gre(PAC, sequence), &SocketAddr::from((SERVER, 0)).into()).unwrap();
        assert_eq!(received(outside), (NODE, gre(PAC, sequence)));
        outside.send_to(&gre(*translated, sequence), &SocketAddr::from((NODE, 0)).into()).unwrap();
        assert_eq!(received(pod), (SERVER, gre(PNS, sequence)));
    }
}

/// Enhanced GRE (RFC 2637 section 4.1) with one octet.
fn gre(call: u16, sequence: u8) -> Vec<u8> {
    let call = call.to_be_bytes();
    vec![0x30, 0x01, 0x88, 0x0b, 0, 1, call[0], call[1], 0, 0, 0, sequence, 0xff]
}

/// The next packet: its source, and what is behind the IPv4 header.
fn received(mut socket: &Socket) -> (Ipv4Addr, Vec<u8>) {
    let mut packet = [0; 256];
    let length = socket.read(&mut packet).unwrap();
    let source = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
    (source, packet[20..length].to_vec())
}

/// States of the calls, as the operator is told them.
async fn calls(stream: &mut Stream) -> Vec<(Option<u32>, pb::CallState)> {
    let kind = Some(pb::question::Kind::Calls(pb::CallsRequest {}));
    stream.tell(Theirs::Question(pb::Question { id: 1, kind })).await;
    match stream.next_but_reports().await {
        Some(Ours::Answer(pb::Answer { kind: Some(pb::answer::Kind::Calls(list)), .. })) => {
            list.calls.iter().map(|call| (call.pns_call_id, call.state())).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_outlives_every_replacement_of_the_agent_and_ends_with_its_pod() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    let config = NodeConfig { node: "node-a".into(), ..config() };
    here(async {
        let mut place = Place::new().await;
        let mut agent = place.start();
        let (mut stream, _) = place.attached().await;
        stream.tell(snapshot(&config, "u1")).await;
        acknowledged(&mut stream, &config).await;
        let mut call = Call::open(&lab.a, &lab.server);
        call.passes(1);
        for (sequence, signal) in [(2, Signal::SIGTERM), (3, Signal::SIGKILL)] {
            agent.end(signal);
            agent = place.start();
            (stream, _) = place.attached().await;
            // No reset: both ends read what the other has said, on the connections they had.
            call.passes(sequence);
            assert_eq!(calls(&mut stream).await, [(Some(u32::from(PNS)), pb::CallState::Up)], "{signal}");
        }
        // The pod's address is another pod's now: the server hears that the old one is gone, the new one hears nothing.
        stream.tell(snapshot(&config, "u2")).await;
        acknowledged(&mut stream, &config).await;
        assert_eq!(calls(&mut stream).await, []);
        let told = call.server.read(&mut [0; 16]).map_err(|error| error.kind());
        assert_eq!(told, Err(std::io::ErrorKind::ConnectionReset));
        call.client.set_nonblocking(true).unwrap();
        let heard = call.client.read(&mut [0; 16]).map_err(|error| error.kind());
        assert_eq!(heard, Err(std::io::ErrorKind::WouldBlock), "{POD}");
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}
