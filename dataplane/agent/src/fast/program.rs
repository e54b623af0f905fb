//! The programs of dataplane/bpf in the kernel: loaded with their map, put on links, replaced, taken away.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use aya::maps::xdp::DevMapHash;
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};

use super::layout::{LEFT, SLOTS, Slot};
use super::pins::{Hook, Pins};
use super::slots::{Reading, Table, buckets};
use super::sys;
pub(super) use super::sys::Shared;
use super::uplinks::Uplinks;
use super::xdp::Cards;
use crate::netlink::rt::Rt;
use crate::netlink::{self, Routes, clsact};

/// The object that clang has made of dataplane/bpf/callgate.bpf.c (`cargo xtask generate`).
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/callgate.bpf.o");

const NAME: &str = "callgate_gre";
const XDP: &str = "callgate_xdp";
/// Links there is room for with XDP.
pub(super) const XDP_LINKS: u32 = 1 << 10;
/// Their maps, and neighbours each CPU remembers (`NEIGHBOURS`).
const XDP_MAPS: [(&str, u32); 3] = [("cards_out", XDP_LINKS), ("cards", XDP_LINKS), ("neighbours", 1 << 10)];

/// Directions of calls the map has room for: 65,536 calls. The memory is there at once: 16 MiB.
pub(super) const ENTRIES: u32 = 1 << 17;

/// Priority of the filter behind clsact: behind what others put there, also without a priority, since the kernel gives them one before
/// the last, at most 49152, or before ours (net/sched/cls_api.c, tcf_auto_prio).
const PRIORITY: u16 = 60_000;
/// What it was in versions before: what runs of them have left is found by it.
const PRIORITY_BEFORE: u16 = 7411;

/// The programs, loaded.
pub(super) struct Program {
    ebpf: Ebpf,
    /// Why the one for XDP is not.
    no_xdp: Result<(), String>,
}

/// The program on a link.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) hook: Hook,
    /// Holds a tcx link that has no name.
    link: Option<OwnedFd>,
}

impl Attached {
    /// What has a name.
    pub(super) fn named(hook: Hook) -> Self {
        Self { hook, link: None }
    }

    /// The same once more.
    pub(super) fn same(&self) -> io::Result<Self> {
        let link = self.link.as_ref().map(OwnedFd::try_clone).transpose()?;
        Ok(Self { hook: self.hook, link })
    }
}

/// Loads the program for tc and the maps; the table of a previous run, if it has its name. `xdp`: the program for XDP too.
///
/// # Errors
/// With what is missing.
pub(super) fn load(
    pins: Option<&Pins>,
    entries: u32,
    seed: u64,
    xdp: bool,
) -> Result<(Program, Table<Shared>, Uplinks), String> {
    let path = pins.map(Pins::map);
    // How a table is read is part of the program; in the map of a run before it is written down.
    let kept = path.as_ref().filter(|path| path.exists()).map(|path| {
        let map = MapData::from_pin(path).map_err(|error| words(&error))?;
        table(&map, seed, entries)
    });
    let reading = match kept.transpose()? {
        Some(kept) => kept.reading(),
        None => Reading { seed: seed | 1, mask: buckets(entries) - 1 },
    };
    let mut loader = EbpfLoader::new();
    loader.btf(None).map_max_entries("paths", buckets(entries));
    for (map, entries) in XDP_MAPS.into_iter().filter(|_| xdp) {
        loader.map_max_entries(map, entries);
    }
    loader.override_global("SEED", &reading.seed, true).override_global("MASK", &reading.mask, true);
    if let Some(path) = &path {
        loader.map_pin_path("paths", path);
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&words(&error)))?;
    let program: &mut SchedClassifier = classifier(&mut ebpf)?;
    program.load().map_err(|error| refused(&words(&error)))?;
    // Now, while all maps are there. What the kernel says against it is no loss for tc.
    let no_xdp = if xdp { load_xdp(&mut ebpf) } else { Err("it is not loaded".to_owned()) };
    let Some(Map::Array(map)) = ebpf.take_map("paths") else { return Err("the object has no map".to_owned()) };
    // In the program's own map, whatever has the name by now: what is written has to be what is read.
    let table = table(&map, reading.seed, entries)?;
    if table.reading() != reading {
        return Err("somebody else has begun a table in the map just now".to_owned());
    }
    let uplinks = ebpf.take_map("uplinks").ok_or("the object has no map of uplinks")?;
    let uplinks = Uplinks::new(HashMap::try_from(uplinks).map_err(|error| words(&error))?);
    Ok((Program { ebpf, no_xdp }, table, uplinks))
}

