//! Which way GRE takes, and why not a better one: written by the ALG's thread, read by whoever tells people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use callgate_proto::pb;

use super::pins::Hook;
use super::xdp::Told;

/// Of so many links XDP is told by name.
const SOME: usize = 8;

/// The path without eBPF.
const AF_PACKET: &str = "AF_PACKET";

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Why there is no fast path; empty where there is one.
    pub off: String,
    /// That is as its owner wants it.
    pub chosen: bool,
    /// Why what a run before has left is still there; empty where nothing is.
    pub left_over: String,
    /// How the program is put on links; `None` where there is no fast path.
    pub hook: Option<Hook>,
    /// The links it is on, by name.
    pub links: BTreeSet<String>,
    /// Why it does not outlive the process; empty where it does.
    pub unpinned: String,
    /// Calls that do not take it, and why one of them does not.
    pub slow: Option<(usize, String)>,
    /// A call passes by XDP, both ways.
    pub by_xdp: bool,
    /// XDP before it; or why there is none.
    pub xdp: Result<Told, String>,
}

impl Default for State {
    fn default() -> Self {
        let [off, left_over, unpinned] = [(); 3].map(|()| String::new());
        let (links, xdp) = (BTreeSet::new(), Ok(Told::default()));
        Self { off, chosen: false, left_over, hook: None, links, unpinned, slow: None, by_xdp: false, xdp }
    }
}

/// A place for it; nothing is there before the fast path has started, or found that it cannot.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<Option<State>>>);

impl Status {
    /// From now on it is this.
    pub fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    /// What it is now, if that is known already.
    #[must_use]
    pub fn get(&self) -> Option<State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The path of live calls, in a few words, and of those that do not take it: until there is another one, it is the one
    /// without eBPF.
    #[must_use]
    pub fn path(&self) -> String {
        let Some(state) = self.get() else { return AF_PACKET.to_owned() };
        state.path() + &state.left_behind()
    }
}

/// The first of many names.
fn some(names: &BTreeSet<&str>) -> String {
    let first: Vec<&str> = names.iter().take(SOME).copied().collect();
    let more = names.len() - first.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &more
}

impl State {
    /// The path of live calls, in two words.
    #[must_use]
    pub fn path(&self) -> String {
        let place = match (self.off.is_empty(), self.hook) {
            (true, Some(Hook::Clsact(_))) => "clsact",
            (true, Some(Hook::Tcx | Hook::Xdp)) => "tcx",
            (false, _) | (true, None) => return AF_PACKET.to_owned(),
        };
        format!("eBPF at {}{place}", if self.by_xdp { "XDP and " } else { "" })
    }

    /// Where XDP is, and why not elsewhere, to be said behind the rest.
    fn xdp(&self) -> String {
        match &self.xdp {
            Err(why) => format!("; no XDP: {why}"),
            Ok(Told { on, not }) => {
                let on: BTreeSet<&str> = on.values().map(String::as_str).collect();
                let on = if on.is_empty() { String::new() } else { format!("; XDP on {}", some(&on)) };
                let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
                for (link, why) in not {
                    reasons.entry(why).or_default().insert(link);
                }
                let not = reasons.iter().map(|(why, links)| format!("; no XDP on {}: {why}", some(links)));
                not.fold(on, |text, more| text + &more)
            }
        }
    }

    /// Calls that do not take it, to be said behind what others take; empty where there are none.
    fn left_behind(&self) -> String {
        self.slow.as_ref().map_or_else(String::new, |(count, why)| format!("; {count} calls by {AF_PACKET}: {why}"))
    }

    /// For the list of what this host has.
    #[must_use]
    pub fn feature(&self) -> pb::Feature {
        let mut detail = self.path();
        if !self.off.is_empty() {
            let _ = write!(detail, ": {}; what it costs: each GRE packet goes through user space", self.off);
            if !self.left_over.is_empty() {
                let _ = write!(detail, "; the fast path of a run before cannot be removed: {}", self.left_over);
            }
        } else {
            if !self.links.is_empty() {
                let links: Vec<&str> = self.links.iter().map(String::as_str).collect();
                let _ = write!(detail, " on {}", links.join(", "));
            }
            if !self.unpinned.is_empty() {
                let _ = write!(detail, "; it ends with the agent: {}", self.unpinned);
            }
            detail.push_str(&self.left_behind());
            detail.push_str(&self.xdp());
        }
        let as_wanted = self.off.is_empty() || self.chosen && self.left_over.is_empty();
        pb::Feature { name: "GRE path".to_owned(), available: as_wanted, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_hear_which_path_it_is_and_why_not_a_better_one() {
        let off = State { off: "no CAP_BPF".into(), ..State::default() };
        let detail = "AF_PACKET: no CAP_BPF; what it costs: each GRE packet goes through user space".to_owned();
        assert_eq!(off.feature(), pb::Feature { name: "GRE path".into(), available: false, detail });
        assert!(State { chosen: true, ..off.clone() }.feature().available);
        let left = State { chosen: true, left_over: "link 7: busy".into(), ..off.clone() };
        let detail = "AF_PACKET: no CAP_BPF; what it costs: each GRE packet goes through user space; the fast path of a run before \
                      cannot be removed: link 7: busy"
            .to_owned();
        assert_eq!(left.feature(), pb::Feature { name: "GRE path".into(), available: false, detail });
        let on = State {
            hook: Some(Hook::Clsact(true)),
            links: ["eth0".to_owned(), "cni0".to_owned()].into(),
            unpinned: "/x is no bpf file system".into(),
            slow: Some((2, "link wg0 has no Ethernet".into())),
            xdp: Err("it is not asked for".into()),
            ..State::default()
        };
        let detail = "eBPF at clsact on cni0, eth0; it ends with the agent: /x is no bpf file system; \
                      2 calls by AF_PACKET: link wg0 has no Ethernet; no XDP: it is not asked for";
        assert_eq!(on.feature().detail, detail);
        let not = (0..10).map(|pod| (format!("cali{pod}"), "GRO is off".to_owned())).collect();
        let told = Told { on: [(2, "eth1".to_owned()), (3, "eth0".to_owned())].into(), not };
        let both = State { by_xdp: true, xdp: Ok(told), slow: None, ..on.clone() };
        let detail = "eBPF at XDP and clsact on cni0, eth0; it ends with the agent: /x is no bpf file system; XDP on eth0, eth1; \
                      no XDP on cali0, cali1, cali2, cali3, cali4, cali5, cali6, cali7 and 2 more: GRO is off";
        assert_eq!(both.feature().detail, detail);
        assert_eq!(
            (off.path(), on.path(), State { hook: Some(Hook::Tcx), ..State::default() }.path()),
            ("AF_PACKET".into(), "eBPF at clsact".into(), "eBPF at tcx".into())
        );
    }
}
