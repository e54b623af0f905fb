//! `NodeConfig` to canonical bytes and back, and the hash that stands for them.
//!
//! ```text
//!   model ──to_pb (cannot fail)──► pb ──prost──► bytes ──sha256──► content hash
//!   model ◄──check◄──from_pb (names the field)── pb ◄──prost── bytes
//! ```

mod check;
mod error;
mod from_pb;
mod to_pb;

use std::fmt::Write as _;

use prost::Message as _;
use sha2::{Digest as _, Sha256};

pub use error::ConvertError;

use crate::{model, pb};

impl model::NodeConfig {
    /// The canonical protobuf encoding (`callgate.v1.NodeConfig`): equal values give equal bytes, on every machine.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        pb::NodeConfig::from(self).encode_to_vec()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Names the path of the first field that is malformed, missing, out of range, or refers to what is not there.
    /// A value that comes back can be used without bounds checks: every index is in range, every list in its order.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConvertError> {
        pb::NodeConfig::decode(bytes)
            .map_err(|e| ConvertError::new(format!("is not an encoded callgate.v1.NodeConfig ({e})")))?
            .try_into()
    }

    /// SHA-256 of the canonical encoding, 64 lower-case hex digits. Stands for a generation between operator and agent.
    #[must_use]
    pub fn content_hash(&self) -> String {
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(self.encode()) {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}
