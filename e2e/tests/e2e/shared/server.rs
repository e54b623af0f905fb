//! A scripted server: as many calls a connection as it is told, and what it does with a second connection of an address.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use callgate_e2e::lab::control::{call_reply, message};
use callgate_e2e::lab::node::Node;
use callgate_e2e::wait;
use callgate_pptp::wire::control::{field12, field14};

/// What it does with a connection beside one that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// Serves it.
    Serve,
    /// Result 3: command channel already exists.
    Refuse,
    /// RST in answer to its first message.
    Reset,
}

/// A call as the server knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known {
    /// Number of the connection that carries it, from 0.
    pub(crate) connection: usize,
    /// The PNS's Call ID.
    pub(crate) pns: u16,
    /// The PAC's Call ID.
    pub(crate) pac: u16,
}

#[derive(Debug, Default)]
struct State {
    accepted: usize,
    /// Established connections.
    open: BTreeMap<usize, TcpStream>,
    calls: Vec<Known>,
    cleared: usize,
    /// The Call ID it has given out last, on whichever connection.
    last_pac: u16,
}

/// A running server; its threads end with their connections.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy)]
struct Manners {
    channels: u16,
    second: Second,
}

impl Server {
    pub(crate) fn start(node: &Node, channels: u16, second: Second) -> Self {
        let listener = node.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 1723))).unwrap().unwrap();
        let server = Self { state: Arc::default() };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = {
                    let mut state = lock(&state);
                    state.accepted += 1;
                    state.accepted - 1
                };
                let (state, manners) = (Arc::clone(&state), Manners { channels, second });
                std::thread::spawn(move || {
                    let _ = serve(stream, number, manners, &state);
                    let mut state = lock(&state);
                    state.open.remove(&number);
                    state.calls.retain(|call| call.connection != number);
                });
            }
        });
        server
    }

    /// Waits until no connection is there.
    pub(crate) fn wait_without_connection(&self) {
        wait::until_true("the server has no connection", Duration::from_secs(10), || Ok(self.connections().1 == 0))
            .unwrap();
    }

    /// Live calls, sorted.
    pub(crate) fn calls(&self) -> Vec<Known> {
        let mut calls = lock(&self.state).calls.clone();
        calls.sort();
        calls
    }

    /// Connections accepted so far, and established ones now.
    pub(crate) fn connections(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.accepted, state.open.len())
    }

    /// Says this on the connection with this number, from 0.
    pub(crate) fn says(&self, connection: usize, octets: &[u8]) {
        let state = lock(&self.state);
        (&state.open[&connection]).write_all(octets).unwrap();
    }

    /// Calls that clients have ended.
    pub(crate) fn cleared(&self) -> usize {
        lock(&self.state).cleared
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One whole message.
pub(crate) fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; 2];
    stream.read_exact(&mut message)?;
    message.resize(usize::from(u16::from_be_bytes([message[0], message[1]])).max(2), 0);
    stream.read_exact(&mut message[2..])?;
    Ok(message)
}

fn serve(mut stream: TcpStream, number: usize, manners: Manners, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let SocketAddr::V4(_) = stream.peer_addr()? else { return Ok(()) };
    let first = read_message(&mut stream)?;
    assert_eq!(first[9], 1, "the first message");
    let beside = !lock(state).open.is_empty();
    if beside && manners.second == Second::Refuse {
        return stream.write_all(&message(2, 156, &[(12, &[1, 0, 3])]));
    }
    if beside && manners.second == Second::Reset {
        return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    lock(state).open.insert(number, stream.try_clone()?);
    stream.write_all(&message(2, 156, &[(12, &[1, 0, 1]), (24, &manners.channels.to_be_bytes())]))?;
    loop {
        let said = read_message(&mut stream)?;
        match said[9] {
            3 => return stream.write_all(&message(4, 16, &[(12, &[1])])),
            5 => stream.write_all(&message(6, 20, &[(12, &said[12..16]), (16, &[1])]))?,
            7 => {
                let call = {
                    let mut state = lock(state);
                    state.last_pac = state.last_pac.wrapping_add(1);
                    let call = Known { connection: number, pns: field12(&said), pac: state.last_pac };
                    let same = state.calls.iter().filter(|known| known.pns == call.pns).count();
                    assert_eq!(same, 0, "PNS id {} is given twice", call.pns);
                    let here = state.calls.iter().filter(|known| known.connection == number).count();
                    assert!(here < usize::from(manners.channels), "more calls than channels");
                    state.calls.push(call);
                    call
                };
                stream.write_all(&call_reply(call.pac, call.pns))?;
            }
            12 => {
                let pns = field12(&said);
                let pac = {
                    let mut state = lock(state);
                    let at = state.calls.iter().position(|known| known.connection == number && known.pns == pns);
                    state.cleared += usize::from(at.is_some());
                    at.map(|at| state.calls.swap_remove(at).pac)
                };
                if let Some(pac) = pac {
                    stream.write_all(&message(13, 148, &[(12, &pac.to_be_bytes()), (14, &[4])]))?;
                }
            }
            6 | 15 => {}
            other => panic!("the server was sent a message of type {other}, field 14 {}", field14(&said)),
        }
    }
}
