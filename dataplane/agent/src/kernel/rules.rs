//! Brings the table to a configuration, keeps it so, and lets the connections of the ALG live beside it.
//!
//! ```text
//!  apply = commit (in force, or refused and as before) + settle (flows of rules that are gone end, what is of no use goes)
//! ```

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_proto::model::{NodeConfig, PortRange};
use ipnet::Ipv4Net;

use super::{Applied, Error, Kernel, Peers, Record, SENT_TAG, Tags, setup, transaction, withdrawal};
use crate::nft::{self, Live, Ruleset, Uses, ruleset};

impl Kernel {
    /// Brings the ruleset to `config`, with `own_addresses` (external addresses the ALG uses) kept from the kernel's own
    /// TCP and GRE. Flows of rules that are gone are deleted from conntrack before their tags can be given again.
    ///
    /// # Errors
    /// As `commit`, then everything is as before; as `settle`, then `config` is in force.
    pub fn apply(&mut self, config: &NodeConfig, own_addresses: &[Ipv4Addr]) -> Result<Applied, Error> {
        let mut applied = self.commit(config, own_addresses)?;
        applied += self.settle(own_addresses)?;
        Ok(applied)
    }

    /// Puts `config` into force. Flows of rules that are gone are dropped from now on, and exist until `settle`.
    ///
    /// Addresses a previous run left in the kernel stay, and where its servers were, until the first `set_own_addresses`: its
    /// connections are alive, and the kernel would reset them.
    ///
    /// # Errors
    /// On `Tags`, `Unsupported`, and where the kernel refuses the batch or the disk the record: the rules in force and the record are as
    /// before. Whether the table still is as it was, `put_back` sees to.
    pub fn commit(&mut self, config: &NodeConfig, own_addresses: &[Ipv4Addr]) -> Result<Applied, Error> {
        let tags = self.record.tags.assign(config)?;
        let live = self.live(own_addresses);
        let before = self.uses;
        self.ready_for(Uses::of(config, &tags, &live))?;
        self.replace(config, tags, &live).map_err(|error| error.joined(self.unready(before)))
    }

    /// The rules of `config` in place of those in force, with everything ready for them.
    fn replace(&mut self, config: &NodeConfig, tags: Tags, live: &Live) -> Result<Applied, Error> {
        let before = self.record.tags.clone();
        if tags != before {
            self.save(Record { tags, ..self.record.clone() })?;
        }
        let wanted = ruleset(config, live, &self.record.tags, &self.options, self.uses);
        match self.bring(wanted, config) {
            Ok(applied) => {
                (self.config, self.applied) = (config.clone(), true);
                Ok(applied)
            }
            Err(error) => {
                // Tags of the new configuration are in no packet; those of the old one are still in use. So it is here even if
                // the disk does not take it.
                let record = Record { tags: before, ..self.record.clone() };
                let saved = (self.keep)(&record).map_err(Error::Record);
                self.record = record;
                Err(error.joined(saved.err()))
            }
        }
    }

    /// What is left to do behind a `commit`: flows of rules that are gone are deleted, rules that waited for their numbers get them,
    /// and where neither a rule nor a connection has a use for the ALG any more, its way goes. Nothing of it is done twice.
    ///
    /// # Errors
    /// When the kernel or the disk refuses something: what is in force is so all the same, packets of flows that are to be deleted
    /// are dropped, and the next call goes on with it.
    pub fn settle(&mut self, own_addresses: &[Ipv4Addr]) -> Result<Applied, Error> {
        if !self.applied {
            return Ok(Applied::default());
        }
        self.succeed()?;
        self.spare()?;
        let live = self.live(own_addresses);
        let mut applied = Applied::default();
        let retired: BTreeSet<u16> = self.record.tags.retired().collect();
        if !retired.is_empty() {
            let kept = self.record.tags.live().map(|(_, tag)| tag).chain([SENT_TAG]).collect();
            self.flush(&self.options.clone(), &retired, &kept)?;
            // Rules for which there was no number until now get theirs.
            let tags = self.record.tags.flushed().assign(&self.config)?;
            self.save(Record { tags, ..self.record.clone() })?;
            let config = self.config.clone();
            let wanted = ruleset(&config, &live, &self.record.tags, &self.options, self.uses);
            applied += self.bring(wanted, &config)?;
        }
        applied += self.rest(Uses::of(&self.config, &self.record.tags, &live))?;
        Ok(applied)
    }

    /// After a refusal: the table is as it was left, or what ran last is put into it again; true where that had to be done.
    ///
    /// # Errors
    /// When the table is not as it was left, and cannot be put back.
    pub fn put_back(&mut self, own_addresses: &[Ipv4Addr]) -> Result<bool, Error> {
        if self.intact()? {
            return Ok(false);
        }
        if !self.applied {
            let table = &self.options.nft_table;
            return Err(Error::Foreign(format!("nftables table ip {table}, which the run before had left, is gone")));
        }
        let config = self.config.clone();
        Ok(self.commit(&config, own_addresses)? != Applied::default())
    }

