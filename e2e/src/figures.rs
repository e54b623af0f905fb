//! What many measured values come to.

/// The value below which `percent` of them are, of values in order; the last for 100.
///
/// # Panics
/// If there are none.
pub fn percentile<T: Copy>(sorted: &[T], percent: usize) -> T {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_value_of_the_list() {
        let values: Vec<u32> = (0..200).collect();
        assert_eq!([0, 50, 99, 100].map(|percent| percentile(&values, percent)), [0, 100, 198, 199]);
        assert_eq!([0, 50, 100].map(|percent| percentile(&[7], percent)), [7, 7, 7]);
    }
}
