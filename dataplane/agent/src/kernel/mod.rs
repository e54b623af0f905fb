//! Apply: puts a node configuration into the kernel, and takes it out again.
//!
//! ```text
//!  NodeConfig ─► tags ─► ruleset (pure) ─► diff (pure) ─► one nftables batch ─► Applied
//!  Options ────► links, rules, route, sysctls  ◄─────────────── Record (kept by the caller)
//! ```
//!
//! Everything here blocks, for milliseconds; none of it belongs on the packet path. A `Kernel` works in the network namespace
//! of the thread that started it, as far as netlink goes, and of the calling thread for /proc/sys: call it from one thread.

mod counters;
mod error;
mod features;
mod flush;
mod options;
mod peers;
mod privileges;
mod record;
mod setup;
mod sysctl;
mod tags;
mod transaction;
mod withdrawal;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_proto::model::{NodeConfig, PortRange};
use ipnet::Ipv4Net;

pub use counters::{Counters, FlowCount};
pub use error::Error;
pub use features::release;
pub use options::{MarkBits, OptionError, Options, PortRanges, TAG_BITS, parse_u32};
pub use peers::Peers;
pub use privileges::permitted;
pub use record::{Keep, Record, SavedSysctl};
pub use tags::{LAST_TAG, SENT_TAG, TagKey, Tags, TagsExhausted, Via, via};
pub use transaction::Applied;
pub(crate) use withdrawal::Withdrawal;

use crate::netlink::rt::Rt;
use crate::netlink::socket::Socket;
use crate::netlink::{NETFILTER, conntrack};
use crate::nft::{self, Batch, Live, Ruleset, Uses, ruleset};

/// The node's kernel, as far as it is ours.
pub struct Kernel {
    options: Options,
    record: Record,
    keep: Keep,
    route: Rt,
    netfilter: Socket,
    /// What is in force; `None` before the first `apply`, when nothing is known.
    running: Option<Ruleset>,
    config: NodeConfig,
    /// There was an `apply`: `config` is what is wanted, whatever `running` says.
    applied: bool,
    /// The most of the ALG's way that was needed since the ALG last had nothing to do: its connections may outlive their rule.
    uses: Uses,
    /// Ends of the ALG's connections beside the rules, as it said last.
    peers: Peers,
    /// Ends of the connections that the ALG of a previous run had; `None` once this one's ALG has said which it has.
    inherited: Option<Live>,
}

