//! Where a name is looked up: in the namespace of the object that names it, then in the operator's.
use std::collections::BTreeMap;

use callgate_proto::model::ObjectKey;

use crate::status::{Kind, ObjectRef};
use crate::world::World;

/// The object called `name` from `namespace`, or the places where it was looked for, as words.
pub(super) fn find<T>(
    world: &World,
    objects: &BTreeMap<ObjectKey, T>,
    namespace: &str,
    name: &str,
) -> Result<ObjectKey, String> {
    let own = ObjectKey::new(namespace, name);
    if objects.contains_key(&own) {
        return Ok(own);
    }
    let shared = ObjectKey::new(world.operator_namespace.as_str(), name);
    if objects.contains_key(&shared) {
        return Ok(shared);
    }
    if own == shared {
        return Err(format!("namespace {namespace}"));
    }
    Err(format!("namespace {namespace} or {}", world.operator_namespace))
}

/// A `did you mean` about the nearest name in either of these namespaces, where it was looked for, or nothing.
pub(super) fn hint<T>(objects: &BTreeMap<ObjectKey, T>, [own, shared]: [&str; 2], name: &str) -> String {
    let reachable = objects.keys().filter(|key| key.namespace == own || key.namespace == shared);
    let nearest = reachable.map(|key| (distance(&key.name, name), &key.name)).min();
    match nearest {
        Some((steps, near)) if steps <= 2 && steps < name.chars().count() => format!(" (did you mean {near}?)"),
        Some(_) | None => String::new(),
    }
}

/// That an object of this name is there, in one of these namespaces, and has to be mended; `None` where there is none.
pub(super) fn refused<'a>(
    world: &World,
    kind: Kind,
    namespaces: impl IntoIterator<Item = &'a str>,
    name: &str,
) -> Option<String> {
    let mut there = namespaces.into_iter().map(|namespace| ObjectRef { kind, key: ObjectKey::new(namespace, name) });
    there
        .find(|object| world.refused.contains(object))
        .map(|object| format!("{object} is refused as it stands: mend it first"))
}

/// Levenshtein distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (to, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let cost = (diagonal + usize::from(from != *to)).min(left + 1).min(*above + 1);
            diagonal = *above;
            *above = cost;
            left = cost;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_inserted_deleted_and_changed_characters() {
        assert_eq!(distance("http", "http"), 0);
        assert_eq!(distance("http", "https"), 1);
        assert_eq!(distance("", "dns"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
