//! One nftables transaction: from what runs to what is wanted, all or nothing.

use std::ops::AddAssign;

use callgate_proto::model::NodeConfig;
use nix::errno::Errno;

use super::Error;
use crate::netlink;
use crate::netlink::socket::{Refused, Socket};
use crate::nft::{Batch, Difference, Finished, Ruleset, names};

/// What one apply did; all zero means that the kernel already was as wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Chains, rules or sets changed (and not only elements).
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

impl AddAssign for Applied {
    fn add_assign(&mut self, other: Self) {
        self.structure_replaced |= other.structure_replaced;
        self.elements_added += other.elements_added;
        self.elements_removed += other.elements_removed;
        self.messages_sent += other.messages_sent;
        self.bytes += other.bytes;
    }
}

/// Brings the table from `running` (`None` if that is not known) to `wanted`, which comes from `config`; the tables `gone` go.
pub(super) fn bring(
    socket: &mut Socket,
    (table, gone): (&str, &[String]),
    running: Option<&Ruleset>,
    wanted: &Ruleset,
    config: &NodeConfig,
) -> Result<Applied, Error> {
    if running == Some(wanted) && gone.is_empty() {
        return Ok(Applied::default());
    }
    let mut batch = Batch::new(table);
    let mut applied = Applied::default();
    match running.and_then(|running| Difference::between(running, wanted)) {
        Some(difference) => {
            applied.structure_replaced = difference.structural();
            (applied.elements_removed, applied.elements_added) = difference.elements();
            batch.change(&difference);
        }
        None => {
            applied.structure_replaced = true;
            applied.elements_added = wanted.sets.values().map(|set| set.elements.len()).sum();
            batch.replace(wanted);
        }
    }
    gone.iter().for_each(|table| batch.without_table(table));
    let batch = batch.finish();
    (applied.messages_sent, applied.bytes) = (batch.messages, batch.bytes.len());
    commit(socket, batch, table, config)?;
    Ok(applied)
}

/// Sends a batch; the objects of `config` are blamed for what is refused.
pub(super) fn commit(socket: &mut Socket, batch: Finished, table: &str, config: &NodeConfig) -> Result<(), Error> {
    socket.batch(&batch.bytes, batch.last).map_err(|refused| {
        let about = batch.about(refused.sequence);
        let objects = about.map(|(_, name)| names::objects(name, config)).unwrap_or_default();
        let error = explained(refused, &batch, table, &objects);
        match objects.into_iter().next() {
            Some(object) => Error::Of { object, source: Box::new(error) },
            None => error,
        }
    })
}

/// What the kernel refused, and what this kernel may lack.
fn explained(Refused { sequence, error }: Refused, batch: &Finished, table: &str, objects: &[String]) -> Error {
    let Some((kind, name)) = batch.about(sequence) else {
        return Error::Netlink { what: format!("changing nftables table ip {table}"), source: error };
    };
    let missing = matches!(&error, netlink::Error::Kernel { errno: Errno::ENOENT | Errno::EOPNOTSUPP, .. });
    match kind {
        "time-outs" if missing => Error::Unsupported(format!(
            "this kernel has no conntrack time-out objects ({name}: {error}): load modules nft_ct and nfnetlink_cttimeout \
             (CONFIG_NF_CONNTRACK_TIMEOUT), or remove the field timeouts from {}",
            if objects.is_empty() { "the Services".to_owned() } else { objects.join(", ") }
        )),
        "time-outs" if !objects.is_empty() => Error::Netlink {
            what: format!("nftables table ip {table}, {kind} {name} of {}", objects.join(", ")),
            source: error,
        },
        "a rule of chain" if missing && name == "prerouting" => Error::Unsupported(format!(
            "this kernel cannot give packets to sockets in others' names ({name}: {error}): load modules nft_socket and nft_tproxy \
             (CONFIG_NFT_SOCKET, CONFIG_NFT_TPROXY), or set controlConnection to PerClient in the PptpAlgs"
        )),
        "a rule of chain" if missing && name.starts_with("l/") => Error::Unsupported(format!(
            "this kernel cannot count connections ({name}: {error}): load module nft_connlimit (CONFIG_NFT_CONNLIMIT), or set \
             maxSessions to 0 in the Services"
        )),
        _ => Error::Netlink { what: format!("nftables table ip {table}, {kind} {name}"), source: error },
    }
}
