//! Which conntrack deletions cover a set of tags: few, because each walks the whole table of flows.

use std::collections::BTreeSet;

use super::options::TAG_BITS;

/// Blocks of tags as (first tag, prefix length in bits) that together cover all of `gone` and none of `live`. Tags in
/// neither have no flows, so a block may cover them. Tag 0 is no tag and always lives.
pub(super) fn blocks(gone: &BTreeSet<u16>, live: &BTreeSet<u16>) -> Vec<(u16, u32)> {
    let mut found = Vec::new();
    split(0, 0, gone, live, &mut found);
    found
}

fn split(first: u16, length: u32, gone: &BTreeSet<u16>, live: &BTreeSet<u16>, found: &mut Vec<(u16, u32)>) {
    let size = 1u16 << (TAG_BITS - length);
    let block = first..=first + (size - 1);
    if gone.range(block.clone()).next().is_none() {
        return;
    }
    if first != 0 && live.range(block).next().is_none() {
        return found.push((first, length));
    }
    if length < TAG_BITS {
        split(first, length + 1, gone, live, found);
        split(first + size / 2, length + 1, gone, live, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tags_are_covered_by_eleven_blocks_that_spare_untagged_flows() {
        let all = (1..=2047).collect();
        let expected: Vec<(u16, u32)> = (0..11).map(|bit| (1 << bit, TAG_BITS - bit)).collect();
        assert_eq!(blocks(&all, &BTreeSet::new()), expected);
    }

    #[test]
    fn a_block_covers_every_gone_tag_and_no_live_one() {
        let gone: BTreeSet<u16> = [2, 3, 4, 700, 701, 2046].into();
        let live: BTreeSet<u16> = [1, 5, 702, 2047].into();
        let covered: BTreeSet<u16> = blocks(&gone, &live)
            .into_iter()
            .flat_map(|(first, length)| first..=first + ((1u16 << (TAG_BITS - length)) - 1))
            .collect();
        assert!(gone.is_subset(&covered), "{covered:?}");
        assert!(covered.is_disjoint(&live) && !covered.contains(&0), "{covered:?}");
    }

    #[test]
    fn nothing_gone_needs_no_deletion() {
        assert_eq!(blocks(&BTreeSet::new(), &[1, 2].into()), []);
    }
}
