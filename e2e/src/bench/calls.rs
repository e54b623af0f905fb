//! Scripted control connections: as many calls as wanted, each on a connection of its own, set up one after the other.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::ops::Range;

use anyhow::{Context as _, anyhow, ensure};
use callgate_pptp::wire::control::{field12, field14};
use socket2::{Domain, Socket, Type};

use super::bed::{CLIENT, SERVERS};
use crate::lab::control::{call_reply, call_request, start_reply, start_request};
use crate::lab::node::Node;
use crate::lab::packet_socket::set_int;

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// Whom it is to.
    pub server: Ipv4Addr,
    /// The PNS's Call ID as the client chose it.
    pub client: u16,
    /// As the server knows it.
    pub outside: u16,
    /// The PAC's.
    pub pac: u16,
}

/// Calls of one server: each needs an external port of its own.
const OF_A_SERVER: usize = 20_000;

/// Calls that are up.
#[derive(Debug, Default)]
pub struct Calls {
    /// Their ids.
    pub ids: Vec<Id>,
}

/// Closes a socket without a word to its peer: tens of thousands of calls need more sockets than a process may have, and a call
/// lives on as long as nobody sends FIN.
fn vanish(socket: TcpStream) -> anyhow::Result<()> {
    set_int(&socket, libc::SOL_TCP, libc::TCP_REPAIR, 1).context("TCP_REPAIR")
}

/// Sets up `count` calls, one after the other. Both ends' own Call IDs of each are its number.
///
/// # Errors
/// If one is not answered as it should be.
pub fn set_up(client: &Node, server: &Node, count: usize) -> anyhow::Result<Calls> {
    let mut ids = Vec::with_capacity(count);
    for (address, first) in SERVERS.into_iter().zip((0..count).step_by(OF_A_SERVER)) {
        let numbers = first as u16..count.min(first + OF_A_SERVER) as u16;
        let listener = server.within(|| TcpListener::bind((address, 1723)))?.context("listen on 1723")?;
        let theirs = numbers.clone();
        let answering = std::thread::spawn(move || answer(&listener, theirs));
        client.within(|| ask(address, numbers.clone()))??;
        let outside = answering.join().map_err(|_| anyhow!("the scripted server panicked"))??;
        let id = |(number, outside)| Id { server: address, client: number, outside, pac: number };
        ids.extend(numbers.zip(outside).map(id));
    }
    Ok(Calls { ids })
}

fn ask(server: Ipv4Addr, numbers: Range<u16>) -> anyhow::Result<()> {
    for number in numbers {
        // A port of its own for each: the kernel takes those of vanished sockets for free.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddrV4::new(CLIENT, 10_000 + number % OF_A_SERVER as u16).into())?;
        socket.connect(&SocketAddrV4::new(server, 1723).into()).with_context(|| format!("call {number}: connect"))?;
        let mut socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.write_all(&start_request())?;
        let mut reply = [0; 156];
        socket.read_exact(&mut reply).with_context(|| format!("call {number}: SCCRP"))?;
        socket.write_all(&call_request(number))?;
        let mut reply = [0; 32];
        socket.read_exact(&mut reply).with_context(|| format!("call {number}: OCRP"))?;
        ensure!(field14(&reply) == number && reply[16] == 1, "call {number}: refused, or another's: {reply:?}");
        vanish(socket)?;
    }
    Ok(())
}

fn answer(listener: &TcpListener, numbers: Range<u16>) -> anyhow::Result<Vec<u16>> {
    let (mut ids, mut last) = (Vec::with_capacity(numbers.len()), None);
    for number in numbers {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut request = [0; 156];
        socket.read_exact(&mut request)?;
        socket.write_all(&start_reply())?;
        let mut request = [0; 168];
        socket.read_exact(&mut request)?;
        let id = field12(&request);
        socket.write_all(&call_reply(number, id))?;
        ids.push(id);
        // The client's acknowledgement of the reply has to find a socket, or the kernel answers it with RST.
        last.replace(socket).map_or(Ok(()), vanish)?;
    }
    last.map_or(Ok(()), vanish)?;
    Ok(ids)
}
