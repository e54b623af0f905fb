//! Who has to go where the rules of a node ask for more than it has.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;

use super::{Candidate, Limits, Need, issue};
use crate::resolve::Issue;

/// Whose room it is that a rule takes: a namespace's, or (`None`) of those who may select everywhere, who are trusted with the node.
type Owner<'a> = Option<&'a str>;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Tags,
    Entries,
}

/// Candidates for which a node with these lists of rules has no room, each with what to say of it. Of each namespace the last in
/// match order are the first to go, and none goes because of another namespace as long as its own has no more than its share.
pub(in crate::compile) fn refuse(
    limits: &Limits,
    node: &str,
    candidates: &[Candidate],
    needs: &[Need],
    chains: &[Vec<u32>],
) -> BTreeMap<u32, Issue> {
    let need = |index: u32| needs.get(index as usize);
    let lists = Lists::of(chains, |index| need(index).is_some_and(|need| need.trusted));
    let mut refused = BTreeMap::new();
    for room in [Room::Tags, Room::Entries] {
        let needed = |index: u32, need: &Need, paid: &BTreeSet<usize>| match room {
            Room::Tags => need.tags,
            Room::Entries => need.entries + lists.needed(index, paid),
        };
        let mut wanted: Vec<(u32, Owner<'_>, usize)> = Vec::new();
        let mut paid = BTreeSet::new();
        for &index in lists.of.keys().filter(|index| !refused.contains_key(*index)) {
            let Some((candidate, need)) = candidates.get(index as usize).zip(need(index)) else { continue };
            let owner = (!need.trusted).then_some(candidate.key.namespace.as_str());
            wanted.push((index, owner, needed(index, need, &paid)));
            lists.pay(index, &mut paid);
        }
        let mut left = shares(room.of_node(limits), &wanted);
        paid.clear();
        for (index, owner, _) in wanted {
            let Some((left, need)) = left.get_mut(&owner).zip(need(index)) else { continue };
            let needed = needed(index, need, &paid);
            match left.0.checked_sub(needed) {
                Some(rest) => {
                    left.0 = rest;
                    lists.pay(index, &mut paid);
                }
                None => drop(refused.insert(index, room.issue(node, owner, needed, *left))),
            }
        }
    }
    refused
}

/// Lists of rules that there are on a node, as rules pay for them: each has an entry for each rule in it.
///
/// A rule for all pods is in every list, and how many there are is the doing of whoever writes rules for some of these pods. So rules
/// of those who are trusted pay for the lists that there would be without any others, and others for the copies of them too.
#[derive(Debug, Default)]
struct Lists {
    /// Of each rule, in how many lists it is counted.
    of: BTreeMap<u32, usize>,
    /// By rule of a namespace: lists that it is in together with trusted ones.
    mixed: BTreeMap<u32, Vec<usize>>,
    /// How many of these are in each.
    copies: Vec<usize>,
}

impl Lists {
    fn of(chains: &[Vec<u32>], is_trusted: impl Fn(u32) -> bool) -> Self {
        let mut lists = Self::default();
        let mut alone: BTreeSet<Vec<u32>> = BTreeSet::new();
        for chain in chains {
            let (trusted, others): (Vec<u32>, Vec<u32>) = chain.iter().partition(|rule| is_trusted(**rule));
            for &rule in &others {
                *lists.of.entry(rule).or_default() += 1;
            }
            if !trusted.is_empty() && !others.is_empty() {
                for rule in others {
                    lists.mixed.entry(rule).or_default().push(lists.copies.len());
                }
                lists.copies.push(trusted.len());
            }
            alone.insert(trusted);
        }
        for rule in alone.into_iter().flatten() {
            *lists.of.entry(rule).or_default() += 1;
        }
        lists
    }

    /// Entries that `rule` takes in lists, beside what is paid for: copies in a list are paid for once, by its first rule that stays.
    fn needed(&self, rule: u32, paid: &BTreeSet<usize>) -> usize {
        let mixed = self.mixed.get(&rule).into_iter().flatten().filter(|list| !paid.contains(*list));
        let copies = mixed.filter_map(|list| self.copies.get(*list)).sum::<usize>();
        self.of.get(&rule).copied().unwrap_or_default() + copies
    }

    /// Pays for the lists that `rule` is in.
    fn pay(&self, rule: u32, paid: &mut BTreeSet<usize>) {
        paid.extend(self.mixed.get(&rule).into_iter().flatten());
    }
}

/// Namespaces that are not the operator's share what that leaves: who wants less than the others have each gets it all. As what is
/// left, which is all at first, and all.
fn shares<'a>(room: usize, wanted: &[(u32, Owner<'a>, usize)]) -> BTreeMap<Owner<'a>, (usize, usize)> {
    let mut wants: BTreeMap<Owner<'a>, usize> = BTreeMap::new();
    for (_, owner, needed) in wanted {
        *wants.entry(*owner).or_default() += needed;
    }
    let mut by_size: BTreeSet<(bool, usize, Owner<'a>)> =
        wants.into_iter().map(|(owner, wants)| (owner.is_some(), wants, owner)).collect();
    let (mut free, mut shares) = (room, BTreeMap::new());
    while let Some((tenant, wants, owner)) = by_size.pop_first() {
        let most = if tenant { free / (by_size.len() + 1) } else { free };
        let share = wants.min(most);
        free -= share;
        shares.insert(owner, (share, share));
    }
    shares
}

impl Room {
    fn of_node(self, limits: &Limits) -> usize {
        match self {
            Self::Tags => limits.tags_of_node,
            Self::Entries => limits.entries_of_node,
        }
    }

    fn issue(self, node: &str, owner: Owner<'_>, needed: usize, (left, all): (usize, usize)) -> Issue {
        let of = owner.map(|namespace| format!(" of namespace {namespace}")).unwrap_or_default();
        let message = match self {
            Self::Tags => format!(
                "the rules before it leave {left} of the {all} numbers by which node {node} tells flows{of} apart, and it takes \
                 {needed}: join rules that differ only in source, destination or service"
            ),
            Self::Entries => format!(
                "it comes to {needed} entries of the table of node {node}, and the rules before it leave {left} of the {all} that \
                 rules{of} may have there: name fewer services and networks, or select pods of one node in fewer different ways"
            ),
        };
        issue(Reason::TooMany, "spec", message)
    }
}
