//! Scripted control connections: as many calls as wanted, each on a connection of its own, set up one after the other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream};

use anyhow::{Context as _, anyhow, ensure};
use callgate_pptp::wire::control::{field12, field14};
use socket2::{Domain, Socket, Type};

use super::bed::{CLIENT, SERVER};
use crate::lab::control::{call_reply, call_request, start_reply, start_request};
use crate::lab::node::Node;
use crate::lab::packet_socket::set_int;

/// One call's Call IDs of the PNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// As the client chose it.
    pub client: u16,
    /// As the server knows it.
    pub outside: u16,
}

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

/// Sets up `count` calls. The PAC's Call ID of each is its number.
///
/// # Errors
/// If one is not answered as it should be.
pub fn set_up(client: &Node, server: &Node, count: usize) -> anyhow::Result<Calls> {
    let listener = server.within(|| TcpListener::bind((SERVER, 1723)))?.context("listen on 1723")?;
    let answering = std::thread::spawn(move || answer(&listener, count));
    client.within(|| ask(count))??;
    let outside = answering.join().map_err(|_| anyhow!("the scripted server panicked"))??;
    let ids = outside.into_iter().enumerate().map(|(number, outside)| Id { client: number as u16, outside }).collect();
    Ok(Calls { ids })
}

fn ask(count: usize) -> anyhow::Result<()> {
    for number in 0..count as u16 {
        // A port of its own for each: the kernel takes those of vanished sockets for free.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddrV4::new(CLIENT, 10_000 + number).into())?;
        socket.connect(&SocketAddrV4::new(SERVER, 1723).into()).with_context(|| format!("call {number}: connect"))?;
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

fn answer(listener: &TcpListener, count: usize) -> anyhow::Result<Vec<u16>> {
    let (mut ids, mut last) = (Vec::with_capacity(count), None);
    for number in 0..count as u16 {
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
