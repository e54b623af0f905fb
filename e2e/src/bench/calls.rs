//! Scripted control connections: as many calls as wanted, each on a connection of its own, set up one after the other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, anyhow, ensure};
use callgate_pptp::wire::control::{COOKIE, field12, field14};
use socket2::{Domain, Socket, Type};

use super::bed::{CLIENT, SERVER};
use crate::lab::node::Node;

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

fn message(kind: u8, length: u16, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(length)];
    bytes[..2].copy_from_slice(&length.to_be_bytes());
    bytes[3] = 1;
    bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
    bytes[9] = kind;
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

/// Closes a socket without a word to its peer: tens of thousands of calls need more sockets than a process may have, and a call
/// lives on as long as nobody sends FIN.
fn vanish(socket: TcpStream) -> anyhow::Result<()> {
    let on = 1i32;
    // SAFETY: the value is an i32 of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_TCP,
            libc::TCP_REPAIR,
            (&raw const on).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    ensure!(result == 0, "TCP_REPAIR: {}", std::io::Error::last_os_error());
    Ok(())
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
        socket.write_all(&message(1, 156, &[(12, &[1, 0])]))?;
        let mut reply = [0; 156];
        socket.read_exact(&mut reply).with_context(|| format!("call {number}: SCCRP"))?;
        socket.write_all(&message(7, 168, &[(12, &number.to_be_bytes())]))?;
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
        socket.write_all(&message(2, 156, &[(12, &[1, 0, 1])]))?;
        let mut request = [0; 168];
        socket.read_exact(&mut request)?;
        let id = field12(&request);
        socket.write_all(&message(8, 32, &[(12, &number.to_be_bytes()), (14, &id.to_be_bytes()), (16, &[1])]))?;
        ids.push(id);
        // The client's acknowledgement of the reply has to find a socket, or the kernel answers it with RST.
        last.replace(socket).map_or(Ok(()), vanish)?;
    }
    last.map_or(Ok(()), vanish)?;
    Ok(ids)
}
