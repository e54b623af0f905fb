//! A scripted client: one control connection from one of many addresses of a node, its calls, and their GRE by hand.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use callgate_e2e::lab::control::{call_request, message, start_request};
use callgate_e2e::lab::node::Node;
use callgate_pptp::wire::control::{field12, field14};
use socket2::{Domain, Socket, Type};

use super::super::raw;
use super::super::support::server;
use super::server::read_message;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A control connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: Ipv4Addr,
    pub(crate) stream: TcpStream,
}

/// A call as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) client: Ipv4Addr,
    pub(crate) pns: u16,
    pub(crate) pac: u16,
}

/// Address of the client with this number, from 0.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 10, 20 + (number / 200) as u8, 1 + (number % 200) as u8)
}

/// Gives the node the addresses of so many clients.
pub(crate) fn give_addresses(node: &Node, count: usize) {
    let lines: String = (0..count).map(|number| format!("addr add {}/16 dev eth0\n", address(number))).collect();
    node.ip(&lines).unwrap();
}

impl Client {
    /// TCP, nothing said yet.
    pub(crate) fn connect(node: &Node, number: usize) -> std::io::Result<Self> {
        Self::connect_to(node, number, server(0))
    }

    /// The same to another server.
    pub(crate) fn connect_to(node: &Node, number: usize, server: Ipv4Addr) -> std::io::Result<Self> {
        let address = address(number);
        let stream = node
            .within(|| -> std::io::Result<TcpStream> {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                socket.bind(&SocketAddrV4::new(address, 0).into())?;
                socket.connect_timeout(&SocketAddrV4::new(server, 1723).into(), PATIENCE)?;
                Ok(socket.into())
            })
            .unwrap()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { address, stream })
    }

    /// Up to the server's Start-Control-Connection-Reply, whose result is returned.
    pub(crate) fn start(&mut self) -> std::io::Result<u8> {
        self.stream.write_all(&start_request())?;
        Ok(self.hear(2)?[14])
    }

    /// Connects, is answered, and has a call with this Call ID.
    pub(crate) fn with_call(node: &Node, number: usize, pns: u16) -> std::io::Result<(Self, Call)> {
        let mut client = Self::connect(node, number)?;
        assert_eq!(client.start()?, 1, "Start-Control-Connection-Reply to {}", client.address);
        let call = client.call(pns)?;
        Ok((client, call))
    }

    /// A call that is granted.
    pub(crate) fn call(&mut self, pns: u16) -> std::io::Result<Call> {
        self.stream.write_all(&call_request(pns))?;
        let reply = self.hear(8)?;
        assert_eq!((field14(&reply), reply[16]), (pns, 1), "Outgoing-Call-Reply to {}", self.address);
        Ok(Call { client: self.address, pns, pac: field12(&reply) })
    }

    /// The next message, which is of this type; Echo-Requests before it are answered.
    pub(crate) fn hear(&mut self, kind: u8) -> std::io::Result<Vec<u8>> {
        loop {
            let said = read_message(&mut self.stream)?;
            if said[9] == 5 {
                self.stream.write_all(&message(6, 20, &[(12, &said[12..16]), (16, &[1])]))?;
                continue;
            }
            assert_eq!(said[9], kind, "{} hears {said:?}", self.address);
            return Ok(said);
        }
    }

    /// Ends without a word.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Nothing waits to be read, and the connection lives: an Echo-Request is answered.
    pub(crate) fn is_well(&mut self) -> bool {
        self.stream.write_all(&message(5, 16, &[(12, b"well")])).is_ok()
            && self.hear(6).is_ok_and(|reply| reply[12..16] == *b"well")
    }
}

/// Enhanced GRE with this Call ID of the receiver, a sequence number and this payload.
pub(crate) fn gre(src: Ipv4Addr, dst: Ipv4Addr, id: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0x30, 0x01, 0x88, 0x0b];
    body.extend((payload.len() as u16).to_be_bytes());
    body.extend(id.to_be_bytes());
    body.extend(sequence.to_be_bytes());
    body.extend(payload);
    raw::datagram(src, dst, 47, &body)
}
