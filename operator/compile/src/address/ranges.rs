//! A set of IPv4 addresses as sorted, disjoint, non-adjacent ranges.
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::steps::Steps;

/// A set of IPv4 addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// The union of `nets`; host bits are ignored.
    pub(crate) fn of(nets: &[Ipv4Net]) -> Self {
        let mut all: Vec<(u32, u32)> =
            nets.iter().map(|net| (u32::from(net.network()), u32::from(net.broadcast()))).collect();
        all.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match merged.last_mut() {
                // saturating: a range that ends at 255.255.255.255 swallows everything after it.
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                Some(_) | None => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// Without the addresses of `other`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut cuts = other.0.iter().peekable();
        for &(first, last) in &self.0 {
            while cuts.next_if(|cut| cut.1 < first).is_some() {}
            let mut from = Some(first);
            // A cut may reach into the next range as well, so it is only looked at, not taken.
            for &(cut_first, cut_last) in cuts.clone() {
                let Some(start) = from else { break };
                if cut_first > last {
                    break;
                }
                if cut_first > start {
                    left.push((start, cut_first - 1));
                }
                from = cut_last.checked_add(1).filter(|&next| next <= last);
            }
            if let Some(start) = from {
                left.push((start, last));
            }
        }
        Self(left)
    }

    /// Whether there is no address in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every address of it is in `other`.
    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        self.is_subset_in(other, &mut Steps::endless())
    }

    /// The same, and says how long it took.
    pub(crate) fn is_subset_in(&self, other: &Self, steps: &mut Steps) -> bool {
        self.0.iter().all(|&(first, last)| {
            steps.take(1);
            let after = other.0.partition_point(|range| range.0 <= first);
            after.checked_sub(1).and_then(|index| other.0.get(index)).is_some_and(|range| last <= range.1)
        })
    }

    /// The fewest CIDR blocks that make the set, sorted.
    pub(crate) fn blocks(&self) -> Vec<Ipv4Net> {
        let mut blocks = Vec::new();
        for &(first, last) in &self.0 {
            push_blocks(first, last, &mut blocks);
        }
        blocks
    }
}

/// Appends the fewest blocks that make `first..=last`: at each step the largest that is aligned and still fits.
pub(super) fn push_blocks(first: u32, last: u32, blocks: &mut Vec<Ipv4Net>) {
    let mut next = u64::from(first);
    let end = u64::from(last) + 1;
    while next < end {
        let aligned = if next == 0 { 32 } else { next.trailing_zeros().min(32) };
        let fits = (end - next).ilog2();
        let bits = aligned.min(fits);
        // `next` is below 2^32 here and `bits` at most 32, so neither conversion loses anything.
        let address = Ipv4Addr::from(u32::try_from(next).unwrap_or(u32::MAX));
        let prefix = 32 - u8::try_from(bits).unwrap_or(0);
        if let Ok(block) = Ipv4Net::new(address, prefix) {
            blocks.push(block);
        }
        next += 1u64 << bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_whole_space_minus_one_address_is_thirty_two_blocks() {
        let all = Ranges::of(&nets(&["0.0.0.0/0"]));
        let blocks = all.minus(&Ranges::of(&nets(&["255.255.255.255/32"]))).blocks();
        assert_eq!(blocks.len(), 32);
        assert_eq!(blocks[0], "0.0.0.0/1".parse::<Ipv4Net>().unwrap());
        assert_eq!(blocks[31], "255.255.255.254/32".parse::<Ipv4Net>().unwrap());
    }

    #[test]
    fn adjacent_blocks_become_one() {
        assert_eq!(Ranges::of(&nets(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7/32"])).blocks(), nets(&["10.0.0.0/23"]));
    }

    #[test]
    fn one_cut_over_several_ranges_cuts_each_of_them() {
        let set = Ranges::of(&nets(&["10.0.0.0/30", "10.0.0.8/30", "10.0.0.16/30"]));
        let cut = Ranges::of(&nets(&["10.0.0.2/31", "10.0.0.4/30", "10.0.0.8/29"]));
        assert_eq!(set.minus(&cut).blocks(), nets(&["10.0.0.0/31", "10.0.0.16/30"]));
    }

    /// Blocks in the last 64 addresses, so that every address can be tried and the end of the space is met.
    fn small_nets() -> impl Strategy<Value = Vec<Ipv4Net>> {
        proptest::collection::vec((0u32..64, 26u8..=32), 0..8).prop_map(|all| {
            all.into_iter()
                .map(|(low, prefix)| Ipv4Net::new(Ipv4Addr::from(0xffff_ffc0 | low), prefix).unwrap().trunc())
                .collect()
        })
    }

    fn members(nets: &[Ipv4Net]) -> Vec<bool> {
        (0u32..64).map(|low| nets.iter().any(|net| net.contains(&Ipv4Addr::from(0xffff_ffc0 | low)))).collect()
    }

    proptest! {
        #[test]
        fn sets_agree_with_address_by_address_membership(a in small_nets(), b in small_nets()) {
            let (left, right) = (Ranges::of(&a), Ranges::of(&b));
            prop_assert_eq!(members(&left.blocks()), members(&a));
            let expected: Vec<bool> = members(&a).iter().zip(members(&b)).map(|(a, b)| *a && !b).collect();
            let difference = left.minus(&right);
            prop_assert_eq!(members(&difference.blocks()), expected.clone());
            prop_assert_eq!(difference.is_empty(), !expected.contains(&true));
            let subset = members(&a).iter().zip(members(&b)).all(|(a, b)| !*a || b);
            prop_assert_eq!(left.is_subset(&right), subset);
        }

        #[test]
        fn blocks_are_sorted_disjoint_and_the_fewest(a in small_nets()) {
            let blocks = Ranges::of(&a).blocks();
            prop_assert!(blocks.windows(2).all(|w| w[0].broadcast() < w[1].network()));
            prop_assert_eq!(Ipv4Net::aggregate(&blocks), blocks);
        }
    }
}
