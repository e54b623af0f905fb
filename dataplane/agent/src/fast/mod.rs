//! The fast path: GRE of live calls in eBPF at tc, one map for both directions; what it does not take goes to the ALG as ever.
//!
//! ```text
//!  engine ── OpenPath / ClosePath ─► Fast ─► ways (routes, remembered) ─► decide (pure) ─┬─► map      (program: bpf(2), pinned)
//!     ▲                               │                                                  └─► attacher (a thread: tcx or clsact, pinned)
//!     └─────── beside, seen ◄─────────┘ ◄── meters of the map                 links and routes change ─► refresh ─► work
//! ```
//!
//! Owned by the ALG's thread, so that a call is in the map before its client may speak, and out of it before anybody hears of
//! its end. Everything here blocks for microseconds, but `start`. A link gets the program when the first control connection by it
//! begins; a call that is up before it has it goes by the ALG so long.

mod attacher;
mod decide;
mod home;
mod layout;
mod pins;
mod program;
mod slots;
mod status;
mod sys;
mod table;
mod ways;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use callgate_pptp::{CallPath, Now};
use clap::ValueEnum;

pub use decide::{Adoption, adopt, keys, rules, superfluous};
pub(crate) use home::Home;
pub use layout::{Entry, Key, LAYOUT, LEFT, Meter, Replaced, Rule};
pub use pins::{Hook, Pins};
pub use status::{State, Status};
pub use table::{Both, Passed};
pub use ways::Slow;
pub(crate) use ways::Ways;

use attacher::{Attacher, Means};
use program::{Attached, Program};
use table::Paths;

/// How long one turn of `work` may take: packets wait meanwhile.
const TURN: Duration = Duration::from_millis(2);
/// A link keeps the program for so long after the last call that came in by it, ms: the next call may be near.
const SPARE: u64 = 10_000;
/// Between two attempts at what the kernel has refused, ms.
const AGAIN: u64 = 5_000;
/// Between two looks whether a link has the program now, ms.
const LOOK: u64 = 5;

/// `--fast-path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Mode {
    /// Where this kernel and our rights allow it.
    #[default]
    Auto,
    /// The same, in the older way also where the kernel has tcx.
    Clsact,
    /// All GRE by AF_PACKET.
    Off,
}

/// What it needs to begin.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Whether, and how.
    pub mode: Mode,
    /// A bpf file system, or where one should be.
    pub root: PathBuf,
    /// Name of the agent's nftables table: two agents of a host keep apart by it.
    pub table: String,
    /// Packet mark of what the ALG sends.
    pub mark: u32,
    /// Where to tell.
    pub status: Status,
    /// Layout of the map: `LAYOUT`, but in a test of what another version leaves.
    pub layout: u32,
    /// Directions of calls the map has room for; counts where it is made.
    pub entries: u32,
    /// Random: where in a new map a call stands nobody foresees.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        let (mode, status) = (Mode::default(), Status::default());
        let (root, table) = (PathBuf::new(), String::new());
        Self { mode, root, table, mark: 0, status, layout: LAYOUT, entries: program::ENTRIES, seed: 0 }
    }
}

/// The fast path of a node; does nothing where there is none.
pub struct Fast {
    on: Option<On>,
    status: Status,
}

/// One that works.
struct On {
    attacher: Attacher,
    program: Program,
    paths: Paths,
    ways: Ways,
    pins: Option<Pins>,
    unpinned: String,
    attached: BTreeMap<u32, Attached>,
    /// Links that did not take the program, and why.
    refused: BTreeMap<u32, String>,
    /// When what the kernel has refused is tried again.
    again: Option<Now>,
    /// When the attacher is looked at.
    look: Option<Now>,
    /// Links without calls, and since when.
    unused: BTreeMap<u32, Now>,
    /// Calls to be placed, or looked at again.
    todo: VecDeque<CallPath>,
}

impl Fast {
    /// Loads, takes over what a previous run has left of `live` calls, and removes the rest of it. Where that cannot be, the reason
    /// is in the status, and everything goes the other way.
    pub fn start(setup: Setup, live: &BTreeSet<CallPath>, now: Now) -> Self {
        let Setup { mode, root, table, status, .. } = setup.clone();
        let begun = match mode {
            Mode::Off => Err("--fast-path=off".to_owned()),
            Mode::Auto | Mode::Clsact => On::begin(&setup, live, now),
        };
        let on = match begun {
            Ok(on) => Some(on),
            Err(off) => {
                // Whatever a run before has left must not carry calls that nobody looks after.
                if let Err(error) = remove(&root, &table) {
                    tracing::error!("the fast path of a run before cannot be removed: {error}");
                }
                tracing::info!("all GRE by AF_PACKET: {off}");
                status.set(State { off, chosen: mode == Mode::Off, ..State::default() });
                None
            }
        };
        let fast = Self { on, status };
        fast.tell();
        fast
    }

