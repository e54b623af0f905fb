//! Log lines that packets cause, held down to one in a while: writing each would stop the packets behind it.

use callgate_pptp::Now;

/// Between two lines of the same kind, ms.
const PAUSE: u64 = 5_000;

/// One kind of line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seldom {
    next: Option<Now>,
    held: u64,
}

impl Seldom {
    /// Whether a line may be written now, with how many were held back since the last one.
    pub(crate) fn due(&mut self, now: Now) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.held += 1;
            return None;
        }
        self.next = Some(now.after(PAUSE));
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_written_and_the_next_after_a_pause_with_the_number_held_back() {
        let mut seldom = Seldom::default();
        let at = [0, 1, 4_999, 5_000, 5_001, 60_000];
        assert_eq!(at.map(|ms| seldom.due(Now(ms))), [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