/// The table in this map, begun with `seed` if it is new.
fn table(map: &MapData, seed: u64, entries: u32) -> Result<Table<Shared>, String> {
    // One of a run before has its own size.
    let count = map.info().map_err(|error| words(&error))?.max_entries() as usize * SLOTS;
    let memory = Shared::of(map.fd(), count).map_err(|error| format!("the map's memory: {error}"))?;
    Table::open(memory, seed, entries)
}

/// Empties the map with this name, of this layout (`ours`) or of another one: what finds nothing in it leaves everything to the ALG.
///
/// # Errors
/// What the kernel says.
pub(super) fn empty(path: &Path, ours: bool) -> Result<(), String> {
    let error = |error: &dyn std::error::Error| format!("{}: {}", path.display(), words(error));
    let map = MapData::from_pin(path).map_err(|e| error(&e))?;
    let info = map.info().map_err(|e| error(&e))?;
    let octets = info.max_entries() as usize * info.value_size() as usize;
    let memory = Shared::of(map.fd(), octets / size_of::<Slot>()).map_err(|e| error(&e))?;
    match ours {
        true => memory.iter().filter(|slot| slot.is_taken()).for_each(Slot::hide),
        false => memory.iter().for_each(Slot::wipe),
    }
    Ok(())
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, String> {
    let program = ebpf.program_mut(NAME).ok_or("the object has no program")?;
    program.try_into().map_err(|error| words(&error))
}

fn at_xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, String> {
    let program = ebpf.program_mut(XDP).ok_or("the object has no program for XDP")?;
    program.try_into().map_err(|error| words(&error))
}

fn load_xdp(ebpf: &mut Ebpf) -> Result<(), String> {
    at_xdp(ebpf)?.load().map_err(|error| refused(&words(&error)))
}

/// An error with what it is about: aya keeps the system's own words in its source.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// Why nothing could be loaded, with what is most likely missing.
fn refused(words: &str) -> String {
    if words.contains("Operation not permitted") {
        return "CAP_BPF is missing, or this kernel lets nobody load eBPF".to_owned();
    }
    let Some((what, log)) = words.split_once("Verifier output: ") else { return words.to_owned() };
    // Of the verifier's steps, which fill pages, the last one; what is behind it are its figures.
    let figures = ["verification time", "stack depth", "processed "];
    let last =
        log.lines().rev().find(|line| !line.is_empty() && !figures.iter().any(|figure| line.starts_with(figure)));
    format!("{what}the verifier says: {}", last.unwrap_or(log))
}

impl Program {
    /// The program for XDP, with the maps that are the agent's to fill.
    ///
    /// # Errors
    /// Why it is not loaded.
    pub(super) fn xdp(&mut self) -> Result<(OwnedFd, Cards), String> {
        self.no_xdp.clone()?;
        let program = at_xdp(&mut self.ebpf)?;
        let fd = program.fd().map_err(|error| words(&error))?;
        let fd = fd.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        let out = self.ebpf.take_map("cards_out").ok_or("the object has no map of links")?;
        let own = self.ebpf.take_map("cards").ok_or("the object has no map of addresses")?;
        let out = DevMapHash::try_from(out).map_err(|error| words(&error))?;
        let own = HashMap::try_from(own).map_err(|error| words(&error))?;
        Ok((fd, Cards { out, own }))
    }

    /// How often it has left packets to the ALG, by the names of the counters.
    pub(super) fn left(&self) -> Vec<(&'static str, u64)> {
        LEFT.iter().zip(0..).map(|(name, index)| (*name, self.count("left", index))).collect()
    }

    /// Packets that were passed on at XDP.
    pub(super) fn by_xdp(&self) -> u64 {
        self.count("by_xdp", 0)
    }

    fn count(&self, map: &str, index: u32) -> u64 {
        let map = self.ebpf.map(map).and_then(|map| PerCpuArray::<_, u64>::try_from(map).ok());
        let values = map.and_then(|map| map.get(&index, 0).ok());
        values.map_or(0, |values| values.iter().sum())
    }

    /// The program's own descriptor.
    pub(super) fn fd(&mut self) -> Result<OwnedFd, String> {
        let program = classifier(&mut self.ebpf)?;
        let fd = program.fd().map_err(|error| words(&error))?;
        fd.as_fd().try_clone_to_owned().map_err(|error| error.to_string())
    }
}

/// Takes over what a previous run has put on a link: this program in its place, from one packet to the next. False if there is none.
///
/// # Errors
/// What the kernel says.
pub(super) fn adopt(program: &OwnedFd, link: u32, hook: Hook, pins: &Pins, routes: &Routes) -> Result<bool, String> {
    match hook {
        Hook::Tcx | Hook::Xdp => {
            let said = |error: io::Error| format!("{}: {error}", held_by(hook));
            let held = sys::pinned(&pins.link(link, hook)).map_err(said)?;
            if sys::device_of(&held).map_err(said)? != link {
                return Ok(false);
            }
            sys::replace(&held, program).map_err(said)?;
        }
        Hook::Clsact(_) => {
            if let Err(error) = rename_to(program, &pins.link(link, hook)) {
                tracing::warn!(link, "its name keeps the program, and the map, of a run before: {error}");
            }
            let rt = routes.connection();
            // Without calls it was taken away; and somebody may have removed the qdisc, and with it what was behind it.
            let is_there = |priority| clsact::is_there(rt, link, priority).unwrap_or(true);
            if !is_there(PRIORITY) && !is_there(PRIORITY_BEFORE) {
                return Ok(false);
            }
            clsact::put(rt, link, PRIORITY, program.as_raw_fd(), NAME)
                .and_then(|()| clsact::remove(rt, link, PRIORITY_BEFORE, false))
                .map_err(|error| format!("clsact: {error}"))?;
        }
    }
    Ok(true)
}

fn held_by(hook: Hook) -> &'static str {
    match hook {
        Hook::Tcx => "tcx",
        Hook::Clsact(_) => "clsact",
        Hook::Xdp => "XDP",
    }
}

