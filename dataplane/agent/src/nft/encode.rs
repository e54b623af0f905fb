//! Rulesets as nfnetlink batches: the whole table anew, or only what differs between two.

use std::net::Ipv4Addr;

use super::diff::Difference;
use super::expr::{TIMEOUT_OBJECT, verdict_data};
use super::ruleset::{Chain, Element, HOSTS, Key, Ruleset, Set, Timeouts};
use crate::netlink::attr::Attrs;
use crate::netlink::socket::{self, ACK, APPEND, CREATE, REQUEST};

/// NFNL_SUBSYS_NFTABLES.
pub(super) const SUBSYSTEM: u16 = 10;
/// Family IPv4, as nfgenmsg has it.
pub(super) const FAMILY: [u8; 4] = [2, 0, 0, 0];

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
const NEW_OBJECT: u16 = 18;
const DELETE_OBJECT: u16 = 20;

/// Where a list of elements is cut: an attribute holds 64 KiB at most.
const LIST_BYTES: usize = 32 << 10;

/// A batch under construction; its messages are numbered from 1.
pub(crate) struct Batch {
    table: String,
    bytes: Vec<u8>,
    /// What each message is about, for errors: number 1 is the first.
    about: Vec<(&'static str, String)>,
    next_set_id: u32,
    /// Where the last message begins.
    last_at: usize,
}

/// A batch ready to send.
pub(crate) struct Finished {
    /// One datagram.
    pub(crate) bytes: Vec<u8>,
    /// Messages, begin and end included.
    pub(crate) messages: usize,
    /// Number of the message that is acknowledged when all went well.
    pub(crate) last: u32,
    about: Vec<(&'static str, String)>,
}

impl Finished {
    /// What the message with this number is about, as (kind, name).
    pub(crate) fn about(&self, number: u32) -> Option<(&'static str, &str)> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.about.get(at).map(|(kind, name)| (*kind, name.as_str()))
    }
}

impl Batch {
    /// An empty batch for this table.
    pub(crate) fn new(table: &str) -> Self {
        let mut batch =
            Self { table: table.to_owned(), bytes: Vec::new(), about: Vec::new(), next_set_id: 1, last_at: 0 };
        batch.frame(BATCH_BEGIN);
        batch
    }

    /// The table with everything in it, in place of what it was.
    pub(crate) fn replace(&mut self, ruleset: &Ruleset) {
        self.remove();
        self.table(NEW_TABLE);
        for (name, chain) in &ruleset.chains {
            self.chain(NEW_CHAIN, name, chain);
        }
        for (name, timeouts) in &ruleset.timeouts {
            self.timeouts(NEW_OBJECT, name, timeouts);
        }
        for (name, set) in &ruleset.sets {
            self.set(NEW_SET, name, set);
            self.elements(NEW_ELEMENTS, name, set, set.elements.iter());
        }
        for (name, chain) in &ruleset.chains {
            self.rules(name, chain);
        }
    }

    /// A ruleset as bytes that differ where rulesets do, and are no message for anybody.
    pub(super) fn structure(ruleset: &Ruleset) -> Vec<u8> {
        let mut batch = Self::new("");
        batch.replace(ruleset);
        batch.bytes
    }

    /// The table away, whether it is there or not: added first, so that deleting cannot fail.
    pub(crate) fn remove(&mut self) {
        self.table(NEW_TABLE);
        self.table(DELETE_TABLE);
    }

    /// Another table away, whether it is there or not.
    pub(crate) fn without_table(&mut self, name: &str) {
        let ours = std::mem::replace(&mut self.table, name.to_owned());
        self.remove();
        self.table = ours;
    }

    /// One source out of the map of single sources, whichever chain it has there.
    pub(crate) fn without_source(&mut self, source: Ipv4Addr) {
        let mut hosts = Set::singles(Key::Address).map();
        hosts.single(&source.octets(), None);
        self.elements(DELETE_ELEMENTS, HOSTS, &hosts, hosts.elements.iter());
    }

    /// What the message that cannot succeed is about.
    pub(super) const NEVER: &str = "of no use";

    /// Ends in something the kernel must refuse, so that nothing of the batch takes effect.
    pub(super) fn never(&mut self) {
        self.push(DELETE_CHAIN, 0, ("chain", Self::NEVER), Attrs::new().text(3, Self::NEVER));
    }

    /// From one ruleset to another. What refers goes before what is referred to, and comes after it.
    pub(crate) fn change(&mut self, difference: &Difference<'_>) {
        for (name, set, elements) in &difference.elements_gone {
            self.elements(DELETE_ELEMENTS, name, set, elements.iter().copied());
        }
        for name in difference.chains_emptied.iter().chain(&difference.chains_gone) {
            self.push(DELETE_RULE, 0, ("rules of chain", name), Attrs::new().text(2, name));
        }
        for name in &difference.chains_gone {
            self.push(DELETE_CHAIN, 0, ("chain", name), Attrs::new().text(3, name));
        }
        for name in &difference.sets_gone {
            self.push(DELETE_SET, 0, ("set", name), Attrs::new().text(2, name));
        }
        for name in &difference.timeouts_gone {
            let attrs = Attrs::new().text(2, name).be32(3, TIMEOUT_OBJECT);
            self.push(DELETE_OBJECT, 0, ("time-outs", name), attrs);
        }
        for (name, chain) in &difference.chains_new {
            self.chain(NEW_CHAIN, name, chain);
        }
        for (name, timeouts) in &difference.timeouts_new {
            self.timeouts(NEW_OBJECT, name, timeouts);
        }
        for (name, set) in &difference.sets_new {
            self.set(NEW_SET, name, set);
        }
        for (name, set, elements) in &difference.elements_new {
            self.elements(NEW_ELEMENTS, name, set, elements.iter().copied());
        }
        for (name, chain) in difference.chains_filled.iter().chain(&difference.chains_new) {
            self.rules(name, chain);
        }
    }

