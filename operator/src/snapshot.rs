//! A node's configuration as it is sent.
//!
//! ```text
//!   NodeConfig ─┬─► canonical bytes ─► hash: what an agent answers with
//!               └─► stamp: by what of it each object is in force
//! ```

mod stamp;

use std::sync::Arc;

use callgate_proto::model::NodeConfig;
use callgate_proto::pb;

pub use stamp::Stamp;

/// One node's configuration, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What it says.
    pub config: Arc<NodeConfig>,
    /// SHA-256 of its canonical encoding.
    pub hash: String,
    /// Which pod has each source address.
    pub holders: Vec<pb::Holder>,
    /// What of it each object is in force by.
    pub stamp: Arc<Stamp>,
}

impl Snapshot {
    /// Of a configuration and the pods that have its source addresses.
    pub fn new(config: impl Into<Arc<NodeConfig>>, holders: Vec<pb::Holder>) -> Self {
        let config = config.into();
        let hash = config.content_hash();
        let stamp = Arc::new(Stamp::of(&config));
        Self { config, hash, holders, stamp }
    }

    /// As it goes over the wire, as the stream's snapshot number `sequence`.
    pub fn message(&self, sequence: u64) -> pb::Snapshot {
        pb::Snapshot {
            config: Some(pb::NodeConfig::from(&*self.config)),
            hash: self.hash.clone(),
            holders: self.holders.clone(),
            sequence,
        }
    }
}
