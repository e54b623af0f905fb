//! XDP on links whose drivers do it natively, before tc and on the same map, where its owner wants that: in a thread of its own, since a
//! card may take a second to change over.
//!
//! ```text
//!  On ── links, neighbours ─► Xdp ─► thread ─┬─► netdev: what drivers can ─► cards (pure) ─► bpf(2), a name
//!   ▲                          │             ├─► maps of the program: links, their addresses
//!   └──── Told ◄───────────────┴─────────────┴─► NTF_USE: neighbours stay known, as nothing passes them that the kernel would see
//! ```
//! Once on a link the program stays until the link is gone, its driver does not do it any more, or the agent is stopped. What it does
//! not take, tc and the ALG get as ever: so nothing depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::maps::xdp::DevMapHash;
use aya::maps::{HashMap, MapData};
use callgate_pptp::Now;

use super::cards::unfit;
use super::pins::{Hook, Pins};
use super::program::{self, Attached};
use super::refusals::Refusals;
use crate::netlink::{Link, Netdev, Routes};

/// Between two looks at links and neighbours: nobody tells when a driver or its owner changes its mind.
const CHECK: Duration = Duration::from_secs(5);
/// Neighbours that are kept known in one go: the kernel asks for each.
const NEIGHBOURS: usize = 512;

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
    /// Links it is on, by name.
    pub on: BTreeSet<String>,
    /// Links that were to have it, and why they have not.
    pub not: BTreeMap<String, String>,
}

/// What the thread is to do.
enum Wish {
    /// These links are to have it, of all there are.
    Links(BTreeSet<u32>, Arc<BTreeMap<u32, Link>>),
    /// These neighbours, on their links, are sent to.
    Neighbours(BTreeSet<(u32, Ipv4Addr)>),
}

