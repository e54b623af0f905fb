//! The last good configuration as one value of bounded size: what does not fit is left out, by whole namespaces. Pure.
//!
//! Nobody's rules may be so many that others' are not kept: then what is stored would be of long ago, and would come back at the
//! next start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read as _, Write as _};

use anyhow::Result;
use callgate_compile::LastGood;
use callgate_proto::model::ObjectKey;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Octets of JSON that count as much as one of gzip: they are in memory when it is unpacked.
const JSON: usize = 100;
/// Largest JSON that is unpacked again.
const LARGEST_JSON: u64 = 256 << 20;
/// Before and after the rules.
const FRAME: (&[u8], &[u8]) = (br#"{"rules":["#, b"]}");

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    /// Namespaces whose rules are not in it.
    pub(super) left_out: BTreeSet<String>,
}

/// All of it, or what comes to `most` octets: the largest namespaces are left out first, `own` last.
pub(super) fn pack(last_good: &LastGood, own: &str, most: usize) -> Result<Packed> {
    let json = serde_json::to_vec(last_good)?;
    let bytes = gzip(&json)?;
    if weight(&json, &bytes) <= most {
        return Ok(Packed { bytes, left_out: BTreeSet::new() });
    }
    let mut parts = Vec::new();
    for (namespace, part) in serde_json::from_slice::<Rules>(&json)?.rules.0 {
        parts.push((namespace != own, weight(&part, &gzip(&part)?), namespace, part));
    }
    drop(json);
    parts.sort();
    let (mut kept, mut room, mut left_out) = (Vec::new(), most, BTreeSet::new());
    for (_, weight, namespace, part) in parts {
        match room.checked_sub(weight) {
            Some(left) => {
                room = left;
                kept.push(part);
            }
            None => drop(left_out.insert(namespace)),
        }
    }
    let json = [FRAME.0, &kept.join(&b','), FRAME.1].concat();
    Ok(Packed { bytes: gzip(&json)?, left_out })
}

/// What was packed.
pub(super) fn unpack(bytes: &[u8]) -> Result<LastGood> {
    let mut json = Vec::new();
    GzDecoder::new(bytes).take(LARGEST_JSON).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

fn gzip(json: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json)?;
    Ok(encoder.finish()?)
}

fn weight(json: &[u8], packed: &[u8]) -> usize {
    packed.len().max(json.len() / JSON)
}

/// `LastGood` as JSON, as far as it has to be known here.
#[derive(Deserialize)]
struct Rules {
    rules: Parts,
}

/// The rules by namespace: JSON with commas between them.
#[derive(Default)]
struct Parts(BTreeMap<String, Vec<u8>>);

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Split)
    }
}

/// Rule by rule: all of them as values would take many times the memory of the JSON.
struct Split;

impl<'de> Visitor<'de> for Split {
    type Value = Parts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("rules with their names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rules: A) -> Result<Parts, A::Error> {
        let mut parts = Parts::default();
        while let Some(named) = rules.next_element::<(ObjectKey, Value)>()? {
            let part = parts.0.entry(named.0.namespace.clone()).or_default();
            if !part.is_empty() {
                part.push(b',');
            }
            serde_json::to_writer(part, &named).map_err(A::Error::custom)?;
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_only_while_it_is_packed_counts_by_what_it_is_unpacked() {
        let json = vec![b' '; 1 << 20];
        let packed = gzip(&json).unwrap();
        assert_eq!((weight(&json, &packed), weight(&[], &packed)), ((1 << 20) / JSON, packed.len()));
    }
}