    /// A control connection between these ends has begun: its calls will come in by these links.
    pub fn expect(&mut self, client: Ipv4Addr, server: Ipv4Addr, now: Now) {
        let Some(on) = &mut self.on else { return };
        for end in [client, server] {
            if let Ok(way) = on.ways.to(end) {
                // Why not is the call's to say.
                let _ = on.attach(way.link, now);
            }
        }
    }

    /// A call has come up; whether its GRE passes here from now on.
    pub fn open(&mut self, path: CallPath, now: Now) -> bool {
        let Some(on) = &mut self.on else { return false };
        let links = on.attached.len();
        on.paths.enter(path);
        let placed = on.place(&path, now);
        if !placed || on.attached.len() != links {
            self.tell();
        }
        placed
    }

    /// A call ends: nothing of it passes here from now on. What has passed.
    pub fn close(&mut self, path: &CallPath, now: Now) -> Both {
        let Some(on) = &mut self.on else { return Both::default() };
        let passed = on.paths.close(path);
        on.look_at_unused(now);
        on.todo.extend(on.paths.without_room());
        passed
    }

    /// Links, addresses or routes have changed: everything is looked at again, by and by (`work`).
    pub fn refresh(&mut self) {
        let Some(on) = &mut self.on else { return };
        on.refused.clear();
        if let Err(error) = on.ways.forget() {
            tracing::error!("the fast path goes on by the ways it has: {error}");
            return;
        }
        on.drop_dead_links();
        // Where routes change all the time, those at the end have their turn too.
        let next = on.todo.front().copied();
        on.todo = on.paths.all_from(next).collect();
        self.tell();
    }

    /// A turn of what is left to do; paths whose GRE passes here (true) or does not any more.
    pub fn work(&mut self, now: Now) -> Vec<(CallPath, bool)> {
        let Some(on) = &mut self.on else { return Vec::new() };
        let begun = Instant::now();
        let mut changed = Vec::new();
        on.take_answers(now);
        on.try_again(now);
        while begun.elapsed() < TURN
            && let Some(path) = on.todo.pop_front()
        {
            let before = on.paths.is_placed(&path);
            let placed = on.place(&path, now);
            if before != placed {
                changed.push((path, placed));
            }
        }
        on.look_at_unused(now);
        on.detach_unused(now);
        self.tell();
        changed
    }

    /// When `work` has something to do.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Now> {
        let on = self.on.as_ref()?;
        if !on.todo.is_empty() {
            return Some(now);
        }
        let spare = on.unused.values().map(|since| since.after(SPARE));
        spare.chain(on.again).chain(on.look).min()
    }

    /// Whether nothing is under way: no call is to be placed, no link to get the program or to lose it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.on.as_ref().is_none_or(|on| on.todo.is_empty() && on.attacher.is_idle())
    }

    /// Calls that pass here.
    pub fn placed(&self) -> impl Iterator<Item = CallPath> + '_ {
        self.on.iter().flat_map(|on| on.paths.placed())
    }

    /// What has passed of one call; `None` where there is no such call.
    #[must_use]
    pub fn passed(&self, path: &CallPath) -> Option<Both> {
        self.on.as_ref()?.paths.passed(path)
    }

    /// What has passed of each call.
    #[must_use]
    pub fn all_passed(&self) -> BTreeMap<CallPath, Both> {
        self.on.as_ref().map(|on| on.paths.all_passed()).unwrap_or_default()
    }

    /// Every counter as (name, value).
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let Some(on) = &self.on else { return Vec::new() };
        let mut counters = on.program.left();
        counters.extend(on.paths.counters());
        counters.push(("fast_links", on.attached.len() as u64));
        counters
    }

    /// The ways it knows, where there is one.
    pub(crate) fn ways(&self) -> Option<&Ways> {
        self.on.as_ref().map(|on| &on.ways)
    }

    /// Says how it is.
    fn tell(&self) {
        let Some(on) = &self.on else { return };
        let slow = on.paths.slow();
        self.status.set(State {
            hook: on.attached.values().map(|attached| attached.hook).next(),
            links: on.attached.keys().map(|link| on.name(*link)).collect(),
            unpinned: on.unpinned.clone(),
            slow,
            ..State::default()
        });
    }
}

/// Removes what an agent with this table has left: program, map, links.
///
/// # Errors
/// What could not be removed, and why.
pub fn remove(root: &std::path::Path, table: &str) -> Result<(), String> {
    let pins = Pins::of(root, table).map_err(|error| error.to_string())?;
    let links = pins.links();
    if !links.is_empty() {
        let routes = crate::netlink::Routes::open().map_err(|error| error.to_string())?;
        for (link, hook) in links {
            program::detach(link, Attached::named(hook), Some(&pins), &routes)?;
        }
    }
    pins.remove_all().map_err(|error| error.to_string())
}

