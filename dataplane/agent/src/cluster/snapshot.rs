//! A snapshot as it came, and as it may be carried out: content and hash agree, and it is for this node.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_proto::model::{NodeConfig, ObjectKey};
use callgate_proto::pb;

use crate::run::{Holders, Tenant};

/// A pod as one of its addresses knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pod: ObjectKey,
    /// metadata.uid: another pod of the same name has another.
    pub(super) uid: String,
    /// How often its containers have been started anew.
    pub(super) restarts: u32,
}

/// A configuration that has been checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) config: Arc<NodeConfig>,
    /// Content hash of `config`.
    pub(super) hash: String,
    pub(super) holders: BTreeMap<Ipv4Addr, Holder>,
    /// Its number in the stream it came by; 0 from a file.
    pub(super) sequence: u64,
}

impl Snapshot {
    /// Checks what came.
    ///
    /// # Errors
    /// What is wrong with it, for people. Nothing of it may then be carried out.
    pub(super) fn checked(message: pb::Snapshot, node: &str) -> Result<Self, String> {
        let pb::Snapshot { config, hash, holders, sequence } = message;
        let config = config.ok_or("the snapshot has no configuration")?;
        let config = NodeConfig::try_from(config).map_err(|error| format!("the snapshot does not decode: {error}"))?;
        let content = config.content_hash();
        if content != hash {
            return Err(format!(
                "the snapshot says that its hash is {}, its content has {}: operator and agent are of versions that do not fit, or it \
                 was changed on the way",
                short(&hash),
                short(&content)
            ));
        }
        if config.node != node {
            return Err(format!(
                "the snapshot is for node {:?}, this is node {node:?}: look at NODE_NAME of this pod and at its token",
                config.node
            ));
        }
        let holders = holders.into_iter().map(holder).collect::<Result<_, String>>()?;
        Ok(Self { config: Arc::new(config), hash, holders, sequence })
    }

    /// As it goes into a file.
    pub(super) fn message(&self) -> pb::Snapshot {
        let holders = self.holders.iter().map(|(address, holder)| pb::Holder {
            address: (*address).into(),
            pod: holder.pod.to_string(),
            uid: holder.uid.clone(),
            restarts: holder.restarts,
        });
        pb::Snapshot {
            config: Some(pb::NodeConfig::from(&*self.config)),
            hash: self.hash.clone(),
            holders: holders.collect(),
            sequence: 0,
        }
    }

    /// Which pod has which address.
    pub(super) fn pods(&self) -> Holders {
        self.holders.iter().map(|(address, holder)| (*address, holder.pod.clone())).collect()
    }

    /// Who has which address, for comparing with what the kernel tells of links.
    pub(super) fn tenants(&self) -> BTreeMap<Ipv4Addr, Tenant> {
        let tenant = |holder: &Holder| Tenant { uid: holder.uid.clone(), restarts: holder.restarts };
        self.holders.iter().map(|(address, holder)| (*address, tenant(holder))).collect()
    }

    /// The same without what belongs to pods: after a reboot their addresses are given out anew.
    pub(super) fn without_pods(mut self) -> Self {
        let mut config = (*self.config).clone();
        config
            .sources
            .retain(|source| !(source.net.prefix_len() == 32 && self.holders.contains_key(&source.net.addr())));
        self.hash = config.content_hash();
        (self.config, self.holders) = (Arc::new(config), BTreeMap::new());
        self
    }
}

fn holder(message: pb::Holder) -> Result<(Ipv4Addr, Holder), String> {
    let pb::Holder { address, pod, uid, restarts } = message;
    let address = Ipv4Addr::from(address);
    let (namespace, name) =
        pod.split_once('/').ok_or_else(|| format!("holders: the pod of {address} is {pod:?}, not namespace/name"))?;
    Ok((address, Holder { pod: ObjectKey::new(namespace, name), uid, restarts }))
}

/// Enough of a hash to tell it from others.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
pub(super) mod tests;