/// Whether this kernel has tcx (Linux 6.6).
pub(super) fn has_tcx(program: &OwnedFd) -> bool {
    // No device has this number. A kernel without tcx does not come to look for it.
    sys::attach(program, 0).is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
}

/// Puts a program on a link, at tcx if `tcx`, else behind clsact, and gives it a name.
///
/// # Errors
/// What the kernel says; the link is then as it was.
pub(super) fn attach(
    program: &OwnedFd,
    link: u32,
    tcx: bool,
    pins: Option<&Pins>,
    routes: &Routes,
) -> Result<Attached, String> {
    if !tcx {
        return behind_clsact(program, link, pins, routes).map(Attached::named);
    }
    let held = sys::attach(program, link).map_err(|error| format!("tcx: {error}"))?;
    name(held, link, Hook::Tcx, pins)
}

/// Puts the program for XDP on a link, and gives it a name.
///
/// # Errors
/// What the kernel says; the link is then as it was.
pub(super) fn attach_xdp(program: &OwnedFd, link: u32, pins: Option<&Pins>) -> Result<Attached, String> {
    let held = sys::attach_xdp(program, link).map_err(|error| match error.raw_os_error() {
        // Run by its driver, or behind it.
        Some(libc::EBUSY | libc::EEXIST) => "another XDP program is on it".to_owned(),
        Some(_) | None => error.to_string(),
    })?;
    name(held, link, Hook::Xdp, pins)
}