impl On {
    fn begin(setup: &Setup, live: &BTreeSet<CallPath>, now: Now) -> Result<Self, String> {
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
        let (mut program, table) = program::load(pins.as_ref(), setup.entries, setup.seed)?;
        let paths = Paths::adopt(table, live);
        let means = Means { program: program.fd()?, tcx: setup.mode == Mode::Auto, pins: pins.clone() };
        let mut on = Self {
            attacher: Attacher::start(means)?,
            program,
            paths,
            ways,
            pins,
            unpinned,
            attached: BTreeMap::new(),
            refused: BTreeMap::new(),
            again: None,
            look: None,
            unused: BTreeMap::new(),
            todo: live.iter().copied().collect(),
        };
        let links = on.pins.as_ref().map(Pins::links).unwrap_or_default();
        on.attached.extend(links.iter().map(|(link, hook)| (*link, Attached::named(*hook))));
        if !inherited && !links.is_empty() {
            // Another layout: until links change over to the new program, the old one goes on by its own map.
            while let Some(path) = on.todo.pop_front() {
                on.place(&path, now);
            }
        }
        for (link, hook) in links {
            on.adopt_link(link, hook);
        }
        if let Some(pins) = &on.pins {
            pins.remove_other_layouts().map_err(|error| format!("removing maps of another layout: {error}"))?;
        }
        on.look_at_unused(now);
        Ok(on)
    }

    /// A link that a previous run has left: this program in the place of that one.
    fn adopt_link(&mut self, link: u32, hook: Hook) {
        let Some(pins) = &self.pins else { return };
        match self.program.adopt(link, hook, pins, self.ways.routes()) {
            Ok(true) if self.attached.get(&link).is_some_and(|attached| attached.hook == hook) => return,
            // Gone with its device, or there in two ways: only a name is left, or one of them too many.
            Ok(_) => {}
            Err(error) => tracing::warn!(link, "what a run before has put on it is taken away: {error}"),
        }
        self.attached.retain(|at, attached| (*at, attached.hook) != (link, hook));
        self.forget_link(link, hook);
    }

    fn forget_link(&self, link: u32, hook: Hook) {
        let detached = program::detach(link, Attached::named(hook), self.pins.as_ref(), self.ways.routes());
        if let Err(error) = detached {
            tracing::error!(link, "the fast path cannot be taken from it: {error}");
        }
    }

    /// Puts a call's packets on the ways that lead to its ends now, or leaves them to the ALG.
    fn place(&mut self, path: &CallPath, now: Now) -> bool {
        let placed = self.try_to_place(path, now);
        if let Err(why) = &placed {
            self.paths.leave(path, why.clone());
            if matches!(why, Slow::Refused(_)) {
                self.again.get_or_insert(now.after(AGAIN));
            }
        }
        placed.is_ok()
    }

    fn try_to_place(&mut self, path: &CallPath, now: Now) -> Result<(), Slow> {
        let (client, server) = (self.ways.to(path.client)?, self.ways.to(path.server)?);
        // Both are asked for, whatever becomes of the first.
        let both = [client.link, server.link].map(|link| {
            self.unused.remove(&link);
            self.attach(link, now)
        });
        both.into_iter().collect::<Result<(), Slow>>()?;
        self.paths.place(path, rules(path, &client, &server))
    }

    fn attach(&mut self, link: u32, now: Now) -> Result<(), Slow> {
        if self.attached.contains_key(&link) {
            return Ok(());
        }
        if let Some(why) = self.refused.get(&link) {
            return Err(Slow::Refused(why.clone()));
        }
        self.attacher.put(link);
        self.look.get_or_insert(now.after(LOOK));
        Err(Slow::Attaching(self.name(link)))
    }

    /// Links that have the program now, or do not take it: what waited for them is placed.
    fn take_answers(&mut self, now: Now) {
        let answers = self.attacher.answers();
        let some = !answers.is_empty();
        for (link, answer) in answers {
            let name = self.name(link);
            match answer {
                Ok(attached) => {
                    tracing::info!(link = name, "the fast path is on it");
                    self.attached.insert(link, attached);
                }
                Err(error) => {
                    let why = format!("link {name}: {error}");
                    tracing::warn!("calls by it do not take the fast path: {why}");
                    self.refused.insert(link, why);
                }
            }
        }
        if some {
            self.todo.extend(self.paths.attaching());
        }
        self.look = (!self.attacher.is_answered()).then(|| now.after(LOOK));
    }

    fn name(&self, link: u32) -> String {
        self.ways.links().get(&link).map_or_else(|| link.to_string(), |link| link.name.clone())
    }

    /// Links that are gone have taken their programs with them; names are left.
    fn drop_dead_links(&mut self) {
        let (links, pins) = (self.ways.links(), self.pins.as_ref());
        let dead = |link: &u32, attached: &Attached| {
            !links.contains_key(link) || !program::holds(*link, attached, pins, self.ways.routes())
        };
        let dead: Vec<u32> =
            self.attached.iter().filter(|(link, attached)| dead(link, attached)).map(|(link, _)| *link).collect();
        for link in dead {
            if let Some(attached) = self.attached.remove(&link) {
                self.attacher.take(link, attached);
            }
            self.unused.remove(&link);
        }
    }

    /// What was refused is tried again when its time has come.
    fn try_again(&mut self, now: Now) {
        if self.again.is_some_and(|at| at <= now) {
            self.again = None;
            self.refused.clear();
            self.todo.extend(self.paths.left_behind());
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
