//! How many services the groups of a namespace may come to, told before any of them is put together.
//!
//! A group of sixteen groups of 64 services is a thousand names at each compile, and nobody needs more than the right to write services to
//! ask for that a thousand times.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::ServiceSpec;
use callgate_proto::model::ObjectKey;
use jiff::Timestamp;

use super::group::{MAX_LEAVES, find, is_group};
use crate::world::{Object, World};

/// Groups for which their namespaces have no room, each with what to say of it. The older of two groups comes first, whichever of
/// them is in the other; `inner_first` are all groups in the order in which they can be put together.
///
/// A member counts as all that it comes to, also where another leads to the same services: it has to be looked through to know.
pub(super) fn refuse(world: &World, most: usize, inner_first: &[ObjectKey]) -> BTreeMap<ObjectKey, String> {
    let sizes = sizes(world, inner_first);
    let older_first: BTreeSet<_> = sizes.keys().map(|&key| (created(world, key), key)).collect();
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for (_, key) in older_first {
        if world.is_trusted(&key.namespace) {
            continue;
        }
        let needed = sizes.get(key).copied().unwrap_or_default();
        let used = used.entry(&key.namespace).or_default();
        let left = most.saturating_sub(*used);
        if needed <= left {
            *used += needed;
            continue;
        }
        let message = format!(
            "its members come to {needed} services, and older groups leave {left} of the {most} that groups of namespace {} may come \
             to: name fewer services, or delete groups",
            key.namespace
        );
        refused.insert(key.clone(), message);
    }
    refused
}

fn created(world: &World, key: &ObjectKey) -> Option<Timestamp> {
    world.services.get(key).and_then(|object| object.meta.created)
}

/// What the members of each group come to. A member that closes a circle is not counted, as it is not put in.
fn sizes<'a>(world: &World, inner_first: &'a [ObjectKey]) -> BTreeMap<&'a ObjectKey, usize> {
    let mut sizes: BTreeMap<&ObjectKey, usize> = BTreeMap::new();
    for key in inner_first {
        let Some(Object { spec, .. }) = world.services.get(key) else { continue };
        let size = |spec: &ServiceSpec, at: &ObjectKey| match is_group(spec) {
            // One that comes to more is not accepted, and not put in.
            true => sizes.get(at).copied().unwrap_or_default().min(MAX_LEAVES),
            false => 1,
        };
        let members = spec.members.iter().filter_map(|member| find(world, &key.namespace, member).ok());
        let needed = members.filter_map(|at| Some(size(&world.services.get(&at)?.spec, &at))).sum();
        sizes.insert(key, needed);
    }
    sizes
}
