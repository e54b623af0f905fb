//! "Did you mean": the known name that is closest to a mistyped one.

/// The candidate that differs least from `written`, if it is close enough to be meant: the same but for letter case and
/// signs, or with at most a third of its letters wrong. The first wins among equals.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = fold(written);
    candidates
        .into_iter()
        .map(|candidate| (distance(&plain, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.chars().count().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters and digits alone, in lower case: `alg-ref` and `AlgRef` are the same mistake.
fn fold(name: &str) -> Vec<char> {
    // Longer names are no typing mistakes, and the distance costs the product of the lengths.
    name.chars().filter(|letter| letter.is_alphanumeric()).take(64).flat_map(char::to_lowercase).collect()
}

/// Levenshtein distance: insertions, deletions and substitutions from one to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.iter().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (column, other) in to.iter().enumerate() {
            let above = row.get(column + 1).copied().unwrap_or_default();
            let best = (diagonal + usize::from(letter != other)).min(left + 1).min(above + 1);
            if let Some(cell) = row.get_mut(column) {
                *cell = left;
            }
            diagonal = above;
            left = best;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_the_one_that_was_meant() {
        let fields = ["protocol", "sourcePorts", "destinationPorts", "members", "algRef"];
        let meant = |written| nearest(written, fields);
        assert_eq!(meant("protcol"), Some("protocol"));
        assert_eq!(meant("destinationPort"), Some("destinationPorts"));
        assert_eq!(meant("alg_ref"), Some("algRef"));
        assert_eq!(meant("source-ports"), Some("sourcePorts"));
        assert_eq!(meant("colour"), None);
        assert_eq!(meant(""), None);
    }

    #[test]
    fn the_distance_counts_single_letter_changes() {
        let count = |from: &str, to: &str| distance(&fold(from), &fold(to));
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", ""), 3);
        assert_eq!(count("same", "same"), 0);
    }
}
