//! Which call is where in the map: who owns which key, what was counted so far, which links are used.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use callgate_pptp::{CallPath, Traffic};

use super::by_link::ByLink;
use super::decide::{adopt, keys};
use super::layout::{Key, Meter, Rule};
use super::program::Shared;
use super::slots::{Full, Table};
use super::uplinks::Uplinks;
use super::ways::Slow;
use crate::clock;

/// What has passed of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets, bytes, losses.
    pub traffic: Traffic,
    /// When a packet was seen last: CLOCK_MONOTONIC, ns; 0 is never.
    pub last_seen: u64,
    /// The same of packets with user data.
    pub last_payload: u64,
}

/// What has passed of a call: client to server, server to client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Both {
    /// Client to server.
    pub up: Passed,
    /// Server to client.
    pub down: Passed,
}

/// A call that is up.
#[derive(Debug, Default)]
struct Open {
    /// By which links its packets come, while it is in the map: those of its rules, and others that lead to its server.
    placed: Option<Box<[u32]>>,
    /// What was counted by entries that are gone.
    before: [Passed; 2],
    /// Why it is not in the map.
    lacks: Option<Slow>,
}

/// All calls that are up, and the map.
pub(super) struct Paths {
    table: Table<Shared>,
    uplinks: Uplinks,
    open: BTreeMap<CallPath, Open>,
    /// Whose entry it is. Two calls of a client may have the same way up; the newer has it.
    owners: HashMap<Key, CallPath>,
    /// Calls in the map, by the links their packets come by.
    uses: ByLink,
    /// Calls that wait for a link to get the program.
    waiting: ByLink,
    /// Calls that are not placed.
    left: BTreeSet<CallPath>,
    ended: [Traffic; 2],
    /// What a run before had counted of calls that go on.
    adopted: [Traffic; 2],
    full: u64,
}

impl Passed {
    fn add(&mut self, meter: &Meter) {
        self.traffic += meter.traffic();
        self.last_seen = self.last_seen.max(meter.last_seen);
        self.last_payload = self.last_payload.max(meter.last_payload);
    }
}

impl Paths {
    /// Takes over a map: what belongs to no live call is removed, the others stay where they are.
    pub(super) fn adopt(mut table: Table<Shared>, uplinks: Uplinks, live: &BTreeSet<CallPath>) -> Self {
        let adoption = adopt(live, &table.all(clock::monotonic()));
        for key in &adoption.remove {
            let _ = table.remove(key, 0);
        }
        let mut paths = Self {
            table,
            uplinks,
            open: live.iter().map(|path| (*path, Open::default())).collect(),
            owners: HashMap::new(),
            uses: ByLink::default(),
            waiting: ByLink::default(),
            left: live.clone(),
            ended: [Traffic::default(); 2],
            adopted: [Traffic::default(); 2],
            full: 0,
        };
        for (path, entries) in adoption.keep {
            for (adopted, entry) in paths.adopted.iter_mut().zip(&entries) {
                *adopted += entry.meter.traffic();
            }
            paths.note_placed(&path, entries.map(|entry| entry.rule), &[]);
        }
        paths
    }

    /// One more call is up.
    pub(super) fn enter(&mut self, path: CallPath) {
        self.open.entry(path).or_insert_with(|| {
            self.left.insert(path);
            Open::default()
        });
    }

    /// Writes both directions, as far as they are not so already. The server's packets may come by `others` too.
    pub(super) fn place(&mut self, path: &CallPath, rules: [(Key, Rule); 2], others: &[u32]) -> Result<(), Slow> {
        if !self.open.contains_key(path) {
            return Ok(());
        }
        for (key, rule) in rules {
            match self.owners.get(&key).copied() {
                Some(owner) if owner != *path => self.take_out(&owner, &key),
                Some(_) | None => {}
            }
            self.table.put(&key, &rule).map_err(|Full| {
                self.full += 1;
                Slow::Full
            })?;
            self.owners.insert(key, *path);
        }
        self.note_placed(path, rules.map(|(_, rule)| rule), others);
        Ok(())
    }

