//! Takes from a pod whose link has gone what is in force for it, in a thread of its own: its address may be another pod's in a moment.
//!
//! ```text
//!  link gone ─► ALG: its calls end ─► its element out of the source map ─► its flows out of conntrack ─► the loop puts in order what is left
//! ```
//!
//! A CNI gives an address out again within tens of milliseconds, and the loop may be busy for longer than that: it writes to disk, and
//! waits for the ALG. So nothing here waits for a disk, for the loop or for a lock that is held while either is waited for.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use futures::FutureExt as _;
use tokio::sync::oneshot;

use super::guests::Guests;
use crate::kernel::{Options, Withdrawal};
use crate::netlink::{Departure, Departures, Doors};

/// The thread, as its owner sees it. It ends when this is dropped.
pub(super) struct Doorkeeper {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Doorkeeper {
    /// Starts it; whoever goes from now on is noticed.
    ///
    /// # Errors
    /// When the kernel refuses a socket or the thread.
    pub(super) fn start(options: &Options, guests: &Arc<Guests>) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = channel();
        let (options, guests) = (options.clone(), Arc::clone(guests));
        let body = move || watch(&options, guests, stopped, &ready);
        let thread = std::thread::Builder::new().name("doorkeeper".into()).spawn(body)?;
        started.recv().unwrap_or_else(|_| Err(anyhow!("the thread ended at its start")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Doorkeeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's work.
fn watch(options: &Options, guests: Arc<Guests>, stopped: oneshot::Receiver<()>, ready: &Sender<Result<()>>) {
    let begun = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime");
    let begun = begun.and_then(|runtime| {
        let departures = runtime.block_on(async { Departures::open() })?;
        let doors = Doors::open()?;
        let withdrawal = Withdrawal::open(options)?;
        Ok((runtime, departures, Keeper { guests, doors, withdrawal }))
    });
    let (runtime, departures, mut keeper) = match begun {
        Ok(all) => all,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(()));
    runtime.block_on(async {
        tokio::select! {
            _ = stopped => {}
            () = keeper.keep(departures) => {}
        }
    });
}

struct Keeper {
    guests: Arc<Guests>,
    doors: Doors,
    withdrawal: Withdrawal,
}

impl Keeper {
    async fn keep(&mut self, mut departures: Departures) {
        loop {
            let first = departures.next().await;
            // A node that is drained loses many at once.
            let others = std::iter::from_fn(|| departures.next().now_or_never());
            let crowd: Vec<_> = std::iter::once(first).chain(others.take(CROWD)).collect();
            if let Some(error) = crowd.iter().find_map(|departure| departure.as_ref().err()) {
                tracing::warn!("links that have gone were not heard of: {error}");
                departures = reopened().await;
            }
            self.hear(crowd.into_iter().map(|departure| departure.unwrap_or(Departure::Lost)));
        }
    }

    fn hear(&mut self, crowd: impl Iterator<Item = Departure>) {
        let (mut links, mut lost, mut spoke) = (BTreeSet::new(), false, false);
        for departure in crowd {
            match departure {
                Departure::Gone(link) => drop(links.insert(link)),
                Departure::Lost => lost = true,
                Departure::Spoke(address) => spoke |= self.guests.is_unknown(address),
            }
        }
        let mut leaving = self.guests.leave(|link| !links.contains(&link));
        if lost {
            leaving.extend(self.guests.check(&self.doors));
        }
        if !leaving.is_empty() {
            self.take_from(&leaving);
        }
        if lost || spoke {
            self.guests.look(&self.doors);
        }
    }

    fn take_from(&mut self, leaving: &BTreeSet<Ipv4Addr>) {
        self.guests.end(leaving);
        let rules = self.withdrawal.sources(leaving);
        let flows = self.withdrawal.flows(leaving);
        for error in [rules, flows].into_iter().filter_map(Result::err) {
            tracing::warn!("pods have gone, and what they had could not be taken away at once: {error}");
        }
        for address in leaving {
            tracing::info!(%address, "its pod's link has gone: no rule is in force for it until the operator says whose it is");
        }
        self.guests.tell();
    }
}

/// So many are gone through before anything is done about them.
const CROWD: usize = 256;

/// A subscription anew; what was missed meanwhile counts as lost.
async fn reopened() -> Departures {
    loop {
        match Departures::open() {
            Ok(departures) => return departures,
            Err(error) => {
                tracing::error!("links that go cannot be listened to: {error}; tried again in a second");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}