fn name(held: OwnedFd, link: u32, hook: Hook, pins: Option<&Pins>) -> Result<Attached, String> {
    let Some(pins) = pins else { return Ok(Attached { hook, link: Some(held) }) };
    pin(&held, &pins.link(link, hook))?;
    Ok(Attached::named(hook))
}

/// Puts a program on a link by a filter, which outlives the agent: so it has its name before it is there. What a kill leaves
/// between the two is a name without a filter, which the next run adopts, or a qdisc without filters.
fn behind_clsact(program: &OwnedFd, link: u32, pins: Option<&Pins>, routes: &Routes) -> Result<Hook, String> {
    let Some(pins) = pins else {
        // It would go on without anybody who knows of it.
        return Err("a filter behind clsact outlives the agent, and has no name to be found again by".to_owned());
    };
    let hook = prepare(program, link, pins, routes)?;
    let named = match hook {
        Hook::Clsact(true) => Ok(()),
        Hook::Clsact(false) | Hook::Tcx | Hook::Xdp => pin(program, &pins.link(link, hook)),
    };
    let put = || {
        clsact::put(routes.connection(), link, PRIORITY, program.as_raw_fd(), NAME)
            .map_err(|error| format!("clsact: {error}"))
    };
    if let Err(error) = named.and_then(|()| put()) {
        let _ = rest(link, Attached::named(hook), Some(pins), routes);
        return Err(error);
    }
    Ok(hook)
}

/// Makes the qdisc that a filter needs, where there is none, and gives it its name. The kernel takes the link out of service while a
/// qdisc comes or goes, and drops what leaves by it (1 to 2 ms, measured): so it comes early, and stays.
///
/// # Errors
/// What the kernel says; the link is then as it was.
pub(super) fn prepare(program: &OwnedFd, link: u32, pins: &Pins, routes: &Routes) -> Result<Hook, String> {
    let (rt, name) = (routes.connection(), pins.link(link, Hook::Clsact(true)));
    let made = clsact::prepare(rt, link).map_err(|error| format!("clsact: {error}"))?;
    let named = name.exists();
    if made && !named {
        pin(program, &name).inspect_err(|_| drop(clsact::remove(rt, link, PRIORITY, true)))?;
    }
    Ok(Hook::Clsact(made || named))
}

/// Gives a tcx link its name; for a filter the program, which only says that the filter is there.
fn pin(what: &OwnedFd, path: &Path) -> Result<(), String> {
    sys::pin(what, path).map_err(|error| format!("{}: {error}", path.display()))
}

