//! A fast path that works: which links have the program, which calls are in the map, and what is left to do about either.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use callgate_pptp::{CallPath, Now};

use super::attacher::{Attacher, Became, Means};
use super::decide::{Way, rules, superfluous};
use super::pins::{Hook, Pins};
use super::program::{self, Attached, Program};
use super::refusals::Refusals;
use super::status::State;
use super::table::{Both, Paths};
use super::ways::{Slow, Ways};
use super::xdp::Xdp;
use super::{Mode, Setup, remove};
use crate::netlink::Netdev;

/// How long one turn of `work` may take: packets wait meanwhile.
const TURN: Duration = Duration::from_millis(2);
/// A link keeps the program for so long after the last call that came in by it, ms: the next call may be near.
const SPARE: u64 = 10_000;
/// Between two looks whether the attacher has answered, ms.
const LOOK: u64 = 5;
/// Between two looks whether links still have the program, ms: nobody tells when somebody takes it away.
const CHECK: u64 = 5_000;

/// The fast path of a node, where it can have one.
pub(super) struct On {
    attacher: Attacher,
    program: Program,
    pub(super) paths: Paths,
    pub(super) ways: Ways,
    pins: Option<Pins>,
    unpinned: String,
    /// Links get the program at tcx, and not behind clsact.
    tcx: bool,
    /// XDP; or why there is none.
    xdp: Result<Xdp, String>,
    /// Links that are to have it, as long as they are there.
    cards: BTreeSet<u32>,
    attached: BTreeMap<u32, Attached>,
    refusals: Refusals,
    /// When the attacher is looked at.
    look: Option<Now>,
    /// When links that calls come in by are looked at.
    check: Now,
    /// Links without calls, and since when.
    unused: BTreeMap<u32, Now>,
    /// Calls to be placed, or looked at again.
    todo: VecDeque<CallPath>,
    /// Likely ends of calls.
    likely: Vec<Ipv4Addr>,
    /// Those of them whose links are to be made ready.
    unready: VecDeque<Ipv4Addr>,
    /// Links that were.
    ready: BTreeSet<u32>,
}

