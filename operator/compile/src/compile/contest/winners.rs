//! Rules that have won so far, filed so that a later one is compared only with those that could cover it.
use std::collections::BTreeMap;

use super::Extent;
use super::matches::MatchSets;
use crate::resolve::PodScope;
use crate::steps::Steps;

/// In match order.
#[derive(Default)]
pub(super) struct Winners<'a> {
    all: Vec<Extent<'a>>,
    /// Indices, ascending.
    by_place: BTreeMap<Place<'a>, Vec<usize>>,
    /// Those with networks.
    networks: Vec<usize>,
}

/// Scope and, where the pods must have one value of a label, that: what a rule of one scope or label asks for is not asked for by rules
/// of another.
type Place<'a> = (Scope<'a>, Option<(&'a str, &'a str)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope<'a> {
    Own(&'a str),
    Everywhere,
    Labelled,
}

impl<'a> From<&'a PodScope> for Scope<'a> {
    fn from(scope: &'a PodScope) -> Self {
        match scope {
            PodScope::Own(namespace) => Self::Own(namespace),
            PodScope::Labelled(selector) if selector.is_everything() => Self::Everywhere,
            PodScope::Labelled(_) => Self::Labelled,
        }
    }
}

impl<'a> Winners<'a> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn add(&mut self, extent: Extent<'a>) {
        let index = self.all.len();
        if let Some((_, pods)) = extent.pods {
            let place = (Scope::from(&pods.scope), pods.labels.must_have());
            self.by_place.entry(place).or_default().push(index);
        }
        if !extent.networks.is_empty() {
            self.networks.push(index);
        }
        self.all.push(extent);
    }

    /// The first that covers `extent`, and its place, as far as there are steps left to find out.
    pub(super) fn first_that_covers(
        &self,
        extent: &Extent<'a>,
        sets: &MatchSets<'a>,
        steps: &mut Steps,
    ) -> Option<(u32, &Extent<'a>)> {
        let mut first: Option<usize> = None;
        for indices in self.that_may_cover(extent) {
            for &index in indices {
                if !steps.are_left() || first.is_some_and(|first| index >= first) {
                    break;
                }
                if self.all.get(index)?.covers(extent, sets, steps) {
                    first = Some(index);
                }
            }
        }
        let first = first?;
        Some((u32::try_from(first).ok()?, self.all.get(first)?))
    }

    fn that_may_cover(&self, extent: &Extent<'a>) -> Vec<&[usize]> {
        let Some((_, pods)) = extent.pods else { return vec![&self.networks] };
        let scope = Scope::from(&pods.scope);
        let scopes: &[Scope<'_>] = match scope {
            Scope::Own(_) => &[scope, Scope::Everywhere],
            Scope::Everywhere | Scope::Labelled => &[Scope::Everywhere, Scope::Labelled],
        };
        let labels = || pods.labels.single_values().map(Some).chain([None]);
        let places = scopes.iter().flat_map(|scope| labels().map(|label| (*scope, label)));
        places.filter_map(|place| self.by_place.get(&place).map(Vec::as_slice)).collect()
    }
}
