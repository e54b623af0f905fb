//! Manifests as text in, a `World` and the problems found on the way out.
//!
//! ```text
//!   (name, text) ─► documents ─► kind? ─► schema and shape (callgate_crds) ─► World
//!                      └── problems, each with file, line, object, field and remedy
//! ```
mod documents;
mod read;

use std::collections::{BTreeMap, BTreeSet};

use callgate_proto::model::ObjectKey;
use serde::Serialize;

use crate::status::ObjectRef;
use crate::world::{Object, World};

/// Something wrong with a manifest; printed as `FILE:LINE OBJECT FIELD MESSAGE`. Its fields are the keys of the command
/// line's JSON, in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file's name as it was given.
    pub file: String,
    /// 1-based line: of the error where YAML itself is broken, else of the document; 0 is not known.
    pub line: u32,
    /// `IpRule pos/tills`; empty where not even that can be read.
    pub object: String,
    /// Path of the field: `spec.services[0].name`; empty where the whole document is meant.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// What manifests come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Every object that is well-formed, the predefined ones with them.
    pub world: World,
    /// What is wrong, sorted by file and line.
    pub problems: Vec<Problem>,
    /// Objects of other kinds among manifests of a cluster: somebody else's, and left alone.
    pub foreign: Vec<Problem>,
    /// File and line (1-based) of each well-formed object of ours. Predefined ones are not in it.
    pub places: BTreeMap<ObjectRef, (String, u32)>,
    /// Objects that were there but are refused.
    pub refused: BTreeSet<ObjectRef>,
    /// Files whose YAML is broken: what they hold cannot be told.
    pub broken_files: BTreeSet<String>,
}

/// Reads manifests of one host without a cluster. `files` are (name, text); `predefined` likewise, and may be replaced
/// by an object of the same name in `files`.
pub fn parse(files: &[(String, String)], predefined: &[(&str, &str)]) -> Parsed {
    parsed(files, predefined, true)
}

/// The same for manifests of a cluster, where other kinds stand beside ours: Deployments, a Kustomization, Kubernetes' own Services.
pub fn parse_of_cluster(files: &[(String, String)], predefined: &[(&str, &str)]) -> Parsed {
    parsed(files, predefined, false)
}

/// Whether this text holds any document, well-formed or not: one of blanks and comments does not.
pub fn holds_documents(text: &str) -> bool {
    documents::documents(text).iter().any(|document| document.value != Ok(serde_json::Value::Null))
}

fn parsed(files: &[(String, String)], predefined: &[(&str, &str)], standalone: bool) -> Parsed {
    let mut reader = read::Reader::new(standalone);
    for (name, text) in predefined {
        reader.file(name, text, true);
    }
    for (name, text) in files {
        reader.file(name, text, false);
    }
    reader.finish()
}

impl Parsed {
    /// Puts back objects of `previous` that are refused now: what ran goes on running. Names of those put back. An object that
    /// is there twice, well-formed once, is the well-formed one.
    pub fn keep_refused(&mut self, previous: &World) -> BTreeSet<ObjectRef> {
        use callgate_crds::Kind;
        let mut kept = BTreeSet::new();
        for refused in &self.refused {
            let key = &refused.key;
            let put_back = match refused.kind {
                Kind::PptpAlg => put_back(&mut self.world.algs, &previous.algs, key),
                Kind::Service => put_back(&mut self.world.services, &previous.services, key),
                Kind::IpRule => put_back(&mut self.world.rules, &previous.rules, key),
            };
            if put_back {
                self.world.refused.remove(refused);
                kept.insert(refused.clone());
            }
        }
        kept
    }
}

/// Puts one object back unless there is one; whether it did. A predefined one is none where what was before had replaced it.
fn put_back<S: Clone>(
    now: &mut BTreeMap<ObjectKey, Object<S>>,
    before: &BTreeMap<ObjectKey, Object<S>>,
    key: &ObjectKey,
) -> bool {
    let there = |before: &Object<S>| now.get(key).is_some_and(|now| !now.meta.predefined || before.meta.predefined);
    match before.get(key).filter(|before| !there(before)) {
        Some(object) => {
            now.insert(key.clone(), object.clone());
            true
        }
        None => false,
    }
}