    /// Ends the batch; the message before the end asks for the acknowledgement.
    pub(crate) fn finish(mut self) -> Finished {
        let last = self.about.len() as u32;
        // Flags are the two bytes after length and type.
        if let Some(flags) = self.bytes.get_mut(self.last_at + 6) {
            *flags |= ACK as u8;
        }
        self.frame(BATCH_END);
        Finished { bytes: self.bytes, messages: self.about.len(), last, about: self.about }
    }

    fn table(&mut self, kind: u16) {
        let flags = if kind == NEW_TABLE { CREATE } else { 0 };
        self.push(kind, flags, ("table", &self.table.clone()), Attrs::new());
    }

    fn chain(&mut self, kind: u16, name: &str, chain: &Chain) {
        let mut attrs = Attrs::new().text(3, name);
        if let Some(base) = &chain.base {
            let hook = Attrs::new().be32(1, base.hook as u32).be32(2, base.priority.cast_unsigned());
            attrs = attrs.nest(4, hook).text(7, base.kind);
        }
        self.push(kind, CREATE, ("chain", name), attrs);
    }

    fn rules(&mut self, name: &str, chain: &Chain) {
        for rule in &chain.rules {
            let list = rule.iter().flat_map(|expr| expr.encode()).fold(Attrs::new(), |list, expr| list.nest(1, expr));
            self.push(NEW_RULE, CREATE | APPEND, ("a rule of chain", name), Attrs::new().text(2, name).nest(4, list));
        }
    }

    fn timeouts(&mut self, kind: u16, name: &str, timeouts: &Timeouts) {
        let states = timeouts.states.iter().fold(Attrs::new(), |list, (state, seconds)| list.be32(*state, *seconds));
        let data = Attrs::new().bytes(1, &[0, FAMILY[0]]).bytes(2, &[timeouts.protocol]).nest(3, states);
        let attrs = Attrs::new().text(2, name).be32(3, TIMEOUT_OBJECT).nest(4, data);
        self.push(kind, CREATE, ("time-outs", name), attrs);
    }

    fn set(&mut self, kind: u16, name: &str, set: &Set) {
        let (datatype, length) = set.key.datatype();
        let flags = if set.interval { 4 } else { 0 } | if set.map { 8 } else { 0 };
        let mut attrs = Attrs::new().text(2, name).be32(3, flags).be32(4, datatype);
        attrs = attrs.be32(5, length).be32(10, self.next_set_id);
        if set.map {
            // NFT_DATA_VERDICT.
            attrs = attrs.be32(6, 0xffff_ff00);
        }
        if let Some(size) = set.size {
            // NFTA_SET_DESC with NFTA_SET_DESC_SIZE.
            attrs = attrs.nest(9, Attrs::new().be32(1, size));
        }
        if set.key == Key::Mark {
            // For the nft tool: type 0 (byte order of the key), 4 octets, 1 (host).
            attrs = attrs.bytes(13, &[&[0, 4][..], &1u32.to_ne_bytes()].concat());
        }
        self.next_set_id += 1;
        self.push(kind, CREATE, ("set", name), attrs);
    }

    fn elements<'a>(
        &mut self,
        kind: u16,
        name: &str,
        set: &Set,
        elements: impl Iterator<Item = (&'a Vec<u8>, &'a Element)>,
    ) {
        let mut list = Attrs::new();
        for (key, element) in elements {
            if list.len() > LIST_BYTES {
                self.element_list(kind, name, std::mem::take(&mut list));
            }
            let mut attrs = Attrs::new().nest(1, Attrs::new().bytes(1, key));
            if let Some(verdict) = &element.verdict {
                attrs = attrs.nest(2, verdict_data(verdict));
            }
            list = list.nest(1, attrs);
            if let Some(end) = element.end.as_ref().filter(|_| set.interval) {
                // NFT_SET_ELEM_INTERVAL_END.
                list = list.nest(1, Attrs::new().nest(1, Attrs::new().bytes(1, end)).be32(3, 1));
            }
        }
        if list.len() > 0 {
            self.element_list(kind, name, list);
        }
    }

    fn element_list(&mut self, kind: u16, name: &str, list: Attrs) {
        let flags = if kind == NEW_ELEMENTS { CREATE } else { 0 };
        self.push(kind, flags, ("elements of set", name), Attrs::new().text(2, name).nest(3, list));
    }

    /// Every message names its table first: attribute 1 in all of them.
    fn push(&mut self, kind: u16, flags: u16, about: (&'static str, &str), attrs: Attrs) {
        let table = Attrs::new().text(1, &self.table).into_bytes();
        let body = [&FAMILY[..], &table, &attrs.into_bytes()].concat();
        self.about.push((about.0, about.1.to_owned()));
        let number = self.about.len() as u32;
        self.last_at = self.bytes.len();
        self.bytes.extend_from_slice(&socket::message((SUBSYSTEM << 8) | kind, REQUEST | flags, number, &body));
    }

    fn frame(&mut self, kind: u16) {
        self.about.push(("batch", self.table.clone()));
        let number = self.about.len() as u32;
        self.bytes.extend_from_slice(&socket::message(kind, REQUEST, number, &[0, 0, 0, SUBSYSTEM as u8]));
    }
}
