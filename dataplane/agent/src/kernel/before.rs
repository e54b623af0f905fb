//! What a run before has under other names and numbers, or nobody remembers: it judges packets until the first commit takes its place,
//! then it goes.

use std::collections::BTreeSet;

use super::{Error, Kernel, LAST_TAG, Options, Record, SENT_TAG, Tags, collected, setup};
use crate::nft::{self, Live};

impl Kernel {
    /// Takes over what there is, whatever it is called. What judges packets is not touched: without it pods' packets would leave
    /// untranslated or past a rule that drops them, and the node's TCP would reset the ALG's connections.
    pub(super) fn inherit(&mut self) -> Result<(), Error> {
        let known = self.record.options.clone();
        let mut before = self.record.before.clone();
        before.extend(known.clone());
        before.retain(|old| *old != self.options);
        let reads = |old: &Options| old.tag_mask == self.options.tag_mask;
        let (readable, strange) = before.into_iter().partition::<Vec<_>, _>(reads);
        // Tags under other bits would be taken for others. (Options allow one mask; another version might another.)
        let mut errors: Vec<Error> = strange.iter().flat_map(|old| self.remove_all(old)).collect();
        // What cannot be there beside what is to come; the table of before drops meanwhile what it steers.
        for old in readable.iter().filter(|old| !apart(old, &self.options)) {
            errors.extend(setup::down(&self.route, old));
        }
        collected(errors)?;
        let remembered = known.is_some() && strange.is_empty();
        let before = Record { before: readable, ..self.record.clone() };
        (self.left, self.inherited) = (self.has_table(&before)?, Some(self.ends(&before)?));
        if known.as_ref() == Some(&self.options) && before == self.record {
            return Ok(());
        }
        let tags = if remembered { self.record.tags.clone() } else { self.forgotten()? };
        if !remembered && !self.left {
            self.flush(&self.options.clone(), &(1..=SENT_TAG).collect(), &BTreeSet::new())?;
        }
        self.save(Record { options: Some(self.options.clone()), tags, ..before })
    }

    /// Behind the first commit: links, rules and routes that nothing leads to any more go.
    pub(super) fn succeed(&mut self) -> Result<(), Error> {
        if self.record.before.is_empty() {
            return Ok(());
        }
        for old in self.record.before.iter().filter(|old| apart(old, &self.options)) {
            setup::retire(&self.route, old, &self.options)?;
        }
        self.save(Record { before: Vec::new(), ..self.record.clone() })
    }

    /// Tables of the run before that go with the first commit.
    pub(super) fn tables_before(&self) -> Vec<String> {
        let names = self.record.before.iter().map(|old| &old.nft_table);
        let names: BTreeSet<&String> = names.filter(|name| **name != self.options.nft_table).collect();
        names.into_iter().cloned().collect()
    }

    /// Whether a table of ours is there, be it of a run before.
    pub(super) fn has_table(&mut self, record: &Record) -> Result<bool, Error> {
        for table in tables(&self.options, record) {
            let found = nft::exists(&mut self.netfilter, &table);
            if found.map_err(Error::netlink(format!("looking for nftables table ip {table}")))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends of the connections that the ALG of the run before had.
    fn ends(&mut self, record: &Record) -> Result<Live, Error> {
        let mut all = Live::default();
        for table in tables(&self.options, record) {
            let live = nft::live(&mut self.netfilter, &table);
            all += live.map_err(Error::netlink("reading the ends of the ALG's connections back"))?;
        }
        Ok(all)
    }

    /// Tags whose rules nobody remembers: their flows are dropped from the first commit on until they are deleted, and no new flow is
    /// taken for one of theirs.
    fn forgotten(&mut self) -> Result<Tags, Error> {
        let marks = nft::marks(&mut self.netfilter, &self.options.nft_table);
        let marks = marks.map_err(Error::netlink("reading connection tags back"))?;
        let (mask, shift) = (self.options.tag_mask, self.options.tag_mask.trailing_zeros());
        let tags = marks.into_iter().filter_map(|mark| u16::try_from((mark & mask) >> shift).ok());
        Ok(Tags::forgotten(tags.filter(|tag| (1..=LAST_TAG).contains(tag))))
    }
}

/// Every table that may be ours.
fn tables(options: &Options, record: &Record) -> BTreeSet<String> {
    record.before.iter().chain([options]).map(|options| options.nft_table.clone()).collect()
}

/// Whether links, routes and marks of the two can be there at the same time.
fn apart(old: &Options, new: &Options) -> bool {
    let links = |options: &Options| [options.steer_link.clone(), options.tap_link.clone()];
    let routes = |options: &Options| [options.route_table, options.inward_table()];
    let marks = old.steer.mask & new.sent.mask == 0 && old.sent.mask & new.steer.mask == 0;
    let (other_links, other_routes) = (links(old) != links(new), routes(old) != routes(new));
    let links_meet = links(old).iter().any(|link| links(new).contains(link));
    let routes_meet = routes(old).iter().any(|table| routes(new).contains(table));
    // A routing table has one default route, into one link.
    marks && !(other_links && (links_meet || routes_meet)) && !(other_routes && routes_meet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_meets_what_is_to_come_is_not_apart_from_it() {
        let new = Options::default();
        let with = |change: fn(&mut Options)| {
            let mut old = Options::default();
            change(&mut old);
            apart(&old, &new)
        };
        let found = [
            with(|old| old.rule_priority = 7411),
            with(|old| old.nft_table = "other".into()),
            with(|old| old.route_table = 7000),
            with(|old| old.steer = "0x800000/0x800000".parse().unwrap()),
            with(|old| (old.steer_link, old.tap_link, old.route_table) = ("a".into(), "b".into(), 7000)),
        ];
        assert_eq!(found, [true; 5]);
        let met = [
            with(|old| (old.steer_link, old.tap_link) = ("a".into(), "b".into())),
            with(|old| old.steer_link = "a".into()),
            with(|old| std::mem::swap(&mut old.steer_link, &mut old.tap_link)),
            with(|old| old.route_table = 7412),
            with(|old| std::mem::swap(&mut old.steer, &mut old.sent)),
        ];
        assert_eq!(met, [false; 5]);
    }
}