    fn note_placed(&mut self, path: &CallPath, rules: [Rule; 2], others: &[u32]) {
        let Some(open) = self.open.get_mut(path) else { return };
        let links: Box<[u32]> = rules.iter().map(|rule| rule.from_link).chain(others.iter().copied()).collect();
        if open.placed.as_ref() != Some(&links) {
            // Before what it had is taken back: the program misses nothing of what it keeps.
            self.uplinks.add(path.server, others);
            if let Some(before) = open.placed.take() {
                self.uplinks.remove(path.server, beside(&before));
                before.iter().for_each(|link| self.uses.remove(*link, path));
            }
            for link in &links {
                self.uses.add(*link, path);
            }
            open.placed = Some(links);
        }
        lacks(open, &mut self.waiting, path, None);
        self.left.remove(path);
        self.owners.extend(keys(path).map(|key| (key, *path)));
    }

    /// Its packets go to the ALG from now on.
    pub(super) fn leave(&mut self, path: &CallPath, why: Slow) {
        self.withdraw(path);
        if let Some(open) = self.open.get_mut(path) {
            lacks(open, &mut self.waiting, path, Some(why));
            self.left.insert(*path);
        }
    }

    /// Out of the map, both directions.
    fn withdraw(&mut self, path: &CallPath) {
        for key in keys(path) {
            if self.owners.get(&key) == Some(path) {
                self.take_out(path, &key);
                self.owners.remove(&key);
            }
        }
        if let Some(placed) = self.open.get_mut(path).and_then(|open| open.placed.take()) {
            self.uplinks.remove(path.server, beside(&placed));
            placed.iter().for_each(|link| self.uses.remove(*link, path));
        }
    }

    /// An entry of this call away; what it has counted stays known.
    fn take_out(&mut self, path: &CallPath, key: &Key) {
        let meter = self.table.remove(key, clock::monotonic());
        let which = usize::from(*key == keys(path)[1]);
        if let (Some(meter), Some(open)) = (meter, self.open.get_mut(path)) {
            open.before[which].add(&meter);
        }
    }

    /// It has ended: what has passed of it.
    pub(super) fn close(&mut self, path: &CallPath) -> Both {
        self.withdraw(path);
        self.left.remove(path);
        let Some(mut open) = self.open.remove(path) else { return Both::default() };
        lacks(&mut open, &mut self.waiting, path, None);
        let [up, down] = open.before;
        self.ended[0] += up.traffic;
        self.ended[1] += down.traffic;
        Both { up, down }
    }