/// The thread, and what it was asked for.
pub(super) struct Xdp {
    /// `None` while it ends.
    wishes: Option<Sender<Wish>>,
    links: BTreeSet<u32>,
    known: Arc<BTreeMap<u32, Link>>,
    /// Wishes so far, and how many of them are done; how it was then.
    asked: u64,
    done: Arc<Mutex<(u64, Told)>>,
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
        pins: Option<Pins>,
        left: &[u32],
        known: &Arc<BTreeMap<u32, Link>>,
    ) -> Result<Self, String> {
        let netdev = Netdev::open().map_err(|error| format!("this kernel does not say what drivers can: {error}"))?;
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
            begun: Instant::now(),
        };
        left.iter().for_each(|link| worker.adopt(*link));
        let done = Arc::new(Mutex::new((0, worker.told(BTreeMap::new()))));
        let (wishes, wished) = channel();
        let tell = Arc::clone(&done);
        let thread = std::thread::Builder::new().name("xdp".to_owned()).spawn(move || worker.work(&wished, &tell));
        let thread = thread.map_err(|error| format!("starting a thread: {error}"))?;
        let (links, known) = (BTreeSet::new(), Arc::clone(known));
        Ok(Self { wishes: Some(wishes), links, known, asked: 0, done, thread: Some(thread) })
    }

    /// These links are to have it, of all there are.
    pub(super) fn want(&mut self, links: &BTreeSet<u32>, known: &Arc<BTreeMap<u32, Link>>) {
        if *links != self.links || !Arc::ptr_eq(known, &self.known) {
            self.links.clone_from(links);
            self.known = Arc::clone(known);
            self.wish(Wish::Links(links.clone(), Arc::clone(known)));
        }
    }

    /// These neighbours, on their links, are sent to.
    pub(super) fn keep(&mut self, neighbours: BTreeSet<(u32, Ipv4Addr)>) {
        self.wish(Wish::Neighbours(neighbours));
    }

    fn wish(&mut self, wish: Wish) {
        if let Some(wishes) = &self.wishes
            && wishes.send(wish).is_ok()
        {
            self.asked += 1;
        }
    }

    /// Whether all is done that was asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).0 >= self.asked
    }

    /// How it is.
    pub(super) fn told(&self) -> Told {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

impl Drop for Xdp {
    /// At most one link more gets the program, and its name.
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A link with the program.
struct On {
    attached: Attached,
    mac: [u8; 6],
}

struct Worker {
    program: OwnedFd,
    cards: Cards,
    pins: Option<Pins>,
    routes: Routes,
    netdev: Netdev,
    wanted: BTreeSet<u32>,
    known: Arc<BTreeMap<u32, Link>>,
    on: BTreeMap<u32, On>,
    refusals: Refusals,
    begun: Instant,
}

impl Worker {
    fn work(mut self, wished: &Receiver<Wish>, tell: &Mutex<(u64, Told)>) {
        let mut done = 0;
        loop {
            match wished.recv_timeout(CHECK) {
                Ok(Wish::Links(wanted, known)) => {
                    (self.wanted, self.known) = (wanted, known);
                    done += 1;
                }
                Ok(Wish::Neighbours(neighbours)) => {
                    self.keep(&neighbours);
                    done += 1;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let told = self.turn();
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
        Told { on: self.on.keys().map(name).collect(), not }
    }

    fn look_at(&mut self, link: &Link) -> Result<(), String> {
        let holds = |on: &On| program::holds(link.index, &on.attached, self.pins.as_ref(), &self.routes);
        if self.on.get(&link.index).is_some_and(|on| !holds(on)) {
            tracing::warn!(link = link.name, "its XDP program was taken away: it is put there again");
            self.take(link.index);
        }
        let why = |on, worker: &mut Self| {
            let can = worker.netdev.features(link.index).map_err(|error| error.to_string())?;
            unfit(link, &worker.known, can, on).map_or(Ok(()), |why| Err(why.to_owned()))
        };
        if let Some(on) = self.on.get(&link.index) {
            let mac = on.mac;
            return match why(true, self) {
                Err(why) => {
                    tracing::info!(link = link.name, "no XDP on it any more: {why}");
                    self.take(link.index);
                    Err(why)
                }
                Ok(()) if mac != link.mac => self.admit(link),
                Ok(()) => Ok(()),
            };
        }
        if let Some(refused) = self.refusals.of(link.index) {
            return Err(refused.clone());
        }
        why(false, self)?;
        let attached = program::attach_xdp(&self.program, link.index, self.pins.as_ref());
        let put = attached.and_then(|attached| {
            self.on.insert(link.index, On { attached, mac: link.mac });
            // What it can do for others many a card says only now.
            why(true, self).and_then(|()| self.admit(link)).inspect_err(|_| self.take(link.index))
        });
        match put {
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

    /// The program may take what comes by this link, and send by it.
    fn admit(&mut self, link: &Link) -> Result<(), String> {
        let mut mac = [0; 8];
        mac[..6].copy_from_slice(&link.mac);
        self.cards.own.insert(link.index, mac, 0).map_err(|error| error.to_string())?;
        self.cards.out.insert(link.index, link.index, None, 0).map_err(|error| error.to_string())?;
        if let Some(on) = self.on.get_mut(&link.index) {
            on.mac = link.mac;
        }
        Ok(())
    }

    /// Off this link: first nothing is sent by it any more.
    fn take(&mut self, link: u32) {
        let _ = self.cards.out.remove(link);
        let _ = self.cards.own.remove(&link);
        if let Some(on) = self.on.remove(&link)
            && let Err(error) = program::detach(link, on.attached, self.pins.as_ref(), &self.routes)
        {
            tracing::warn!(link, "XDP cannot be taken from it: {error}");
        }
    }

    /// A link that a run before has left.
    fn adopt(&mut self, link: u32) {
        let Some(pins) = self.pins.clone() else { return };
        self.on.insert(link, On { attached: Attached::named(Hook::Xdp), mac: [0; 6] });
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

    /// The kernel sees nothing of what is sent to them: without a word from us it would take them for idle, and not notice when one
    /// gets another Ethernet address. Most have their control connections beside that; so where there are too many, some do.
    fn keep(&self, neighbours: &BTreeSet<(u32, Ipv4Addr)>) {
        let sent_to = neighbours.iter().filter(|(link, _)| self.on.contains_key(link));
        for (link, address) in sent_to.take(NEIGHBOURS) {
            if let Err(error) = self.routes.use_neighbour(*link, *address) {
                tracing::debug!(link, "{address} cannot be kept known: {error}");
            }
        }
    }
}
