//! A ruleset as one nfnetlink batch: either the whole table anew, or only elements that came and went.

use super::expr::verdict_data;
use super::ruleset::{Chain, Element, Key, Ruleset, Set, Timeouts};
use crate::netlink::attr::Attrs;
use crate::netlink::socket::{self, ACK, APPEND, CREATE, REQUEST};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
const NEW_OBJECT: u16 = 18;

/// Elements a message: an attribute holds 64 KiB at most.
const ELEMENTS_A_MESSAGE: usize = 512;

const FAMILY_IPV4: u8 = 2;

/// A batch under construction.
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// Messages, begin and end included.
    pub(crate) messages: usize,
    /// Messages that are acknowledged.
    pub(crate) acknowledged: usize,
    table: String,
    next_set_id: u32,
}

impl Batch {
    /// An empty batch for this table.
    pub(crate) fn new(table: &str) -> Self {
        let mut batch =
            Self { bytes: Vec::new(), messages: 0, acknowledged: 0, table: table.to_owned(), next_set_id: 1 };
        batch.raw(BATCH_BEGIN, REQUEST, &[0, 0, 0, SUBSYSTEM as u8]);
        batch
    }

    /// The table with everything in it, in place of what it was. First add, so that delete cannot fail.
    pub(crate) fn replace(&mut self, ruleset: &Ruleset) {
        self.remove();
        self.push(NEW_TABLE, CREATE, Attrs::new().text(1, &self.table.clone()));
        for chain in &ruleset.chains {
            self.chain(chain);
        }
        for timeouts in &ruleset.timeouts {
            self.timeouts(timeouts);
        }
        for (name, set) in &ruleset.sets {
            self.set(name, set);
            self.elements(NEW_ELEMENTS, CREATE, name, set, set.elements.iter());
        }
        for chain in &ruleset.chains {
            for rule in &chain.rules {
                let list = rule.iter().fold(Attrs::new(), |list, expr| list.nest(1, expr.encode()));
                let attrs = Attrs::new().text(1, &self.table.clone()).text(2, &chain.name).nest(4, list);
                self.push(NEW_RULE, CREATE | APPEND, attrs);
            }
        }
    }

    /// The table away, whether it is there or not.
    pub(crate) fn remove(&mut self) {
        self.push(NEW_TABLE, CREATE, Attrs::new().text(1, &self.table.clone()));
        self.push(DELETE_TABLE, 0, Attrs::new().text(1, &self.table.clone()));
    }

    /// Only what differs between two rulesets of the same structure. Elements removed and added.
    pub(crate) fn update(&mut self, old: &Ruleset, new: &Ruleset) -> (usize, usize) {
        let (mut removed, mut added) = (0, 0);
        for (name, set) in &new.sets {
            let Some(before) = old.sets.get(name) else { continue };
            let gone: Vec<_> = before.elements.iter().filter(|(key, e)| set.elements.get(*key) != Some(*e)).collect();
            let come: Vec<_> = set.elements.iter().filter(|(key, e)| before.elements.get(*key) != Some(*e)).collect();
            removed += gone.len();
            added += come.len();
            self.elements(DELETE_ELEMENTS, 0, name, set, gone.into_iter());
            self.elements(NEW_ELEMENTS, CREATE, name, set, come.into_iter());
        }
        (removed, added)
    }

    /// Ends the batch.
    pub(crate) fn finish(mut self) -> Self {
        self.raw(BATCH_END, REQUEST, &[0, 0, 0, SUBSYSTEM as u8]);
        self
    }

    fn chain(&mut self, chain: &Chain) {
        let mut attrs = Attrs::new().text(1, &self.table.clone()).text(3, &chain.name);
        if let Some(base) = &chain.base {
            attrs = attrs.nest(4, Attrs::new().be32(1, base.hook).be32(2, base.priority as u32)).text(7, base.kind);
        }
        self.push(NEW_CHAIN, CREATE, attrs);
    }

    fn timeouts(&mut self, timeouts: &Timeouts) {
        let states = timeouts.states.iter().fold(Attrs::new(), |list, (state, seconds)| list.be32(*state, *seconds));
        let data = Attrs::new().bytes(1, &u16::from(FAMILY_IPV4).to_be_bytes()).bytes(2, &[timeouts.protocol]);
        let attrs = Attrs::new().text(1, &self.table.clone()).text(2, &timeouts.name).be32(3, 7);
        self.push(NEW_OBJECT, CREATE, attrs.nest(4, data.nest(3, states)));
    }

    fn set(&mut self, name: &str, set: &Set) {
        // Types as the nft tool numbers them, so that it prints them rightly.
        let (kind, length) = match set.key {
            Key::Address => (7, 4),
            Key::Port => (13, 2),
            Key::Mark => (19, 4),
        };
        let flags = if set.interval { 4 } else { 0 } | if set.map { 8 } else { 0 };
        let mut attrs = Attrs::new().text(1, &self.table.clone()).text(2, name).be32(3, flags).be32(4, kind);
        attrs = attrs.be32(5, length).be32(10, self.next_set_id);
        if set.map {
            attrs = attrs.be32(6, 0xffff_ff00);
        }
        self.next_set_id += 1;
        self.push(NEW_SET, CREATE, attrs);
    }

    fn elements<'a>(
        &mut self,
        kind: u16,
        flags: u16,
        name: &str,
        set: &Set,
        elements: impl Iterator<Item = (&'a Vec<u8>, &'a Element)>,
    ) {
        let mut list = Vec::new();
        for (key, element) in elements {
            let mut attrs = Attrs::new().nest(1, Attrs::new().bytes(1, key));
            if let Some(verdict) = &element.verdict {
                attrs = attrs.nest(2, verdict_data(verdict));
            }
            list.push(attrs);
            if set.interval
                && let Some(end) = &element.end
            {
                list.push(Attrs::new().nest(1, Attrs::new().bytes(1, end)).be32(3, 1));
            }
        }
        for chunk in list.chunks(ELEMENTS_A_MESSAGE) {
            let inner = chunk.iter().fold(Attrs::new(), |list, element| list.nest(1, element.clone()));
            let attrs = Attrs::new().text(1, &self.table.clone()).text(2, name).nest(3, inner);
            self.push(kind, flags, attrs);
        }
    }

    fn push(&mut self, kind: u16, flags: u16, attrs: Attrs) {
        self.acknowledged += 1;
        let body = [&[FAMILY_IPV4, 0, 0, 0], &attrs.into_bytes()[..]].concat();
        self.raw((SUBSYSTEM << 8) | kind, REQUEST | ACK | flags, &body);
    }

    fn raw(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.messages += 1;
        let sequence = self.messages as u32;
        self.bytes.extend_from_slice(&socket::message(kind, flags, sequence, body));
    }
}
