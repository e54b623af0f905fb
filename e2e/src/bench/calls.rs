//! Scripted control connections: as many calls as wanted, each on a connection of its own, set up one after the other.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context as _, anyhow, ensure};
use callgate_pptp::wire::control::{COOKIE, field12, field14};

use super::bed::SERVER;
use crate::lab::node::Node;

/// One call's Call IDs of the PNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// As the client chose it.
    pub client: u16,
    /// As the server knows it.
    pub outside: u16,
}

/// Calls that are up, with the sockets that keep them so.
#[derive(Debug, Default)]
pub struct Calls {
    /// Their ids.
    pub ids: Vec<Id>,
    _sockets: Vec<TcpStream>,
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

/// Sockets for so many calls: two each, and some for everything else.
fn raise_file_limit(count: usize) {
    let wanted = (count * 2 + 1_024) as libc::rlim_t;
    let limit = libc::rlimit { rlim_cur: wanted, rlim_max: wanted.max(65_536) };
    // SAFETY: limit is an rlimit, and setrlimit only reads it. What fails shows when a socket cannot be made.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// Sets up `count` calls. The PAC's Call ID of each is its number.
///
/// # Errors
/// If one is not answered as it should be.
pub fn set_up(client: &Node, server: &Node, count: usize) -> anyhow::Result<Calls> {
    raise_file_limit(count);
    let listener = server.within(|| TcpListener::bind((SERVER, 1723)))?.context("listen on 1723")?;
    let answering = std::thread::spawn(move || answer(&listener, count));
    let mut sockets = client.within(|| ask(count))??;
    let (outside, served) = answering.join().map_err(|_| anyhow!("the scripted server panicked"))??;
    sockets.extend(served);
    let ids = outside.into_iter().enumerate().map(|(number, outside)| Id { client: number as u16, outside }).collect();
    Ok(Calls { ids, _sockets: sockets })
}

fn ask(count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut sockets = Vec::with_capacity(count);
    for number in 0..count as u16 {
        let mut socket = TcpStream::connect((SERVER, 1723)).with_context(|| format!("call {number}: connect"))?;
        socket.set_nodelay(true)?;
        socket.write_all(&message(1, 156, &[(12, &[1, 0])]))?;
        let mut reply = [0; 156];
        socket.read_exact(&mut reply).with_context(|| format!("call {number}: SCCRP"))?;
        socket.write_all(&message(7, 168, &[(12, &number.to_be_bytes())]))?;
        let mut reply = [0; 32];
        socket.read_exact(&mut reply).with_context(|| format!("call {number}: OCRP"))?;
        ensure!(field14(&reply) == number && reply[16] == 1, "call {number}: refused, or another's: {reply:?}");
        sockets.push(socket);
    }
    Ok(sockets)
}

fn answer(listener: &TcpListener, count: usize) -> anyhow::Result<(Vec<u16>, Vec<TcpStream>)> {
    let (mut ids, mut sockets) = (Vec::with_capacity(count), Vec::with_capacity(count));
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
        sockets.push(socket);
    }
    Ok((ids, sockets))
}
