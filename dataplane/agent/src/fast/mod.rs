//! The fast path: GRE of live calls in eBPF at tc and, on demand, at XDP, one map for both directions; what it does not take goes to
//! the ALG as ever.
//!
//! ```text
//!  engine ── OpenPath / ClosePath ─► On ─► ways (routes, remembered) ─► decide (pure) ─┬─► map      (program: bpf(2), pinned)
//!     ▲                              │                                                 └─► attacher (a thread: tcx or clsact, pinned)
//!     └─────── beside, seen ◄────────┘ ◄── meters of the map                  ├─► xdp      (a thread: native XDP, pinned)
//!                                                                             links and routes change ─► refresh ─► work
//! ```
//! `Fast` is that, or nothing where there can be none, and says which.
//!
//! Owned by the ALG's thread, so that a call is in the map before its client may speak, and out of it before anybody hears of
//! its end. Everything here blocks for microseconds, but `start`. A link gets the program when the first control connection by it
//! begins; a call that is up before it has it goes by the ALG so long.

mod attacher;
mod by_link;
mod cards;
mod decide;
mod home;
mod layout;
mod on;
mod pins;
mod program;
mod refusals;
mod removal;
mod slots;
mod status;
mod sys;
mod table;
mod uplinks;
mod ways;
mod xdp;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use callgate_pptp::{CallPath, Now};
use clap::ValueEnum;

pub use decide::{Adoption, adopt, keys, rules, superfluous};
pub(crate) use home::Home;
pub use layout::{Entry, Key, LAYOUT, LEFT, Meter, Replaced, Rule};
pub use pins::{Hook, Pins};
pub use removal::remove;
pub use status::{State, Status};
pub use table::{Both, Passed};
pub use ways::Slow;
pub(crate) use ways::Ways;
pub use xdp::Told as XdpTold;

use on::On;
use removal::Removal;

/// `--fast-path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Mode {
    /// Where this kernel and our rights allow it.
    #[default]
    Auto,
    /// The same, in the older way also where the kernel has tcx.
    Clsact,
    /// As `auto`; and by XDP between links whose drivers do that natively.
    Xdp,
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
    /// Name of the agent's nftables table: its own names are found by it.
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
    /// What a run before has left, while it cannot be removed.
    left: Option<Removal>,
    status: Status,
}

impl Fast {
    /// Loads, takes over what a previous run has left of `live` calls, and removes the rest of it. Where that cannot be, the reason
    /// is in the status, and everything goes the other way.
    pub fn start(setup: Setup, live: &BTreeSet<CallPath>, now: Now) -> Self {
        let Setup { mode, root, table, status, .. } = setup.clone();
        let begun = match mode {
            Mode::Off => Err("--fast-path=off".to_owned()),
            Mode::Auto | Mode::Clsact | Mode::Xdp => On::begin(&setup, live, now),
        };
        let (on, left) = match begun {
            Ok(on) => (Some(on), None),
            Err(off) => {
                // Whatever a run before has left must not carry calls that nobody looks after.
                let (left, why) = Removal::attempt(&root, &table, now).unzip();
                if let Some(why) = &why {
                    tracing::error!("the fast path of a run before cannot be removed, which is tried again: {why}");
                }
                tracing::info!("all GRE by AF_PACKET: {off}");
                let left_over = why.unwrap_or_default();
                status.set(State { off, chosen: mode == Mode::Off, left_over, ..State::default() });
                (None, left)
            }
        };
        let fast = Self { on, left, status };
        fast.tell();
        fast
    }

    /// These ends of calls are likely: what takes their links out of service for a moment is done before the first call, by and by.
    pub fn foresee(&mut self, ends: Vec<Ipv4Addr>) {
        if let Some(on) = &mut self.on {
            on.foresee(ends);
        }
    }

    /// A control connection between these ends has begun: its calls will come in by these links.
    pub fn expect(&mut self, client: Ipv4Addr, server: Ipv4Addr, now: Now) {
        if let Some(on) = &mut self.on {
            on.expect([client, server], now);
        }
    }

    /// A call has come up; whether its GRE passes here from now on.
    pub fn open(&mut self, path: CallPath, now: Now) -> bool {
        let Some(on) = &mut self.on else { return false };
        let placed = on.open(path, now);
        if !placed {
            self.tell();
        }
        placed
    }

    /// A call ends: nothing of it passes here from now on. What has passed.
    pub fn close(&mut self, path: &CallPath, now: Now) -> Both {
        let Some(on) = &mut self.on else { return Both::default() };
        let slow = !on.paths.is_placed(path);
        let passed = on.close(path, now);
        if slow {
            self.tell();
        }
        passed
    }

    /// Links, addresses or routes have changed: everything is looked at again, by and by (`work`).
    pub fn refresh(&mut self) {
        let Some(on) = &mut self.on else { return };
        on.refresh();
        self.tell();
    }

    /// A turn of what is left to do; paths whose GRE passes here (true) or does not any more.
    pub fn work(&mut self, now: Now) -> Vec<(CallPath, bool)> {
        self.work_on_what_is_left(now);
        let Some(on) = &mut self.on else { return Vec::new() };
        let changed = on.work(now);
        self.tell();
        changed
    }

    /// When `work` has something to do.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Now> {
        let on = self.on.as_ref().and_then(|on| on.deadline(now));
        on.into_iter().chain(self.left.as_ref().map(Removal::deadline)).min()
    }

    /// Tries again to remove what a run before has left.
    fn work_on_what_is_left(&mut self, now: Now) {
        let Some(result) = self.left.as_mut().and_then(|left| left.work(now)) else { return };
        if result.is_ok() {
            tracing::info!("the fast path of a run before is removed");
            self.left = None;
        }
        let left_over = result.err().unwrap_or_default();
        self.status.set(State { left_over, ..self.status.get().unwrap_or_default() });
    }

    /// Whether nothing is under way: no call is to be placed, no link to get the program or to lose it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.on.as_ref().is_none_or(On::is_settled)
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
        on.counters()
    }

    /// The ways it knows, where there is one.
    pub(crate) fn ways(&self) -> Option<&Ways> {
        self.on.as_ref().map(|on| &on.ways)
    }

    /// Says how it is.
    fn tell(&self) {
        if let Some(on) = &self.on {
            self.status.set(on.state());
        }
    }
}
