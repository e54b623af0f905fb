//! Manifests read and compiled offline, with everything that is wrong with them and where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use callgate_compile::manifests::{Parsed, Problem, parse};
use callgate_compile::status::{Finding, Kind, ObjectRef, Status};
use callgate_compile::world::World;
use callgate_compile::{Compiled, compile};
use callgate_crds::predefined;

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

/// Reads and compiles what is at `path`, as a standalone agent would with no configuration before.
///
/// # Errors
/// Files that cannot be read.
pub fn load(path: &Path) -> Result<Manifests, Error> {
    Ok(from_texts(&files::read(path)?))
}

/// The same for texts in memory, as (name, text).
pub fn from_texts(texts: &[(String, String)]) -> Manifests {
    let Parsed { world, problems, refused, .. } = parse(texts, predefined());
    let compiled = compile(&world, None);
    let places = places(texts);
    let mut bad: BTreeSet<Problem> = problems.into_iter().collect();
    let mut notes = BTreeSet::new();
    for (object, status) in &compiled.statuses {
        bad.extend(findings(status, false).map(|finding| view(&places, object, finding)));
        notes.extend(findings(status, true).map(|finding| view(&places, object, finding)));
    }
    let named: BTreeSet<&ObjectRef> = compiled.statuses.keys().chain(&refused).collect();
    let objects = named.len() as u64;
    Manifests { world, objects, problems: bad.into_iter().collect(), notes: notes.into_iter().collect(), compiled }
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

/// Where each object is written first, which is the one that counts: compile knows objects, not files.
fn places(texts: &[(String, String)]) -> Places {
    let mut places = Places::new();
    for (file, text) in texts {
        for (line, document) in documents(text) {
            let alone = parse(&[(file.clone(), document)], &[]);
            let keyed = |kind: Kind| move |key: &_| ObjectRef { kind, key: Clone::clone(key) };
            let algs = alone.world.algs.keys().map(keyed(Kind::PptpAlg));
            let services = alone.world.services.keys().map(keyed(Kind::Service));
            let rules = alone.world.rules.keys().map(keyed(Kind::IpRule));
            for object in algs.chain(services).chain(rules) {
                places.entry(object).or_insert_with(|| (file.clone(), line));
            }
        }
    }
    places
}

/// Documents with the first line that says something, 1-based.
fn documents(text: &str) -> Vec<(u32, String)> {
    let mut documents: Vec<(u32, String)> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line == "---" || line.starts_with("--- ") || line.starts_with("---\t") || line == "..." {
            open = false;
        } else if open {
            if let Some((_, document)) = documents.last_mut() {
                document.extend([line, "\n"]);
            }
        } else if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            documents.push((number, format!("{line}\n")));
            open = true;
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_begin_where_they_say_something() {
        let text = "# only a comment\n---\na: 1\nb: 2\n---\n\n# why\nc: 3\n--- # again\nd: 4\n";
        let expected = [(3, "a: 1\nb: 2\n"), (8, "c: 3\n"), (10, "d: 4\n")].map(|(l, t)| (l, t.to_owned()));
        assert_eq!(documents(text), expected);
    }
}
