//! Where a name is looked up: in the namespace of the object that names it, then in the operator's.
use std::collections::BTreeMap;

use callgate_crds::ServiceRef;
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

/// That an object of `namespace` may not name this service: its sessions and calls are limited for all who use it. Only the operator's
/// namespace names those of others, and on a host everybody.
pub(super) fn not_permitted(world: &World, namespace: &str, named: &ServiceRef) -> Option<String> {
    let elsewhere = named.namespace.as_deref()?;
    let system = world.operator_namespace.as_str();
    let permitted = world.is_trusted(namespace) || elsewhere == namespace || elsewhere == system;
    (!permitted).then(|| {
        format!(
            "only rules and groups of namespace {elsewhere} may name its services, which have limits of their own: name one of namespace \
             {namespace} or {system}, or copy it"
        )
    })
}

/// Steps by which a name may differ from what was meant.
const MOST_STEPS: usize = 2;

/// Names that are compared for the objects of one namespace: somebody may write a thousand names that are not there beside a
/// thousand that are.
const COMPARISONS: u32 = 20_000;

/// Tells the nearest name of one that is not there.
#[derive(Default)]
pub(crate) struct Hints {
    /// How many names have been compared, by the namespace of the object that asks.
    compared: BTreeMap<String, u32>,
}

impl Hints {
    /// A `did you mean` about the nearest name in either of these namespaces, where it was looked for, or nothing. `asks` is the
    /// namespace of the object that names it.
    pub(super) fn nearest<T>(
        &mut self,
        objects: &BTreeMap<ObjectKey, T>,
        asks: &str,
        [own, shared]: [&str; 2],
        name: &str,
    ) -> String {
        let compared = self.compared.entry(asks.to_owned()).or_default();
        let wanted: Vec<char> = name.chars().collect();
        let mut nearest = None;
        for there in within(objects, own).chain(within(objects, shared).take_while(|_| own != shared)) {
            if *compared == COMPARISONS {
                return String::new();
            }
            *compared += 1;
            // Whoever writes the beginning of a name means it.
            let begun = (wanted.len() >= 3 && there.starts_with(name)).then_some(1);
            if let Some(steps) = begun.or_else(|| distance(there, &wanted))
                && nearest.is_none_or(|nearest| (steps, there) < nearest)
            {
                nearest = Some((steps, there));
            }
        }
        match nearest {
            Some((steps, near)) if steps < wanted.len() => format!(" (did you mean {near}?)"),
            Some(_) | None => String::new(),
        }
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

/// Names of a namespace.
fn within<'a, T>(objects: &'a BTreeMap<ObjectKey, T>, namespace: &'a str) -> impl Iterator<Item = &'a str> {
    let keys = objects.range(ObjectKey::new(namespace, "")..).map(|(key, _)| key);
    keys.take_while(move |key| key.namespace == namespace).map(|key| key.name.as_str())
}

/// Levenshtein distance, in characters; `None` where it is more than [`MOST_STEPS`]. The table is filled only where it can be less.
fn distance(a: &str, b: &[char]) -> Option<usize> {
    const FAR: usize = MOST_STEPS + 1;
    let a: Vec<char> = a.chars().collect();
    if a.len().abs_diff(b.len()) > MOST_STEPS {
        return None;
    }
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (a.get(same..)?, b.get(same..)?);
    let same = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (a.get(..a.len() - same)?, b.get(..b.len() - same)?);
    let mut row: Vec<usize> = (0..=b.len()).map(|steps| steps.min(FAR)).collect();
    for (i, from) in a.iter().enumerate() {
        let first = i.saturating_sub(MOST_STEPS);
        let cells = row.get_mut(first..)?;
        let (start, cells) = cells.split_first_mut()?;
        let mut diagonal = std::mem::replace(start, if first == 0 { (i + 1).min(FAR) } else { FAR });
        let (mut left, mut least) = (*start, *start);
        for (to, above) in b.iter().skip(first).zip(cells).take(2 * MOST_STEPS + 1) {
            let cost = (diagonal + usize::from(from != to)).min(left + 1).min(*above + 1).min(FAR);
            diagonal = std::mem::replace(above, cost);
            left = cost;
            least = least.min(cost);
        }
        if least == FAR {
            return None;
        }
    }
    row.last().copied().filter(|steps| *steps <= MOST_STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(a: &str, b: &str) -> Option<usize> {
        distance(a, &b.chars().collect::<Vec<_>>())
    }

    /// As the definition has it, whole.
    fn whole(a: &[char], b: &[char]) -> usize {
        match (a, b) {
            ([], rest) | (rest, []) => rest.len(),
            ([x, a @ ..], [y, b @ ..]) if x == y => whole(a, b),
            ([_, after_a @ ..], [_, after_b @ ..]) => {
                1 + whole(after_a, b).min(whole(a, after_b)).min(whole(after_a, after_b))
            }
        }
    }

    #[test]
    fn distance_counts_inserted_deleted_and_changed_characters_up_to_two() {
        assert_eq!(steps("http", "http"), Some(0));
        assert_eq!(steps("http", "https"), Some(1));
        assert_eq!(steps("", "ns"), Some(2));
        assert_eq!(steps("", "dns"), None);
        assert_eq!(steps("kitten", "sitting"), None);
    }

    #[test]
    fn a_namespace_that_asks_for_very_much_gets_no_more_hints_and_others_do() {
        let objects: BTreeMap<ObjectKey, ()> =
            (0..1_000).map(|n| (ObjectKey::new("a", format!("name-{n:04}")), ())).collect();
        let mut hints = Hints::default();
        let told: Vec<String> = (0..22).map(|_| hints.nearest(&objects, "a", ["a", "system"], "name-00009")).collect();
        let near = " (did you mean name-0000?)".to_owned();
        assert_eq!(told, [vec![near.clone(); 20], vec![String::new(); 2]].concat());
        assert_eq!(hints.nearest(&objects, "b", ["b", "a"], "name-00009"), near);
    }

    proptest! {
        #[test]
        fn the_distance_is_that_of_the_whole_table(a in "[ab]{0,7}", b in "[ab]{0,7}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let whole = whole(&chars(&a), &chars(&b));
            prop_assert_eq!(steps(&a, &b), (whole <= MOST_STEPS).then_some(whole));
        }
    }
}
