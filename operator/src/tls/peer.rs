//! Who is at the other end of a connection, and whether somebody on it has shown that he is an agent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::strangers::{Closing, Crowd, Place};

/// A connection on which no agent is attached in this time is closed: the handshake, showing the token to the API server, and hello.
pub(super) const PROVEN_WITHIN: Duration = Duration::from_secs(15);
/// A connection on which so many streams were refused is closed: an agent begins with a new one each time.
const MOST_REFUSALS: u32 = 3;

/// The other end. A clone is the same.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    crowd: Crowd,
    closing: Arc<Closing>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Among the strangers, while no stream is admitted.
    place: Option<Place>,
    /// Streams that are admitted.
    streams: usize,
    refusals: u32,
    /// The connection has ended.
    gone: bool,
}

/// A stream that was admitted. While it lives, the connection is an agent's; after the last one it is a stranger's again.
#[derive(Debug)]
pub struct Proof(Peer);

impl Peer {
    /// Has just connected.
    pub(super) fn new(address: SocketAddr, crowd: &Crowd) -> Self {
        let closing = Arc::default();
        let place = Some(crowd.enter(address.ip(), &closing, PROVEN_WITHIN));
        let state = Mutex::new(State { place, ..State::default() });
        Self(Arc::new(Inner { address, crowd: crowd.clone(), closing, state }))
    }

    /// Address and port.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// A stream on it was admitted.
    pub fn prove(&self) -> Proof {
        let mut state = self.lock();
        state.streams += 1;
        state.place = None;
        drop(state);
        Proof(self.clone())
    }

    /// A stream on it was refused.
    pub fn refused(&self) {
        let mut state = self.lock();
        state.refusals += 1;
        if state.refusals >= MOST_REFUSALS && state.streams == 0 {
            self.0.closing.close();
        }
    }

    /// When the connection is to end.
    pub(super) fn closing(&self) -> &Closing {
        &self.0.closing
    }

    /// The connection has ended.
    pub(super) fn gone(&self) {
        let mut state = self.lock();
        state.gone = true;
        state.place = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        let Peer(inner) = &self.0;
        let mut state = self.0.lock();
        state.streams -= 1;
        if state.streams == 0 && !state.gone {
            state.place = Some(inner.crowd.enter(inner.address.ip(), &inner.closing, PROVEN_WITHIN));
        }
    }
}
