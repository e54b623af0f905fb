//! Sets of matches: equal ones have one number, and are not compared.
use std::collections::BTreeMap;

use callgate_proto::model::{Match, PortRange};

use crate::steps::Steps;

/// Number of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetId(usize);

/// Every set there is: rules by the hundred share a list of services by the thousand. What a comparison came to is not kept: there
/// are as many pairs of sets as the square of them.
#[derive(Debug, Default)]
pub(super) struct MatchSets<'a> {
    ids: BTreeMap<Vec<&'a Match>, SetId>,
    /// Each sorted, so by protocol first, without duplicates.
    all: Vec<Vec<&'a Match>>,
}

impl<'a> MatchSets<'a> {
    /// The number of the set of these.
    pub(super) fn id(&mut self, matches: impl Iterator<Item = &'a Match>) -> SetId {
        let mut set: Vec<&Match> = matches.collect();
        set.sort_unstable();
        set.dedup();
        if let Some(&id) = self.ids.get(&set) {
            return id;
        }
        let id = SetId(self.all.len());
        self.ids.insert(set.clone(), id);
        self.all.push(set);
        id
    }

    /// Whether whatever some match of `narrow` takes, one of `wide` takes.
    pub(super) fn covers(&self, wide: SetId, narrow: SetId, steps: &mut Steps) -> bool {
        let of = |SetId(at): SetId| self.all.get(at).map(Vec::as_slice).unwrap_or_default();
        wide == narrow || of(narrow).iter().all(|narrow| takes(of(wide), narrow, steps))
    }
}

/// Whether one match of a sorted set covers `narrow`.
fn takes(set: &[&Match], narrow: &Match, steps: &mut Steps) -> bool {
    let of = |protocol: Option<u8>| {
        let from = set.partition_point(|wide| wide.protocol < protocol);
        let rest = set.get(from..).unwrap_or_default();
        rest.iter().take_while(move |wide| wide.protocol == protocol)
    };
    let ports = narrow.source_ports.len() + narrow.destination_ports.len();
    steps.take(1 + ports);
    let mut covers = |wide: &Match| {
        steps.take(1 + ports);
        match_covers(wide, narrow)
    };
    set.binary_search(&narrow).is_ok() || of(None).chain(of(narrow.protocol)).any(|wide| covers(wide))
}

/// Whether whatever `narrow` takes, `wide` takes.
pub(super) fn match_covers(wide: &Match, narrow: &Match) -> bool {
    (wide.protocol.is_none() || wide.protocol == narrow.protocol)
        && ports_cover(&wide.source_ports, &narrow.source_ports)
        && ports_cover(&wide.destination_ports, &narrow.destination_ports)
}

/// Both are sorted and disjoint; empty is every port.
fn ports_cover(wide: &[PortRange], narrow: &[PortRange]) -> bool {
    let covered = |narrow: &PortRange| {
        let at = wide.partition_point(|wide| wide.last < narrow.first);
        wide.get(at).is_some_and(|wide| wide.first <= narrow.first && narrow.last <= wide.last)
    };
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(covered))
}
