//! XDP on links whose drivers do it natively, before tc and on the same map, where its owner wants that: in a thread of its own, since a
//! card may take a second to change over.
//!
//! ```text
//!  On ── links ─► Xdp ─► thread ─┬─► netdev: what drivers can ─► cards (pure) ─► bpf(2), a name
//!   ▲              │             └─► maps of the program: links, their addresses
//!   └─── Told ◄────┘
//! ```
//! Once on a link the program stays until the link is gone, its driver does not do it any more, or the agent is stopped. What it does
//! not take, tc and the ALG get as ever: so nothing depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::maps::xdp::DevMapHash;
use aya::maps::{HashMap, MapData};
use callgate_pptp::Now;

use super::cards::{Facts, unfit};
use super::pins::{Hook, Pins};
use super::program::{self, Attached, XDP_LINKS};
use super::refusals::Refusals;
use crate::netlink::link::takes_tags_off;
use crate::netlink::{Link, Netdev, Routes};

/// Between two looks at links: nobody tells when a driver or its owner changes its mind.
const CHECK: Duration = Duration::from_secs(5);

/// Frames of links from this MTU on do not fit a page with what XDP needs beside them.
const LARGE: u32 = 3_000;

/// The maps of the program that are the agent's to fill.
pub(super) struct Cards {
    /// Links by which frames may leave.
    pub(super) out: DevMapHash<MapData>,
    /// Links with the program, and their Ethernet addresses.
    pub(super) own: HashMap<MapData, u32, [u8; 8]>,
}

/// How it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Links it is on, and their names.
    pub on: BTreeMap<u32, String>,
    /// Links that were to have it, and why they have not.
    pub not: BTreeMap<String, String>,
}

/// Links that are to have it, of all there are.
type Wish = (BTreeSet<u32>, Arc<BTreeMap<u32, Link>>);

