//! Puts a node configuration into the kernel, and takes it out again.
//!
//! ```text
//!  NodeConfig ─► tags ─► ruleset (pure) ─► diff (pure) ─► one nftables batch ─► Applied
//!  Options ────► links, rules, route, sysctls  ◄─────────────── Record (kept by the caller)
//! ```
//!
//! Everything here blocks, for milliseconds; none of it belongs on the packet path. A `Kernel` works in the network namespace
//! of the thread that started it, as far as netlink goes, and of the calling thread for /proc/sys: call it from one thread.

mod before;
mod counters;
mod error;
mod features;
mod flush;
mod options;
mod peers;
mod privileges;
mod record;
mod rules;
mod setup;
mod sysctl;
mod tags;
mod transaction;
mod withdrawal;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_proto::Optional;
use callgate_proto::model::NodeConfig;

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
use crate::nft::{self, Batch, Live, Ruleset, Uses};

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
    /// There was a `commit`: `config` is what is in force, or has to be again, whatever `running` says.
    applied: bool,
    /// A run before left a table.
    left: bool,
    /// Routing rules and routes of no use have gone.
    spared: bool,
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
    /// anything. What a previous run left stays in force until the first `commit` takes its place, whatever its options were, and
    /// also where there is no `record` of it; then what is only its own goes, and flows of rules that nobody remembers.
    /// External ports that the host's own connections have come to use are refused, but where the run before had them too: a sysctl that
    /// somebody has changed since ends nothing.
    ///
    /// # Errors
    /// `Privilege`, `Options`, `Foreign` (our names are taken), `Netlink`, `Sysctl`, `Record`. What this start made until then is
    /// taken away again, unless a previous run left something: that stays, for the next start.
    pub fn start(options: Options, record: Option<Record>, keep: Keep) -> Result<Self, Error> {
        permitted()?;
        options.validate()?;
        let same = record.as_ref().is_some_and(|record| record.options.as_ref() == Some(&options));
        match options.keep_off(&setup::local_ports()?) {
            Err(overlap) if same => tracing::warn!(
                "{overlap}; it goes on as the run before did: a connection of the host from one of these ports to a PPTP server may \
                 fail, or get what is for a client"
            ),
            checked => checked?,
        }
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
            left: false,
            spared: false,
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

    /// What this kernel has of what Callgate uses, and what it costs where it lacks something, or is taken to be `without` it; sorted
    /// by name.
    pub fn features(&mut self, without: &BTreeSet<Optional>) -> Vec<callgate_proto::pb::Feature> {
        features::find(&mut self.netfilter, &self.options, without)
    }

    /// What there is first, then what is ours.
    fn begin(&mut self) -> Result<(), Error> {
        let first = self.record.options.is_none();
        self.inherit()?;
        let mut made = setup::Made::default();
        let up = setup::up(&self.route, &self.options, &mut self.record, &mut self.keep, &mut made, self.uses);
        if up.is_err() && first {
            made.undo(&self.route, &self.options, &self.record);
        }
        up
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

    /// Packets that were to be steered to the ALG, were routed elsewhere and dropped.
    pub(crate) fn steered_dropped(&mut self) -> Result<u64, Error> {
        let counted = nft::counters(&mut self.netfilter, &self.options.nft_table, Some(counters::ASTRAY));
        let counted = counted.map_err(Error::netlink("reading nftables counters"))?;
        Ok(counters::read(&counted, &NodeConfig::default()).astray)
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
        let all: Vec<Options> = self.record.before.iter().chain([&self.options]).cloned().collect();
        let mut errors: Vec<Error> = all.iter().flat_map(|options| self.remove_all(options)).collect();
        errors.extend(sysctl::restore(&self.record));
        collected(errors)?;
        self.save(Record::default())
    }

    /// Everything under these names away.
    fn remove_all(&mut self, options: &Options) -> Vec<Error> {
        let mut errors = Vec::new();
        errors.extend(self.remove_table(options).err());
        errors.extend(self.flush(options, &(1..=SENT_TAG).collect(), &BTreeSet::new()).err());
        errors.extend(setup::down(&self.route, options));
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