    /// All of them, those from `next` on first.
    pub(super) fn all_from(&self, next: Option<CallPath>) -> impl Iterator<Item = CallPath> + '_ {
        let from = next.map_or(Bound::Unbounded, Bound::Included);
        let before = next.map(|next| self.open.range(..next)).into_iter().flatten();
        self.open.range((from, Bound::Unbounded)).chain(before).map(|(path, _)| *path)
    }

    pub(super) fn placed(&self) -> impl Iterator<Item = CallPath> + '_ {
        self.open.iter().filter(|(_, open)| open.placed.is_some()).map(|(path, _)| *path)
    }

    pub(super) fn left_behind(&self) -> impl Iterator<Item = CallPath> + '_ {
        self.left.iter().copied()
    }

    /// Those that wait for this link to get the program.
    pub(super) fn waiting_for(&self, link: u32) -> impl Iterator<Item = CallPath> + '_ {
        self.waiting.of(link)
    }

    /// One of those that found no room, if there is one.
    pub(super) fn without_room(&self) -> Option<CallPath> {
        if self.full == 0 {
            return None;
        }
        self.lacking(|why| *why == Slow::Full).next()
    }

    fn lacking(&self, what: impl Fn(&Slow) -> bool) -> impl Iterator<Item = CallPath> {
        let lacks = move |path: &&CallPath| self.open.get(path).and_then(|open| open.lacks.as_ref()).is_some_and(&what);
        self.left.iter().filter(lacks).copied()
    }

    pub(super) fn is_placed(&self, path: &CallPath) -> bool {
        self.open.get(path).is_some_and(|open| open.placed.is_some())
    }

    pub(super) fn uses(&self, link: u32) -> bool {
        self.uses.has(link)
    }

    /// Whether a call passes between two of these links. Of each link one call is looked at: one by two of them is the only one of
    /// most clients' links.
    pub(super) fn is_any_between(&self, links: &BTreeMap<u32, String>) -> bool {
        let both = |path: &CallPath| {
            let placed = self.open.get(path).and_then(|open| open.placed.as_ref());
            placed.and_then(|placed| placed.get(..2)).is_some_and(|two| two.iter().all(|link| links.contains_key(link)))
        };
        links.keys().any(|link| self.uses.of(*link).next().is_some_and(|path| both(&path)))
    }

    /// Whether a call is in the map.
    pub(super) fn has_any(&self) -> bool {
        self.uses.links().next().is_some()
    }

    /// Calls of which packets come in by this link.
    pub(super) fn by(&self, link: u32) -> impl Iterator<Item = CallPath> + '_ {
        self.uses.of(link)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = u32> + '_ {
        self.uses.links()
    }

    /// How many calls are not placed, and why one of them is not.
    pub(super) fn slow(&self) -> Option<(usize, String)> {
        let why = self.left.iter().find_map(|path| self.open.get(path)?.lacks.as_ref())?;
        Some((self.left.len(), why.to_string()))
    }

    pub(super) fn passed(&self, path: &CallPath) -> Option<Both> {
        let open = self.open.get(path)?;
        let now = clock::monotonic();
        Some(self.with(path, open, |key| self.table.get(key, now).map(|entry| entry.meter)))
    }

    pub(super) fn all_passed(&self) -> BTreeMap<CallPath, Both> {
        let now = clock::monotonic();
        let meter = |key: &Key| self.table.get(key, now).map(|entry| entry.meter);
        self.open.iter().map(|(path, open)| (*path, self.with(path, open, meter))).collect()
    }

    fn with(&self, path: &CallPath, open: &Open, meter: impl Fn(&Key) -> Option<Meter>) -> Both {
        let [mut up, mut down] = open.before;
        for (key, passed) in keys(path).iter().zip([&mut up, &mut down]) {
            let own = self.owners.get(key) == Some(path);
            if let Some(meter) = own.then(|| meter(key)).flatten() {
                passed.add(&meter);
            }
        }
        Both { up, down }
    }

    /// Totals since the start: also of calls that are older.
    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        let [mut up, mut down] = self.ended;
        for both in self.all_passed().values() {
            up += both.up.traffic;
            down += both.down.traffic;
        }
        let [before_up, before_down] = self.adopted;
        vec![
            // Calls in the table now.
            ("fast_calls", (self.open.len() - self.left.len()) as u64),
            // Attempts to put a call into the table that found no room there.
            ("fast_calls_full", self.full),
            // Bytes of `fast_down_packets`, IPv4 headers included.
            ("fast_down_bytes", down.bytes.saturating_sub(before_down.bytes)),
            // GRE passed on, server to client.
            ("fast_down_packets", down.packets.saturating_sub(before_down.packets)),
            // Bytes of `fast_up_packets`, IPv4 headers included.
            ("fast_up_bytes", up.bytes.saturating_sub(before_up.bytes)),
            // GRE passed on, client to server.
            ("fast_up_packets", up.packets.saturating_sub(before_up.packets)),
        ]
    }
}

/// Of a call's links those that are no rule's.
fn beside(placed: &[u32]) -> &[u32] {
    placed.get(2..).unwrap_or_default()
}

/// Why a call is not in the map, if it is not.
fn lacks(open: &mut Open, waiting: &mut ByLink, path: &CallPath, why: Option<Slow>) {
    if let Some(Slow::Attaching(link, _)) = &open.lacks {
        waiting.remove(*link, path);
    }
    if let Some(Slow::Attaching(link, _)) = &why {
        waiting.add(*link, path);
    }
    open.lacks = why;
}
