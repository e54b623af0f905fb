//! The partition of the address space: who can match a source, block by block.
//!
//! CIDRs are either nested or apart, so they form a forest. Walking it in address order, a block's list is its
//! parent's and its own; what its children take is cut out of it.
use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::ranges::push_blocks;
use super::{ListId, Lists};

/// Sorted, disjoint blocks, each with an index into the distinct, sorted lists of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Partition {
    /// Distinct lists, sorted; each ascending, none empty.
    pub(crate) chains: Vec<Vec<u32>>,
    /// Blocks, sorted and disjoint, with their list.
    pub(crate) blocks: Vec<(Ipv4Net, u32)>,
}

/// A block that is open in the walk: addresses from `next` on to the end of `net` are still to be given out.
struct Open {
    last: u32,
    /// `None` when the block reached the end of the address space.
    next: Option<u32>,
    list: ListId,
}

/// An inclusive range of addresses and its list.
struct Piece {
    first: u32,
    last: u32,
    list: ListId,
}

/// Partitions the address space by `selected`: which lists of rules select which block. A block may come more than
/// once, in any order.
///
/// A `/32` (a pod) stays one block, whatever its neighbours, so that a changed pod is one changed element; it vanishes
/// in a network around it that already has every rule of it. Larger blocks with equal lists are merged.
pub(crate) fn partition(lists: &mut Lists, mut selected: Vec<(Ipv4Net, ListId)>) -> Partition {
    selected.sort_unstable_by_key(|(net, list)| (net.network(), net.prefix_len(), *list));
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for group in selected.chunk_by(|a, b| a.0 == b.0) {
        let Some(&(net, first_list)) = group.first() else { continue };
        let own = group.iter().fold(first_list, |sum, (_, list)| lists.union(sum, *list));
        let first = u32::from(net.network());
        let last = u32::from(net.broadcast());
        close(&mut open, Some(first), &mut pieces);
        let list = open.last().map_or(own, |parent| lists.union(parent.list, own));
        if let Some(parent) = open.last_mut() {
            if parent.list == list {
                continue;
            }
            if let Some(next) = parent.next.filter(|&next| next < first) {
                pieces.push(Piece { first: next, last: first - 1, list: parent.list });
            }
            parent.next = last.checked_add(1);
        }
        open.push(Open { last, next: Some(first), list });
    }
    close(&mut open, None, &mut pieces);
    finish(lists, merge(pieces))
}

/// Closes the blocks that end before `upto` (all of them for `None`) and gives out what is left of them.
fn close(open: &mut Vec<Open>, upto: Option<u32>, pieces: &mut Vec<Piece>) {
    while let Some(block) = open.pop_if(|block| upto.is_none_or(|upto| block.last < upto)) {
        if let Some(next) = block.next.filter(|&next| next <= block.last) {
            pieces.push(Piece { first: next, last: block.last, list: block.list });
        }
    }
}

/// Merges neighbours with equal lists, but never a single address.
fn merge(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut merged: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match merged.last_mut() {
            Some(before)
                if before.last.checked_add(1) == Some(piece.first)
                    && before.list == piece.list
                    && before.first != before.last
                    && piece.first != piece.last =>
            {
                before.last = piece.last;
            }
            Some(_) | None => merged.push(piece),
        }
    }
    merged
}