/// The thread, and what it was asked for.
pub(super) struct Xdp {
    /// `None` while it ends.
    wishes: Option<Sender<Wish>>,
    links: BTreeSet<u32>,
    known: Arc<BTreeMap<u32, Link>>,
    /// Wishes so far, and how many of them are done; how it was then.
    asked: u64,
    done: Arc<Mutex<(u64, Told)>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Xdp {
    /// Begins, with links a run before has left: they have this program from now on, or none.
    ///
    /// # Errors
    /// Why there can be none.
    pub(super) fn start(
        program: OwnedFd,
        cards: Cards,
        netdev: Netdev,
        pins: Option<Pins>,
        left: &[u32],
        known: &Arc<BTreeMap<u32, Link>>,
    ) -> Result<Self, String> {
        let routes = Routes::open().map_err(|error| format!("opening a route netlink socket: {error}"))?;
        let mut worker = Worker {
            program,
            cards,
            pins,
            routes,
            netdev,
            wanted: BTreeSet::new(),
            known: Arc::clone(known),
            on: BTreeMap::new(),
            refusals: Refusals::default(),
            for_good: BTreeMap::new(),
            begun: Instant::now(),
            ends: Arc::default(),
        };
        left.iter().for_each(|link| worker.adopt(*link));
        let done = Arc::new(Mutex::new((0, worker.told(BTreeMap::new()))));
        let (wishes, wished) = channel();
        let (tell, ends) = (Arc::clone(&done), Arc::clone(&worker.ends));
        let thread = std::thread::Builder::new().name("xdp".to_owned()).spawn(move || worker.work(&wished, &tell));
        let thread = thread.map_err(|error| format!("starting a thread: {error}"))?;
        let (links, known) = (BTreeSet::new(), Arc::clone(known));
        Ok(Self { wishes: Some(wishes), links, known, asked: 0, done, ends, thread: Some(thread) })
    }

    /// These links are to have it, of all there are.
    pub(super) fn want(&mut self, links: &BTreeSet<u32>, known: &Arc<BTreeMap<u32, Link>>) {
        if *links != self.links || !Arc::ptr_eq(known, &self.known) {
            self.links.clone_from(links);
            self.known = Arc::clone(known);
            if let Some(wishes) = &self.wishes
                && wishes.send((links.clone(), Arc::clone(known))).is_ok()
            {
                self.asked += 1;
            }
        }
    }

    /// Whether all is done that was asked for.
    pub(super) fn is_idle(&self) -> bool {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        ended || self.done.lock().unwrap_or_else(PoisonError::into_inner).0 >= self.asked
    }

    /// How it is.
    pub(super) fn told(&self) -> Told {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

impl Drop for Xdp {
    /// At most one link more gets the program, and its name.
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    program: OwnedFd,
    cards: Cards,
    pins: Option<Pins>,
    routes: Routes,
    netdev: Netdev,
    wanted: BTreeSet<u32>,
    known: Arc<BTreeMap<u32, Link>>,
    on: BTreeMap<u32, Attached>,
    refusals: Refusals,
    /// Links that were found lacking with the program on them: a card that is out of service for each attempt is not tried again.
    for_good: BTreeMap<u32, String>,
    begun: Instant,
    ends: Arc<AtomicBool>,
}

impl Worker {
    fn work(mut self, wished: &Receiver<Wish>, tell: &Mutex<(u64, Told)>) {
        let mut done = 0;
        loop {
            let first = match wished.recv_timeout(CHECK) {
                Ok(wish) => Some(wish),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // The newest of many says all.
            let before = Arc::clone(&self.known);
            for (wanted, known) in first.into_iter().chain(wished.try_iter()) {
                (self.wanted, self.known) = (wanted, known);
                done += 1;
            }
            // Another MTU, say.
            let is_as_before = |link| self.known.get(&link).is_some_and(|link| before.get(&link.index) == Some(link));
            self.refusals.retain(is_as_before);
            self.for_good.retain(|link, _| self.known.contains_key(link));
            let told = self.turn();
            if self.ends.load(Ordering::Relaxed) {
                return;
            }
            *tell.lock().unwrap_or_else(PoisonError::into_inner) = (done, told);
        }
    }

    fn now(&self) -> Now {
        Now(self.begun.elapsed().as_millis() as u64)
    }

    /// Looks at each link that has it or should.
    fn turn(&mut self) -> Told {
        self.refusals.due(self.now());
        let mut not = BTreeMap::new();
        let links: BTreeSet<u32> = self.wanted.iter().chain(self.on.keys()).copied().collect();
        for link in links {
            if self.ends.load(Ordering::Relaxed) {
                break;
            }
            let known = Arc::clone(&self.known);
            let Some(known) = known.get(&link) else {
                // Gone, and with it the program.
                self.take(link);
                continue;
            };
            if let Err(why) = self.look_at(known) {
                not.insert(known.name.clone(), why);
            }
        }
        self.told(not)
    }

    fn told(&self, not: BTreeMap<String, String>) -> Told {
        let name = |link: &u32| self.known.get(link).map_or_else(|| link.to_string(), |link| link.name.clone());
        Told { on: self.on.keys().map(|link| (*link, name(link))).collect(), not }
    }

    fn look_at(&mut self, link: &Link) -> Result<(), String> {
        let holds = |on: &Attached| program::holds(link.index, on, self.pins.as_ref(), &self.routes);
        if self.on.get(&link.index).is_some_and(|on| !holds(on)) {
            self.take(link.index);
            if program::is_gone(link.index, &self.routes) {
                // Whoever looks at links tells.
                return Ok(());
            }
            tracing::warn!(link = link.name, "its XDP program was taken away: it is put there again");
        }
        if self.on.contains_key(&link.index) {
            return match self.facts(link, true) {
                // What cannot be asked now is as it was.
                Err(_) => Ok(()),
                Ok(facts) => match unfit(link, &self.known, facts) {
                    // Each time: an element goes with its link, which may have been away and come back.
                    None => self.admit(link),
                    Some(why) => {
                        tracing::info!(link = link.name, "no XDP on it any more: {why}");
                        self.take(link.index);
                        Err(why)
                    }
                },
            };
        }
        if let Some(why) = self.for_good.get(&link.index).or(self.refusals.of(link.index)) {
            return Err(why.clone());
        }
        let facts = self.facts(link, false)?;
        if let Some(why) = unfit(link, &self.known, facts) {
            return Err(why);
        }
        match self.put(link) {
            Ok(()) => {
                self.refusals.is_over(link.index);
                tracing::info!(link = link.name, "XDP is on it");
                Ok(())
            }
            Err(why) => {
                if self.refusals.note(link.index, why.clone(), self.now()) {
                    tracing::warn!(link = link.name, "no XDP on it: {why}");
                }
                Err(why)
            }
        }
    }

    fn facts(&mut self, link: &Link, on: bool) -> Result<Facts, String> {
        let can = self.netdev.features(link.index).map_err(|error| error.to_string())?;
        let can = can.ok_or("the kernel says nothing of its driver")?;
        // Of a veth it says nothing.
        let asked = if link.kind == "veth" { Ok(false) } else { takes_tags_off(link) };
        let takes_tags_off = asked.map_err(|error| format!("whether it takes VLAN tags off: {error}"))?;
        Ok(Facts { can, takes_tags_off, on })
    }

    fn put(&mut self, link: &Link) -> Result<(), String> {
        if self.on.len() >= XDP_LINKS as usize {
            return Err(format!("{XDP_LINKS} links have it, which is all there is room for"));
        }
        let attached = program::attach_xdp(&self.program, link.index, self.pins.as_ref());
        let attached = attached.map_err(|why| match link.mtu {
            LARGE.. => format!("{why} (frames of MTU {} may be too large for XDP)", link.mtu),
            _ => why,
        })?;
        self.on.insert(link.index, attached);
        // What it can do for others many a card says only now. What cannot be asked the next look decides.
        let Ok(facts) = self.facts(link, true) else { return Ok(()) };
        let admitted = unfit(link, &self.known, facts).map_or_else(|| self.admit(link), Err);
        admitted.inspect_err(|why| {
            self.take(link.index);
            if link.kind != "veth" && !facts.can.sends() {
                self.for_good.insert(link.index, why.clone());
            }
        })
    }

    /// The program may take what comes by this link, and send by it.
    fn admit(&mut self, link: &Link) -> Result<(), String> {
        let mut mac = [0; 8];
        mac[..6].copy_from_slice(&link.mac);
        self.cards.own.insert(link.index, mac, 0).map_err(|error| error.to_string())?;
        self.cards.out.insert(link.index, link.index, None, 0).map_err(|error| error.to_string())
    }

    /// Off this link: first nothing is sent by it any more.
    fn take(&mut self, link: u32) {
        let _ = self.cards.out.remove(link);
        let _ = self.cards.own.remove(&link);
        if let Some(attached) = self.on.remove(&link)
            && let Err(error) = program::detach(link, attached, self.pins.as_ref(), &self.routes)
        {
            tracing::warn!(link, "XDP cannot be taken from it: {error}");
        }
    }

    /// A link that a run before has left.
    fn adopt(&mut self, link: u32) {
        let Some(pins) = self.pins.clone() else { return };
        self.on.insert(link, Attached::named(Hook::Xdp));
        let known = Arc::clone(&self.known);
        // Its maps first: the new program is to do what the old one does.
        let adopted = known.get(&link).ok_or_else(|| "it is gone".to_owned()).and_then(|known| {
            self.admit(known)?;
            program::adopt(&self.program, link, Hook::Xdp, &pins, &self.routes)
        });
        match adopted {
            Ok(true) => {}
            Ok(false) => self.take(link),
            Err(why) => {
                tracing::warn!(link, "the XDP program of a run before is taken from it: {why}");
                self.take(link);
            }
        }
    }
}
