//! Manifests read and compiled offline, with everything that is wrong with them and where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use callgate_compile::manifests::{Parsed, Problem, parse, parse_of_cluster};
use callgate_compile::status::{Finding, ObjectRef, Status};
use callgate_compile::world::World;
use callgate_compile::{Compiled, compile};
use callgate_crds::predefined;
use callgate_proto::model::ObjectKey;

use crate::error::Error;
use crate::files;

/// What a directory of manifests comes to.
#[derive(Debug)]
pub struct Manifests {
    /// The objects, the predefined ones with them.
    pub world: World,
    /// What an agent would run.
    pub compiled: Compiled,
    /// Objects of ours in the files, also those that are refused.
    pub objects: u64,
    /// What keeps an object from running, sorted by file and line.
    pub problems: Vec<Problem>,
    /// What is worth knowing about objects that run, sorted likewise.
    pub notes: Vec<Problem>,
}

/// File and line of each object.
type Places = BTreeMap<ObjectRef, (String, u32)>;

/// Reads and compiles what is at `path` with no configuration before: as a `standalone` agent would, or as a cluster.
///
/// # Errors
/// Files that cannot be read.
pub fn load(path: &Path, standalone: bool) -> Result<Manifests, Error> {
    Ok(from_texts(&files::read(path)?, standalone))
}

/// The same for texts in memory, as (name, text).
pub fn from_texts(texts: &[(String, String)], standalone: bool) -> Manifests {
    let parse = if standalone { parse } else { parse_of_cluster };
    let Parsed { world, problems, foreign, places, refused, .. } = parse(texts, predefined());
    let compiled = compile(&world, None);
    let mut bad: BTreeSet<Problem> = problems.into_iter().collect();
    let mut notes: BTreeSet<Problem> = foreign.into_iter().collect();
    for (object, status) in &compiled.statuses {
        bad.extend(findings(status, false).map(|finding| view(&places, object, finding)));
        notes.extend(findings(status, true).map(|finding| view(&places, object, finding)));
    }
    let named: BTreeSet<&ObjectRef> = compiled.statuses.keys().chain(&refused).collect();
    let objects = named.len() as u64;
    Manifests { world, objects, problems: bad.into_iter().collect(), notes: notes.into_iter().collect(), compiled }
}

impl Manifests {
    /// Gives a pod that has no address in the manifests this one, and compiles again.
    pub fn assume_address(&mut self, pod: &ObjectKey, address: Ipv4Addr) {
        if let Some(pod) = self.world.pods.get_mut(pod) {
            Arc::make_mut(pod).addresses = vec![address];
            self.compiled = compile(&self.world, None);
        }
    }
}

/// Findings of the conditions with this status. One that fails without any counts with its message.
fn findings(status: &Status, holds: bool) -> impl Iterator<Item = Finding> {
    status.conditions.iter().filter(move |condition| condition.holds() == holds).flat_map(move |condition| {
        if condition.findings.is_empty() && !holds {
            return vec![Finding { field: String::new(), message: condition.message.clone() }];
        }
        condition.findings.clone()
    })
}

fn view(places: &Places, object: &ObjectRef, Finding { field, message }: Finding) -> Problem {
    let (file, line) = places.get(object).cloned().unwrap_or_default();
    Problem { file, line, object: object.to_string(), field, message }
}