impl On {
    /// Takes over what a previous run has left of `live` calls, and removes the rest of it.
    ///
    /// # Errors
    /// Why there can be no fast path.
    pub(super) fn begin(setup: &Setup, live: &BTreeSet<CallPath>, now: Now) -> Result<Self, String> {
        let ways = Ways::open(setup.mark)?;
        let pins = Pins::of(&setup.root, &setup.table).map_err(|error| error.to_string())?.with_layout(setup.layout);
        let unpinned = pins.make().err().unwrap_or_default();
        if !unpinned.is_empty() && !pins.links().is_empty() {
            // They would come before ours, with a map that nobody looks after.
            remove(&setup.root, &setup.table)
                .map_err(|error| format!("{unpinned}; what a run before has left there cannot be removed: {error}"))?;
        }
        let pins = unpinned.is_empty().then_some(pins);
        let inherited = pins.as_ref().is_some_and(|pins| pins.map().exists());
        let with_xdp = setup.mode == Mode::Xdp;
        let (mut program, table, uplinks) = program::load(pins.as_ref(), setup.entries, setup.seed, with_xdp)?;
        let paths = Paths::adopt(table, uplinks, live);
        let program_fd = program.fd()?;
        let tcx = setup.mode != Mode::Clsact && program::has_tcx(&program_fd);
        if pins.is_none() && !tcx {
            return Err(format!(
                "{unpinned}; a filter behind clsact outlives the agent, and would have no name to be found again by"
            ));
        }
        let means = Means { program: program_fd, tcx, pins: pins.clone() };
        let mut on = Self {
            attacher: Attacher::start(means)?,
            program,
            paths,
            ways,
            pins,
            unpinned,
            tcx,
            xdp: Err("it is not asked for (--fast-path xdp)".to_owned()),
            cards: BTreeSet::new(),
            attached: BTreeMap::new(),
            refusals: Refusals::default(),
            look: None,
            check: now.after(CHECK),
            unused: BTreeMap::new(),
            todo: live.iter().copied().collect(),
            likely: Vec::new(),
            unready: VecDeque::new(),
            ready: BTreeSet::new(),
        };
        let left = on.pins.as_ref().map(Pins::links).unwrap_or_default();
        let (xdp, links): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, hook)| *hook == Hook::Xdp);
        if !inherited && !links.is_empty() {
            // Another layout: until links change over to the new program, the old one goes on by its own map.
            on.attached.extend(links.iter().map(|(link, hook)| (*link, Attached::named(*hook))));
            for path in live {
                on.place(path, now);
            }
            on.attached.clear();
        }
        for (link, hook) in links {
            on.adopt_link(link, hook)?;
        }
        if with_xdp {
            on.xdp = on.begin_xdp(xdp.iter().map(|(link, _)| *link).collect());
        }
        if let Err(why) = &on.xdp {
            if with_xdp {
                tracing::warn!("no XDP: {why}");
            }
            for (link, hook) in xdp {
                on.take_from(link, hook);
            }
        }
        if let Some(pins) = &on.pins {
            // Where a link has not changed over: nobody looks after the old map.
            for (map, _) in pins.maps().into_iter().filter(|(_, ours)| !ours) {
                if let Err(error) = program::empty(&map, false) {
                    tracing::warn!("{error}");
                }
            }
            pins.remove_other_layouts().map_err(|error| format!("removing maps of another layout: {error}"))?;
        }
        on.look_at_unused(now);
        Ok(on)
    }

    /// A link that a previous run has left: this program in the place of that one. Where it is there in two ways, as after a change
    /// between tcx and clsact, the first of them stays.
    fn adopt_link(&mut self, link: u32, hook: Hook) -> Result<(), String> {
        let Some(pins) = &self.pins else { return Ok(()) };
        if !self.attached.contains_key(&link) {
            match program::adopt(&self.program.fd()?, link, hook, pins, self.ways.routes()) {
                Ok(true) => {
                    self.attached.insert(link, Attached::named(hook));
                    return Ok(());
                }
                // Gone with its device, or only made ready: a name is left.
                Ok(false) => {}
                Err(error) => tracing::warn!(link, "what a run before has put on it is taken away: {error}"),
            }
        }
        self.take_from(link, hook);
        Ok(())
    }

    /// Away from a link with what a run before has left there. A qdisc of ours stays, also where tcx is used now: while it goes, the
    /// link drops packets.
    fn take_from(&self, link: u32, hook: Hook) {
        let rested = program::rest(link, Attached::named(hook), self.pins.as_ref(), self.ways.routes());
        if let Err(error) = rested {
            tracing::error!(link, "the fast path cannot be taken from it: {error}");
        }
    }

    /// XDP, with what a run before has `left`.
    fn begin_xdp(&mut self, left: Vec<u32>) -> Result<Xdp, String> {
        let netdev = Netdev::open().map_err(|error| format!("this kernel does not say what drivers can: {error}"))?;
        let (program, cards) = self.program.xdp()?;
        Xdp::start(program, cards, netdev, self.pins.clone(), &left, self.ways.links())
    }

    /// Remembers likely ends of calls, to make their links ready. At tcx that takes nothing; with XDP a card may be out of service for a
    /// moment when it gets the program.
    pub(super) fn foresee(&mut self, ends: Vec<Ipv4Addr>) {
        if !self.tcx || self.xdp.is_ok() {
            self.unready = ends.iter().copied().collect();
            self.likely = ends;
        }
    }

    /// Links to these ends are to have the program.
    pub(super) fn expect(&mut self, ends: [Ipv4Addr; 2], now: Now) {
        for end in ends {
            if let Ok(way) = self.ways.to(end) {
                // Why not is the call's to say.
                let _ = self.attach(way.link, now);
                self.wish_xdp(way.link, now);
            }
        }
    }

    /// One more call is up; whether it is in the map.
    pub(super) fn open(&mut self, path: CallPath, now: Now) -> bool {
        self.paths.enter(path);
        self.place(&path, now)
    }

    /// A call has ended; what has passed of it.
    pub(super) fn close(&mut self, path: &CallPath, now: Now) -> Both {
        let passed = self.paths.close(path);
        self.look_at_unused(now);
        self.todo.extend(self.paths.without_room());
        passed
    }

    /// Links, addresses or routes have changed.
    pub(super) fn refresh(&mut self) {
        let numbers = |ways: &Ways| ways.links().keys().copied().collect::<Vec<_>>();
        let before = numbers(&self.ways);
        if let Err(error) = self.ways.forget() {
            tracing::error!("the fast path goes on by the ways it has: {error}");
            return;
        }
        let links = self.ways.links();
        self.refusals.forget(|link| links.contains_key(&link));
        self.drop_dead_links();
        self.want_xdp();
        self.check_links();
        // Where routes change all the time, those at the end have their turn too.
        let next = self.todo.front().copied();
        self.todo = self.paths.all_from(next).collect();
        // Routes alone change often, and lead to links that are ready mostly: each end is a question to the kernel.
        if numbers(&self.ways) != before {
            self.unready = self.likely.iter().copied().collect();
        }
    }

    /// A turn of what is left to do; paths that are in the map since (true), or are not any more.
    pub(super) fn work(&mut self, now: Now) -> Vec<(CallPath, bool)> {
        let begun = Instant::now();
        let mut changed = Vec::new();
        self.take_answers(now);
        if let Some(links) = self.refusals.due(now) {
            self.todo.extend(self.paths.left_behind());
            // Nobody waits for a further uplink: its calls are placed.
            for link in links {
                if self.paths.uses(link) {
                    let _ = self.attach(link, now);
                }
            }
        }
        if self.has_to_check() && self.check <= now {
            self.check_links();
            self.check = now.after(CHECK);
        }
        while begun.elapsed() < TURN
            && let Some(path) = self.todo.pop_front()
        {
            let before = self.paths.is_placed(&path);
            let placed = self.place(&path, now);
            if before != placed {
                changed.push((path, placed));
            }
        }
        while begun.elapsed() < TURN
            && let Some(end) = self.unready.pop_front()
        {
            if let Ok(way) = self.ways.to(end)
                && self.ready.insert(way.link)
            {
                if !self.tcx {
                    self.attacher.prepare(way.link);
                }
                self.wish_xdp(way.link, now);
            }
        }
        self.want_xdp();
        self.look_at_unused(now);
        self.detach_unused(now);
        if !self.attacher.is_answered() || self.xdp.as_ref().is_ok_and(|xdp| !xdp.is_idle()) {
            self.look.get_or_insert(now.after(LOOK));
        }
        changed
    }

    /// When `work` has something to do.
    pub(super) fn deadline(&self, now: Now) -> Option<Now> {
        if !self.todo.is_empty() || !self.unready.is_empty() {
            return Some(now);
        }
        let spare = self.unused.values().map(|since| since.after(SPARE));
        let check = self.has_to_check().then_some(self.check);
        spare.chain(self.refusals.deadline()).chain(self.look).chain(check).min()
    }

    /// Nobody tells when somebody takes a program away, and what XDP has found out by itself people hear then.
    fn has_to_check(&self) -> bool {
        self.paths.has_any() || self.xdp.is_ok()
    }

    pub(super) fn is_settled(&self) -> bool {
        let xdp = self.xdp.as_ref().is_ok_and(|xdp| !xdp.is_idle());
        self.todo.is_empty() && self.unready.is_empty() && self.attacher.is_idle() && !xdp
    }

    /// Every counter as (name, value).
    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.program.left();
        counters.extend(self.paths.counters());
        // Links that have the program now.
        counters.push(("fast_links", self.attached.len() as u64));
        // Of `fast_up_packets` and `fast_down_packets`: passed on at XDP.
        counters.push(("fast_xdp_packets", self.program.by_xdp()));
        counters
    }

    /// How it is.
    pub(super) fn state(&self) -> State {
        let xdp = self.xdp.as_ref().map(Xdp::told).map_err(String::clone);
        let to_come = if self.tcx { Hook::Tcx } else { Hook::Clsact(false) };
        State {
            hook: Some(self.attached.values().map(|attached| attached.hook).next().unwrap_or(to_come)),
            links: self.attached.keys().map(|link| self.name(*link)).collect(),
            unpinned: self.unpinned.clone(),
            slow: self.paths.slow(),
            by_xdp: xdp.as_ref().is_ok_and(|told| self.paths.is_any_between(&told.on)),
            xdp,
            ..State::default()
        }
    }

    /// Puts a call's packets on the ways that lead to its ends now, or leaves them to the ALG.
    fn place(&mut self, path: &CallPath, now: Now) -> bool {
        let placed = self.try_to_place(path, now);
        if let Err(why) = &placed {
            self.paths.leave(path, why.clone());
        }
        placed.is_ok()
    }

    fn try_to_place(&mut self, path: &CallPath, now: Now) -> Result<(), Slow> {
        let (client, server) = (self.way(path.client, now)?, self.way(path.server, now)?);
        // Both are asked for, whatever becomes of the first.
        let both = [client.link, server.link].map(|link| {
            self.unused.remove(&link);
            self.wish_xdp(link, now);
            self.attach(link, now)
        });
        both.into_iter().collect::<Result<(), Slow>>()?;
        let others = self.ways.beside(path.server, &server);
        for link in &others {
            // Packets by them are the ALG's either way, which the program counts. No call waits for that.
            self.unused.remove(link);
            let _ = self.attach(*link, now);
        }
        self.paths.place(path, rules(path, &client, &server), &others)
    }

    /// The way to an end of a call; where the kernel does not tell it is asked again.
    fn way(&mut self, end: Ipv4Addr, now: Now) -> Result<Way, Slow> {
        let way = self.ways.to(end);
        if matches!(way, Err(Slow::Refused(_))) {
            self.refusals.wait(now);
        }
        way
    }

    fn want_xdp(&mut self) {
        if let Ok(xdp) = &mut self.xdp {
            xdp.want(&self.cards, self.ways.links());
        }
    }

    /// This link is to have XDP, where there is that: at the next turn, which is soon.
    fn wish_xdp(&mut self, link: u32, now: Now) {
        if self.xdp.is_ok() && self.cards.insert(link) {
            self.look.get_or_insert(now.after(LOOK));
        }
    }

    fn attach(&mut self, link: u32, now: Now) -> Result<(), Slow> {
        if self.attached.contains_key(&link) {
            return Ok(());
        }
        if let Some(why) = self.refusals.of(link) {
            return Err(Slow::Refused(why.clone()));
        }
        self.attacher.put(link);
        self.look.get_or_insert(now.after(LOOK));
        Err(Slow::Attaching(link, self.name(link)))
    }

    /// Links that have the program now, do not take it, or have lost it: what waited for them, or came by them, is placed anew.
    fn take_answers(&mut self, now: Now) {
        for (link, became) in self.attacher.answers() {
            let name = self.name(link);
            match became {
                Became::Attached(attached) => {
                    tracing::info!(link = name, "the fast path is on it");
                    self.attached.insert(link, attached);
                    self.refusals.is_over(link);
                    self.todo.extend(self.paths.waiting_for(link));
                }
                Became::Refused(error) => {
                    let why = format!("link {name}: {error}");
                    if self.refusals.note(link, why.clone(), now) {
                        tracing::warn!("calls by it do not take the fast path: {why}");
                    }
                    self.todo.extend(self.paths.waiting_for(link));
                }
                Became::Held | Became::Gone => {}
                Became::Lost => {
                    if let Some(attached) = self.attached.remove(&link) {
                        tracing::warn!(link = name, "the fast path's program was taken from it: it is put there again");
                        self.attacher.take(link, attached);
                        self.unused.remove(&link);
                        self.todo.extend(self.paths.by(link));
                    }
                }
            }
        }
        self.look = (!self.attacher.is_answered()).then(|| now.after(LOOK));
    }

    fn name(&self, link: u32) -> String {
        self.ways.links().get(&link).map_or_else(|| link.to_string(), |link| link.name.clone())
    }

    /// Links that are gone have taken their programs with them; names are left.
    fn drop_dead_links(&mut self) {
        let links = self.ways.links();
        let dead: Vec<u32> = self.attached.keys().filter(|link| !links.contains_key(link)).copied().collect();
        let mut taken = BTreeSet::new();
        for link in dead {
            if let Some(attached) = self.attached.remove(&link) {
                taken.insert((link, attached.hook));
                self.attacher.take(link, attached);
            }
            self.unused.remove(&link);
        }
        // Those that were only made ready, by this run or one before.
        self.ready.retain(|link| links.contains_key(link));
        self.cards.retain(|link| links.contains_key(link));
        for (link, hook) in self.pins.as_ref().map(Pins::links).unwrap_or_default() {
            // Of XDP's own its thread takes the names.
            let is_ours = hook != Hook::Xdp || self.xdp.is_err();
            if is_ours && !links.contains_key(&link) && taken.insert((link, hook)) {
                self.attacher.take(link, Attached::named(hook));
            }
        }
    }

    /// Asks whether links that calls come in by still have the program.
    fn check_links(&mut self) {
        for (link, attached) in &self.attached {
            if self.paths.uses(*link) {
                self.attacher.check(*link, attached);
            }
        }
    }

    fn look_at_unused(&mut self, now: Now) {
        for link in self.attached.keys() {
            if !self.paths.uses(*link) {
                self.unused.entry(*link).or_insert(now);
            }
        }
    }

    fn detach_unused(&mut self, now: Now) {
        let wanted: BTreeSet<u32> = self.paths.links().collect();
        let attached: BTreeSet<u32> = self.attached.keys().copied().collect();
        let spared = self.unused.iter().filter(|(_, since)| since.after(SPARE) > now).map(|(link, _)| *link).collect();
        for link in superfluous(&wanted, &attached, &spared) {
            self.unused.remove(&link);
            if let Some(attached) = self.attached.remove(&link) {
                self.attacher.take(link, attached);
            }
        }
    }
}