/// This program in the place of what has the name: that one keeps its maps in memory as long.
fn rename_to(program: &OwnedFd, path: &Path) -> Result<(), String> {
    let mut new = path.as_os_str().to_owned();
    new.push("-new");
    // Of a run that was killed here.
    unname(Path::new(&new))?;
    pin(program, Path::new(&new))?;
    std::fs::rename(&new, path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Takes the program from a link, and its name away. That the link is gone is fine.
///
/// # Errors
/// What the kernel says.
pub(super) fn detach(link: u32, attached: Attached, pins: Option<&Pins>, routes: &Routes) -> Result<(), String> {
    let Attached { hook, link: held } = attached;
    match hook {
        Hook::Clsact(qdisc) => {
            remove_filter(routes.connection(), link, qdisc).map_err(|error| format!("clsact: {error}"))?;
        }
        Hook::Tcx | Hook::Xdp => {
            let named = || pins.and_then(|pins| sys::pinned(&pins.link(link, hook)).ok());
            // Where it is gone with its device, or not to be had, it goes with its name.
            let _ = held.or_else(named).map(|held| sys::detach(&held));
        }
    }
    pins.map_or(Ok(()), |pins| unname(&pins.link(link, hook)))
}

/// The same, but a qdisc of ours stays, with its name, for the next call.
///
/// # Errors
/// What the kernel says.
pub(super) fn rest(link: u32, attached: Attached, pins: Option<&Pins>, routes: &Routes) -> Result<(), String> {
    let (Hook::Clsact(true), Some(pins)) = (attached.hook, pins) else { return detach(link, attached, pins, routes) };
    let rt = routes.connection();
    let removed = remove_filter(rt, link, false).and_then(|()| clsact::is_prepared(rt, link));
    // One that somebody has removed, or that went with its link, is not ours when it comes again.
    match removed.map_err(|error| format!("clsact: {error}"))? {
        true => Ok(()),
        false => unname(&pins.link(link, attached.hook)),
    }
}

fn remove_filter(rt: &Rt, link: u32, qdisc: bool) -> Result<(), netlink::Error> {
    clsact::remove(rt, link, PRIORITY_BEFORE, false)?;
    clsact::remove(rt, link, PRIORITY, qdisc)
}

fn unname(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("{}: {error}", path.display())),
        _ => Ok(()),
    }
}

/// Whether the kernel says that there is no such link.
pub(super) fn is_gone(link: u32, routes: &Routes) -> bool {
    matches!(netlink::link::by_index(routes.connection(), link), Ok(None))
}

/// Whether what has a name on this link is still there.
pub(super) fn holds(link: u32, attached: &Attached, pins: Option<&Pins>, routes: &Routes) -> bool {
    let device = match (&attached.link, attached.hook, pins) {
        (Some(held), ..) => sys::device_of(held),
        (None, hook @ (Hook::Tcx | Hook::Xdp), Some(pins)) => {
            sys::pinned(&pins.link(link, hook)).and_then(|held| sys::device_of(&held))
        }
        // Where that cannot be told, it is better to believe it: the next look comes.
        (None, Hook::Clsact(_), _) => return clsact::is_there(routes.connection(), link, PRIORITY).unwrap_or(true),
        (None, Hook::Tcx | Hook::Xdp, None) => return false,
    };
    device.is_ok_and(|device| device == link)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place of the stack costs a barrier where CAP_PERFMON is missing: 100 to 300 ns a packet for a dozen (measured).
    #[test]
    fn the_programs_keep_nothing_on_their_stacks_but_one_key() {
        // linux/bpf_common.h: class ST or STX, in the low three bits of the operation; the stack's register is 10.
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let is_for_each_packet = |function: &&aya_obj::Function| function.name != "learn";
        let functions = object.functions.values().filter(is_for_each_packet);
        assert_eq!(functions.clone().count(), 2);
        let steps = functions.flat_map(|function| &function.instructions);
        let stores = steps.filter(|step| matches!(step.code & 7, 2 | 3) && step.dst_reg() == 10);
        let places: std::collections::BTreeSet<i16> = stores.map(|step| step.off).collect();
        assert_eq!(places, [-4].into());
    }

    #[test]
    fn of_the_verifiers_pages_people_get_the_line_that_says_why() {
        let log = "the syscall returned Permission denied (os error 13). Verifier output: 0: R1=ctx()\n514: (0f) r2 += r3\n\
                   R2 has pointer with unsupported alu operation\nverification time 2292 usec\nstack depth 80\n\
                   processed 386 insns (limit 1000000)\n";
        let expected = "the syscall returned Permission denied (os error 13). the verifier says: R2 has pointer with unsupported \
                        alu operation";
        assert_eq!(refused(log), expected);
        assert_eq!(refused("no such file"), "no such file");
        assert!(refused("x: Operation not permitted").starts_with("CAP_BPF is missing"));
    }
}