impl Kernel {
    /// Checks rights and options, adopts what a previous run left (or makes it anew), and readies links and routes. No rule is
    /// in force before the first `apply`, unless a previous run left it. `record` is what `keep` saved last in this boot, if
    /// anything; without it tables and tagged flows of a previous run are removed. With other options than before, everything
    /// under the old names is removed first.
    ///
    /// # Errors
    /// `Privilege`, `Options`, `Foreign` (our names are taken), `Netlink`, `Sysctl`, `Record`. What this start made until then is
    /// taken away again, unless a previous run left something: that stays, for the next start.
    pub fn start(options: Options, record: Option<Record>, keep: Keep) -> Result<Self, Error> {
        permitted()?;
        options.validate(setup::local_ports()?)?;
        let route = Rt::open().map_err(Error::netlink("opening a route netlink socket"))?;
        let netfilter = Socket::open(NETFILTER).map_err(Error::netlink("opening a netfilter netlink socket"))?;
        let record = record.unwrap_or_default();
        let first = record.options.is_none();
        let mut kernel = Self::idle(options, record, keep, (route, netfilter));
        match kernel.begin() {
            Ok(()) => Ok(kernel),
            Err(error) if first => {
                // `setup` has undone what it made; tables there were none. Only the record is left, if it can be written.
                let _ = (kernel.keep)(&Record::default());
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes what an agent that has ended left, and restores sysctls: what `record` says is there, and without one whatever goes
    /// by the names in `options`. Carries on after errors and returns all.
    ///
    /// # Errors
    /// `Privilege`, `Netlink`, `Sysctl`, `Record`.
    pub fn clean(options: Options, record: Option<Record>, keep: Keep) -> Result<(), Error> {
        permitted()?;
        let route = Rt::open().map_err(Error::netlink("opening a route netlink socket"))?;
        let netfilter = Socket::open(NETFILTER).map_err(Error::netlink("opening a netfilter netlink socket"))?;
        let record = record.unwrap_or_default();
        let options = record.options.clone().unwrap_or(options);
        Self::idle(options, record, keep, (route, netfilter)).stop()
    }

    /// Nothing is put into the kernel yet.
    fn idle(options: Options, record: Record, keep: Keep, (route, netfilter): (Rt, Socket)) -> Self {
        Self {
            options,
            record,
            keep,
            route,
            netfilter,
            running: None,
            config: NodeConfig::default(),
            applied: false,
            uses: Uses::default(),
            peers: Peers::default(),
            inherited: Some(Live::default()),
        }
    }

    /// Puts links, route and rules back that somebody has taken away; true if there was something to put back. Until then the
    /// table drops what was to take them.
    ///
    /// # Errors
    /// As `start`; what can be put back is.
    pub fn mend(&mut self) -> Result<bool, Error> {
        let mut made = setup::Made::default();
        setup::up(&self.route, &self.options, &mut self.record, &mut self.keep, &mut made, self.uses)?;
        Ok(made.any())
    }

    /// Deletes our flows of these sources from conntrack: whoever has the address now begins anew.
    ///
    /// # Errors
    /// When the kernel refuses to list or delete.
    pub fn forget_sources(&mut self, sources: &BTreeSet<Ipv4Addr>) -> Result<(), Error> {
        withdrawal::forget(&mut self.netfilter, sources, self.options.tag_mask)
    }

    /// No rule judges what comes from these addresses, until the next `apply` of a configuration that has them.
    ///
    /// # Errors
    /// What the kernel refuses, but not that there is nothing to take away.
    pub(crate) fn withdraw(&mut self, sources: &BTreeSet<Ipv4Addr>) -> Result<(), Error> {
        withdrawal::take_out(&mut self.netfilter, &self.options.nft_table, sources)?;
        if let Some(hosts) = self.running.as_mut().and_then(|running| running.sets.get_mut(nft::HOSTS)) {
            for source in sources {
                hosts.elements.remove(&source.octets()[..]);
            }
        }
        Ok(())
    }

    /// What this kernel has of what Callgate uses, and what it costs where it lacks something; sorted by name.
    pub fn features(&mut self) -> Vec<callgate_proto::pb::Feature> {
        features::find(&mut self.netfilter, &self.options)
    }

    /// Leftovers first, then what is ours.
    fn begin(&mut self) -> Result<(), Error> {
        let known = self.record.options.clone();
        if let Some(old) = known.as_ref().filter(|old| **old != self.options) {
            collected(self.remove_all(old))?;
            self.save(Record::default())?;
        }
        if known.as_ref() != Some(&self.options) {
            let (options, all) = (self.options.clone(), (1..=SENT_TAG).collect());
            self.remove_table(&options)?;
            self.flush(&options, &all, &BTreeSet::new())?;
            self.save(Record { options: Some(options), ..self.record.clone() })?;
        }
        let left = nft::live(&mut self.netfilter, &self.options.nft_table);
        self.inherited = Some(left.map_err(Error::netlink("reading the ends of the ALG's connections back"))?);
        let mut made = setup::Made::default();
        let up = setup::up(&self.route, &self.options, &mut self.record, &mut self.keep, &mut made, self.uses);
        if up.is_err() && known.is_none() {
            made.undo(&self.route, &self.options, &self.record);
        }
        up
    }

    /// Brings the ruleset to `config`, with `own_addresses` (external addresses the ALG uses) kept from the kernel's own
    /// TCP and GRE. Flows of rules that are gone are deleted from conntrack before their tags can be given again.
    ///
    /// Addresses a previous run left in the kernel stay too, and where its servers were, until the first `set_own_addresses`: its
    /// connections are alive, and the kernel would reset them. Where neither a rule nor a connection has a use for the ALG any more, its way goes.
    ///
    /// # Errors
    /// On `Tags`, `Unsupported`, and where the kernel refuses the batch, the ruleset and the record are as before. When only
    /// deleting flows failed, the new ruleset is in force, packets of those flows are dropped, and the next apply tries again.
    pub fn apply(&mut self, config: &NodeConfig, own_addresses: &[Ipv4Addr]) -> Result<Applied, Error> {
        let before = self.record.clone();
        let tags = self.record.tags.assign(config)?;
        let live = self.live(own_addresses);
        let needed = Uses::of(config, &tags, &live);
        self.ready_for(needed)?;
        if tags != before.tags {
            self.save(Record { tags, ..before.clone() })?;
        }
        let wanted = ruleset(config, &live, &self.record.tags, &self.options, self.uses);
        let mut applied = match self.bring(wanted, config) {
            Ok(applied) => applied,
            Err(error) => {
                // Tags of the new configuration are in no packet; those of the old one are still in use.
                self.save(before)?;
                return Err(error);
            }
        };
        self.config = config.clone();
        if !std::mem::replace(&mut self.applied, true) {
            setup::spare(&self.route, &self.options, self.uses)?;
        }
        let retired: BTreeSet<u16> = self.record.tags.retired().collect();
        if !retired.is_empty() {
            let kept = self.record.tags.live().map(|(_, tag)| tag).chain([SENT_TAG]).collect();
            self.flush(&self.options.clone(), &retired, &kept)?;
            // Rules for which there was no number until now get theirs.
            let tags = self.record.tags.flushed().assign(config)?;
            self.save(Record { tags, ..self.record.clone() })?;
            let wanted = ruleset(config, &live, &self.record.tags, &self.options, self.uses);
            applied += self.bring(wanted, config)?;
        }
        applied += self.rest(needed)?;
        Ok(applied)
    }

    /// Ends of all connections that may be alive.
    fn live(&self, own_addresses: &[Ipv4Addr]) -> Live {
        let mut live = self.inherited.clone().unwrap_or_default();
        live.own.extend(own_addresses);
        live.clients.extend(&self.peers.clients);
        live.servers.extend(self.peers.servers.iter().copied().map(Ipv4Net::from));
        live.ports.extend(self.peers.ports.iter().map(|port| PortRange { first: *port, last: *port }));
        live
    }

    /// There are connections of the shared mode from the run before: segments of theirs reach their sockets whatever the first
    /// configuration says.
    pub(crate) fn keep_sockets(&mut self) {
        self.uses = Uses::Sockets;
    }

    /// What a steered packet needs is there before any rule that steers.
    fn ready_for(&mut self, needed: Uses) -> Result<(), Error> {
        let before = self.uses;
        if needed <= before {
            return Ok(());
        }
        self.uses = needed;
        self.mend().map(drop).inspect_err(|_| self.uses = before)
    }

    /// Takes the ALG's way out of every packet's, if nothing is `needed` of it: chains first, so that nothing is steered into
    /// nowhere.
    fn rest(&mut self, needed: Uses) -> Result<Applied, Error> {
        // An ALG that has not spoken yet may have connections whatever the table says.
        if needed > Uses::Ordinary || self.uses == Uses::Ordinary || self.inherited.is_some() {
            return Ok(Applied::default());
        }
        // What pods say on connections that the ALG began would pass by this tag from now on.
        let live = self.record.tags.live().map(|(_, tag)| tag).collect();
        self.flush(&self.options.clone(), &BTreeSet::from([SENT_TAG]), &live)?;
        let before = std::mem::replace(&mut self.uses, needed);
        let wanted = ruleset(&self.config, &Live::default(), &self.record.tags, &self.options, needed);
        let applied = self.bring(wanted, &NodeConfig::default()).inspect_err(|_| self.uses = before)?;
        setup::spare(&self.route, &self.options, needed)?;
        Ok(applied)
    }

    /// Changes only the set of external addresses of the ALG and those of its `peers`: for the moment before a connection is opened
    /// from a new address, for the one when it has none left, and before rules change. Connections between `peers` live on whatever
    /// the rules say of them, until they are set anew. Where somebody has changed or removed the
    /// table, it is made anew. Before the first `apply` nothing is done.
    pub fn set_own_addresses(&mut self, own_addresses: &[Ipv4Addr], peers: &Peers) -> Result<Applied, Error> {
        let before = std::mem::replace(&mut self.peers, peers.clone());
        self.inherited = None;
        self.keep_off(own_addresses).inspect_err(|_| self.peers = before)
    }

    /// The kernel's own TCP and GRE are kept off these addresses.
    fn keep_off(&mut self, own_addresses: &[Ipv4Addr]) -> Result<Applied, Error> {
        if !self.applied {
            return Ok(Applied::default());
        }
        let (uses, live) = (self.uses, self.live(own_addresses));
        let needed = Uses::of(&self.config, &self.record.tags, &live);
        self.ready_for(needed)?;
        let mut wanted = match &self.running {
            Some(running) if self.uses == uses => running.clone(),
            Some(_) | None => ruleset(&self.config, &live, &self.record.tags, &self.options, self.uses),
        };
        wanted.sets.extend(nft::alg_sets(&self.config, &live).map(|(name, set)| (name.to_owned(), set)));
        let mut applied = self.bring(wanted, &NodeConfig::default())?;
        applied += self.rest(needed)?;
        Ok(applied)
    }

    /// Whether the table is still as we left it. If somebody removed or changed it (`nft flush ruleset`), the next `apply`
    /// makes it anew. Before the first `apply` there is nothing that could be otherwise.
    pub fn intact(&mut self) -> Result<bool, Error> {
        let Some(running) = &self.running else { return Ok(!self.applied) };
        let found = nft::adopt(&mut self.netfilter, &self.options.nft_table, running);
        let intact = found.map_err(Error::netlink("reading the nftables table back"))?.as_ref() == Some(running);
        if !intact {
            self.running = None;
        }
        Ok(intact)
    }

    /// What was counted since the chains that count were made.
    pub fn counters(&mut self) -> Result<Counters, Error> {
        let counted = nft::counters(&mut self.netfilter, &self.options.nft_table, None);
        Ok(counters::read(&counted.map_err(Error::netlink("reading nftables counters"))?, &self.config))
    }

    /// Those of them that are about the ALG alone: few, whatever the number of rules, so for whoever asks all the time.
    pub fn alg_counters(&mut self) -> Result<Counters, Error> {
        let mut counted = std::collections::BTreeMap::new();
        for chain in counters::OF_THE_ALG {
            let found = nft::counters(&mut self.netfilter, &self.options.nft_table, Some(chain));
            counted.extend(found.map_err(Error::netlink("reading nftables counters"))?);
        }
        Ok(counters::read(&counted, &NodeConfig::default()))
    }

    /// The numbers in use.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What `Keep` was given last.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Removes everything of ours, deletes tagged flows and restores sysctls. Carries on after errors and returns all.
    /// (To leave everything in place for the next start, drop the `Kernel`.)
    pub fn stop(mut self) -> Result<(), Error> {
        let options = self.options.clone();
        collected(self.remove_all(&options))?;
        self.save(Record::default())
    }

    /// Everything under these names away.
    fn remove_all(&mut self, options: &Options) -> Vec<Error> {
        let mut errors = Vec::new();
        errors.extend(self.remove_table(options).err());
        errors.extend(self.flush(options, &(1..=SENT_TAG).collect(), &BTreeSet::new()).err());
        errors.extend(setup::down(&self.route, options, &self.record));
        errors
    }

    fn remove_table(&mut self, options: &Options) -> Result<(), Error> {
        let what = || Error::netlink(format!("looking for nftables table ip {}", options.nft_table));
        if !nft::exists(&mut self.netfilter, &options.nft_table).map_err(what())? {
            return Ok(());
        }
        let mut batch = Batch::new(&options.nft_table);
        batch.remove();
        transaction::commit(&mut self.netfilter, batch.finish(), &options.nft_table, &self.config)
    }

    /// From what is in force to `wanted`, in one transaction. Where the kernel refuses it because it is not as we left it (a source
    /// was withdrawn meanwhile), once more from what there is. Objects of `config` are blamed for what it refuses.
    fn bring(&mut self, wanted: Ruleset, config: &NodeConfig) -> Result<Applied, Error> {
        let before = match self.running.take() {
            Some(running) => Some(running),
            None => self.adopted(&wanted)?,
        };
        let table = &self.options.nft_table;
        let applied = match transaction::bring(&mut self.netfilter, table, before.as_ref(), &wanted, config) {
            Ok(applied) => applied,
            Err(error) => {
                let Some(before) = before else { return Err(error) };
                let found = self.adopted(&before)?;
                if found.as_ref() == Some(&before) {
                    self.running = found;
                    return Err(error);
                }
                transaction::bring(&mut self.netfilter, &self.options.nft_table, found.as_ref(), &wanted, config)?
            }
        };
        self.running = Some(wanted);
        Ok(applied)
    }

    fn adopted(&mut self, wanted: &Ruleset) -> Result<Option<Ruleset>, Error> {
        let found = nft::adopt(&mut self.netfilter, &self.options.nft_table, wanted);
        found.map_err(Error::netlink("reading the nftables table back"))
    }

    /// Deletes the flows of tags that are gone.
    fn flush(&mut self, options: &Options, gone: &BTreeSet<u16>, live: &BTreeSet<u16>) -> Result<(), Error> {
        for (first, length) in flush::blocks(gone, live) {
            let mask = options.tag_mask & !(options.tag_mask >> length);
            conntrack::flush_mark(&mut self.netfilter, options.tag_mark(first), mask)
                .map_err(Error::netlink("deleting the flows of rules that are gone from conntrack"))?;
        }
        Ok(())
    }

    fn save(&mut self, record: Record) -> Result<(), Error> {
        (self.keep)(&record).map_err(Error::Record)?;
        self.record = record;
        Ok(())
    }
}

fn collected(mut errors: Vec<Error>) -> Result<(), Error> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Several(errors)),
    }
}
