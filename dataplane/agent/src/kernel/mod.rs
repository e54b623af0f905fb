//! Apply: puts a node configuration into the kernel, and takes it out again.
//!
//! ```text
//!  NodeConfig ─► tags ─► ruleset (pure) ─► diff (pure) ─► one nftables batch ─► Applied
//!  Options ────► links, rule, route, sysctls  ◄──────────────── Record (kept by the caller)
//! ```
//!
//! Everything here blocks, for milliseconds; none of it belongs on the packet path.

mod error;
mod options;
mod record;
mod setup;
mod sysctl;
mod tags;

use std::net::Ipv4Addr;

use callgate_proto::model::NodeConfig;

pub use error::Error;
pub use options::{MarkBits, OptionError, Options, PortRanges, TAG_BITS, parse_u32};
pub use record::{Keep, Record, SavedSysctl};
pub use tags::{LAST_TAG, SENT_TAG, TagKey, Tags, TagsExhausted, Via, via};

use crate::netlink::conntrack;
use crate::netlink::socket::Socket;
use crate::netlink::{NETFILTER, ROUTE};
use crate::nft::{Batch, Ruleset, ruleset};

/// What one apply did; all zero means that the kernel already was as wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Chains, rules or set definitions changed (and not only elements).
    pub structure_replaced: bool,
    /// Set and map elements added.
    pub elements_added: usize,
    /// Set and map elements removed.
    pub elements_removed: usize,
    /// Netlink messages sent, batch begin and end included.
    pub messages_sent: usize,
    /// Their length, bytes.
    pub bytes: usize,
}

/// The node's kernel, as far as it is ours.
pub struct Kernel {
    options: Options,
    record: Record,
    keep: Keep,
    route: Socket,
    netfilter: Socket,
    /// What is in force; `None` before the first `apply`, when nothing is known.
    running: Option<Ruleset>,
    config: NodeConfig,
}

impl Kernel {
    /// Checks rights and options, adopts what a previous run left (or makes it anew), and readies links and routes.
    /// No rule is in force before the first `apply`. `record` is what `keep` saved last in this boot, if anything.
    pub fn start(options: Options, record: Option<Record>, mut keep: Keep) -> Result<Self, Error> {
        permitted()?;
        options.validate(setup::local_ports()?)?;
        let mut route = Socket::open(ROUTE).map_err(Error::netlink("opening a route netlink socket"))?;
        let netfilter = Socket::open(NETFILTER).map_err(Error::netlink("opening a netfilter netlink socket"))?;
        let mut record = record.unwrap_or_default();
        setup::up(&mut route, &options, &mut record, &mut keep)?;
        Ok(Self { options, record, keep, route, netfilter, running: None, config: NodeConfig::default() })
    }

    /// Brings the ruleset to `config`, with `own_addresses` (external addresses the ALG uses) kept from the kernel's own
    /// TCP and GRE. Flows of rules that are gone are deleted from conntrack. On an error the ruleset is as before.
    pub fn apply(&mut self, config: &NodeConfig, own_addresses: &[Ipv4Addr]) -> Result<Applied, Error> {
        let tags = self.record.tags.assign(config)?;
        if tags != self.record.tags {
            let next = Record { tags, ..self.record.clone() };
            (self.keep)(&next).map_err(Error::Record)?;
            self.record = next;
        }
        let wanted = ruleset(config, own_addresses, &self.record.tags, &self.options);
        let applied = self.bring(wanted)?;
        self.config = config.clone();
        self.flush_retired()?;
        Ok(applied)
    }

    /// Changes only the set of external addresses of the ALG; for the moment before a connection is opened from a new one.
    pub fn set_own_addresses(&mut self, own_addresses: &[Ipv4Addr]) -> Result<Applied, Error> {
        let wanted = ruleset(&self.config, own_addresses, &self.record.tags, &self.options);
        self.bring(wanted)
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
        let mut errors = Vec::new();
        let mut batch = Batch::new(&self.options.nft_table);
        batch.remove();
        errors.extend(self.commit(batch).err());
        let tags: Vec<u16> = self.record.tags.live().map(|(_, tag)| tag).chain([SENT_TAG]).collect();
        errors.extend(tags.into_iter().filter_map(|tag| self.flush(tag).err()));
        errors.extend(setup::down(&mut self.route, &self.options, &self.record));
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several(errors)),
        }
    }

    /// From what is in force to `wanted`, in one transaction.
    fn bring(&mut self, wanted: Ruleset) -> Result<Applied, Error> {
        let mut batch = Batch::new(&self.options.nft_table);
        let mut applied = Applied::default();
        match &self.running {
            Some(running) if *running == wanted => return Ok(applied),
            Some(running) if running.same_structure(&wanted) => {
                (applied.elements_removed, applied.elements_added) = batch.update(running, &wanted);
            }
            Some(_) | None => {
                applied.structure_replaced = true;
                applied.elements_added = wanted.sets.values().map(|set| set.elements.len()).sum();
                batch.replace(&wanted);
            }
        }
        let sent = self.commit(batch)?;
        (applied.messages_sent, applied.bytes) = sent;
        self.running = Some(wanted);
        Ok(applied)
    }

    /// Sends a batch; messages and bytes of it.
    fn commit(&mut self, batch: Batch) -> Result<(usize, usize), Error> {
        let batch = batch.finish();
        let what = format!("changing nftables table ip {}", self.options.nft_table);
        self.netfilter.batch(&batch.bytes, batch.acknowledged).map_err(Error::netlink(what))?;
        Ok((batch.messages, batch.bytes.len()))
    }

    /// Ends the flows of rules that are gone; afterwards their tags are free again.
    fn flush_retired(&mut self) -> Result<(), Error> {
        let retired: Vec<u16> = self.record.tags.retired().collect();
        if retired.is_empty() {
            return Ok(());
        }
        for tag in retired {
            self.flush(tag)?;
        }
        let next = Record { tags: self.record.tags.flushed(), ..self.record.clone() };
        (self.keep)(&next).map_err(Error::Record)?;
        self.record = next;
        Ok(())
    }

    fn flush(&mut self, tag: u16) -> Result<(), Error> {
        conntrack::flush_mark(&mut self.netfilter, self.options.tag_mark(tag), self.options.tag_mask)
            .map_err(Error::netlink(format!("deleting the flows with tag {tag} from conntrack")))
    }
}

/// Only root changes a network; everything after this would fail with less helpful words.
fn permitted() -> Result<(), Error> {
    let user = nix::unistd::geteuid();
    if user.is_root() { Ok(()) } else { Err(Error::Privilege(format!("running as user {user}"))) }
}