    /// No rule judges what comes from these addresses, until the next `commit` of a configuration that has them.
    ///
    /// # Errors
    /// What the kernel refuses, but not that there is nothing to take away.
    pub(crate) fn withdraw(&mut self, sources: &BTreeSet<Ipv4Addr>) -> Result<(), Error> {
        // Whatever is made anew from it does without them too.
        self.config.sources.retain(|source| source.net.prefix_len() < 32 || !sources.contains(&source.net.addr()));
        for table in self.tables_before().iter().chain([&self.options.nft_table]) {
            withdrawal::take_out(&mut self.netfilter, table, sources)?;
        }
        if let Some(hosts) = self.running.as_mut().and_then(|running| running.sets.get_mut(nft::HOSTS)) {
            for source in sources {
                hosts.elements.remove(&source.octets()[..]);
            }
        }
        Ok(())
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
        self.mend().map(drop).map_err(|error| error.joined(self.unready(before)))
    }

    /// What was readied is of no use: the rules that need it did not come. As long as nobody has asked for it again, the table that
    /// is in force can be put back without it. What goes wrong here is tried again by `settle`.
    fn unready(&mut self, before: Uses) -> Option<Error> {
        if self.uses == before {
            return None;
        }
        (self.uses, self.spared) = (before, false);
        // Before the first `commit` nobody knows what the table of the run before needs.
        if self.applied { self.spare().err() } else { None }
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
        self.spared = false;
        self.spare()?;
        Ok(applied)
    }

    /// Takes away routing rules and routes that are of no use any more, or never were to this run.
    fn spare(&mut self) -> Result<(), Error> {
        if !self.spared {
            setup::spare(&self.route, &self.options, self.uses)?;
            self.spared = true;
        }
        Ok(())
    }

    /// Changes only the set of external addresses of the ALG and those of its `peers`: for the moment before a connection is opened
    /// from a new address, for the one when it has none left, and before rules change. Connections between `peers` live on whatever
    /// the rules say of them, until they are set anew. Where somebody has changed or removed the table, it is made anew. Once there is
    /// neither an address nor a peer, nothing of the ALG's is left that a rule does not want. Before the first `commit` nothing is done.
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
        let live = self.live(own_addresses);
        let (before, idle) = (self.uses, live == Live::default());
        let needed = Uses::of(&self.config, &self.record.tags, &live);
        self.ready_for(needed)?;
        let brought = self.replace_ends(before, &live);
        let mut applied = brought.map_err(|error| error.joined(self.unready(before)))?;
        applied += if idle { self.settle(own_addresses)? } else { self.rest(needed)? };
        Ok(applied)
    }

    /// The ends of these connections in the table; `uses` is what it was made for.
    fn replace_ends(&mut self, uses: Uses, live: &Live) -> Result<Applied, Error> {
        let idle = *live == Live::default();
        let tags = if idle { self.record.tags.without_idle(&self.config) } else { self.record.tags.clone() };
        let retires = tags != self.record.tags;
        if retires {
            self.save(Record { tags, ..self.record.clone() })?;
        }
        let mut wanted = match &self.running {
            Some(running) if self.uses == uses && !retires => running.clone(),
            Some(_) | None => ruleset(&self.config, live, &self.record.tags, &self.options, self.uses),
        };
        wanted.sets.extend(nft::alg_sets(&self.config, live).map(|(name, set)| (name.to_owned(), set)));
        self.bring(wanted, &NodeConfig::default())
    }

    /// Whether the table is still as we left it. If somebody removed or changed it (`nft flush ruleset`), the next `commit`
    /// makes it anew. Before the first one it is as the run before left it, as long as it is there.
    pub fn intact(&mut self) -> Result<bool, Error> {
        let Some(running) = &self.running else {
            let gone = self.applied || self.left && !self.has_table(&self.record.clone())?;
            return Ok(!gone);
        };
        let found = nft::adopt(&mut self.netfilter, &self.options.nft_table, running);
        let intact = found.map_err(Error::netlink("reading the nftables table back"))?.as_ref() == Some(running);
        if !intact {
            self.running = None;
        }
        Ok(intact)
    }

    /// From what is in force to `wanted`, in one transaction. Where the kernel refuses it because it is not as we left it (a source
    /// was withdrawn meanwhile), once more from what there is. Objects of `config` are blamed for what it refuses.
    fn bring(&mut self, wanted: Ruleset, config: &NodeConfig) -> Result<Applied, Error> {
        let known = self.running.take();
        let as_left = known.is_some();
        let before = match known {
            Some(running) => Some(running),
            None => self.adopted(&wanted)?,
        };
        let (table, gone) = (&self.options.nft_table, self.tables_before());
        let applied = match transaction::bring(&mut self.netfilter, (table, &gone), before.as_ref(), &wanted, config) {
            Ok(applied) => applied,
            Err(error) => {
                let Some(before) = before else { return Err(error) };
                let found = self.adopted(&before)?;
                if found.as_ref() == Some(&before) {
                    // What was only found there may not be what was left there.
                    self.running = found.filter(|_| as_left);
                    return Err(error);
                }
                let table = &self.options.nft_table;
                transaction::bring(&mut self.netfilter, (table, &gone), found.as_ref(), &wanted, config)?
            }
        };
        self.running = Some(wanted);
        Ok(applied)
    }

    fn adopted(&mut self, wanted: &Ruleset) -> Result<Option<Ruleset>, Error> {
        let found = nft::adopt(&mut self.netfilter, &self.options.nft_table, wanted);
        found.map_err(Error::netlink("reading the nftables table back"))
    }
}