/// Cuts pieces into CIDRs and numbers the lists they use in sorted order.
fn finish(lists: &Lists, pieces: Vec<Piece>) -> Partition {
    let used: BTreeSet<ListId> = pieces.iter().map(|piece| piece.list).collect();
    let mut sorted: Vec<(&[u32], ListId)> = used.into_iter().map(|id| (lists.get(id), id)).collect();
    sorted.sort_unstable();
    let numbers: BTreeMap<ListId, u32> = sorted.iter().map(|(_, id)| *id).zip(0u32..).collect();
    let mut blocks = Vec::with_capacity(pieces.len());
    let mut nets = Vec::new();
    for piece in pieces {
        nets.clear();
        push_blocks(piece.first, piece.last, &mut nets);
        let chain = numbers.get(&piece.list).copied().unwrap_or_default();
        blocks.extend(nets.iter().map(|net| (*net, chain)));
    }
    Partition { chains: sorted.into_iter().map(|(list, _)| list.to_vec()).collect(), blocks }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use proptest::prelude::*;

    /// As the product does it, with one list for each rule.
    fn partition(selected: Vec<(Ipv4Net, u32)>) -> Partition {
        let mut lists = Lists::default();
        let selected = selected.into_iter().map(|(net, rule)| (net, lists.id(vec![rule]))).collect();
        super::partition(&mut lists, selected)
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn nested_networks_add_their_rules_and_are_cut_out_of_the_one_around_them() {
        let made = partition(vec![(net("10.0.0.0/24"), 1), (net("10.0.0.64/26"), 0), (net("10.0.0.65/32"), 2)]);
        assert_eq!(
            made,
            Partition {
                chains: vec![vec![0, 1], vec![0, 1, 2], vec![1]],
                blocks: vec![
                    (net("10.0.0.0/26"), 2),
                    (net("10.0.0.64/32"), 0),
                    (net("10.0.0.65/32"), 1),
                    (net("10.0.0.66/31"), 0),
                    (net("10.0.0.68/30"), 0),
                    (net("10.0.0.72/29"), 0),
                    (net("10.0.0.80/28"), 0),
                    (net("10.0.0.96/27"), 0),
                    (net("10.0.0.128/25"), 2),
                ],
            }
        );
    }

    #[test]
    fn two_pods_side_by_side_stay_two_elements_and_two_networks_become_one() {
        let pods = partition(vec![(net("10.0.0.2/32"), 0), (net("10.0.0.3/32"), 0)]);
        assert_eq!(pods.blocks, vec![(net("10.0.0.2/32"), 0), (net("10.0.0.3/32"), 0)]);
        let nets = partition(vec![(net("10.0.0.0/25"), 0), (net("10.0.0.128/25"), 0)]);
        assert_eq!(nets.blocks, vec![(net("10.0.0.0/24"), 0)]);
    }

    #[test]
    fn a_pod_that_its_network_already_covers_cuts_nothing() {
        let made = partition(vec![(net("10.0.0.0/8"), 3), (net("10.1.2.3/32"), 3)]);
        assert_eq!(made, Partition { chains: vec![vec![3]], blocks: vec![(net("10.0.0.0/8"), 0)] });
    }

    #[test]
    fn the_whole_space_and_its_last_address_can_be_given_out() {
        let made = partition(vec![(net("0.0.0.0/0"), 0), (net("255.255.255.255/32"), 1)]);
        assert_eq!(made.blocks.len(), 33);
        assert_eq!(made.blocks.last(), Some(&(net("255.255.255.255/32"), 1)));
        assert_eq!(made.chains, vec![vec![0], vec![0, 1]]);
    }

    fn small() -> impl Strategy<Value = Vec<(Ipv4Net, u32)>> {
        proptest::collection::vec((0u32..64, 26u8..=32, 0u32..5), 0..14).prop_map(|all| {
            all.into_iter()
                .map(|(low, prefix, rule)| {
                    (Ipv4Net::new(Ipv4Addr::from(0xffff_ffc0 | low), prefix).unwrap().trunc(), rule)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_address_has_exactly_the_rules_that_select_it(selected in small()) {
            let made = partition(selected.clone());
            for low in 0u32..64 {
                let address = Ipv4Addr::from(0xffff_ffc0 | low);
                let mut expected: Vec<u32> =
                    selected.iter().filter(|(net, _)| net.contains(&address)).map(|(_, rule)| *rule).collect();
                expected.sort_unstable();
                expected.dedup();
                let found: Vec<&(Ipv4Net, u32)> = made.blocks.iter().filter(|(net, _)| net.contains(&address)).collect();
                prop_assert!(found.len() <= 1, "blocks overlap at {address}");
                let list = found.first().map(|(_, chain)| made.chains[*chain as usize].clone()).unwrap_or_default();
                prop_assert_eq!(list, expected);
            }
        }

        #[test]
        fn blocks_are_sorted_and_every_list_is_used_sorted_and_not_empty(selected in small()) {
            let made = partition(selected);
            prop_assert!(made.blocks.windows(2).all(|w| w[0].0.broadcast() < w[1].0.network()));
            prop_assert!(made.chains.windows(2).all(|w| w[0] < w[1]));
            prop_assert!(made.chains.iter().all(|list| !list.is_empty() && list.windows(2).all(|w| w[0] < w[1])));
            for chain in 0..made.chains.len() {
                prop_assert!(made.blocks.iter().any(|(_, used)| *used as usize == chain));
            }
        }

        #[test]
        fn order_of_input_does_not_matter(selected in small(), seed in any::<u64>()) {
            let mut shuffled = selected.clone();
            let len = shuffled.len().max(1) as u64;
            for i in 0..shuffled.len() {
                shuffled.swap(i, ((seed.rotate_left(i as u32 * 7)) % len) as usize);
            }
            prop_assert_eq!(partition(selected), partition(shuffled));
        }
    }
}
