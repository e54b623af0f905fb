//! Whether servers answer by links that nobody reads: the kernel drops its copies of what the ALG should have had.

use std::sync::PoisonError;

use super::SharedKernel;
use crate::alg::Handle;

/// Copies dropped between two looks from which on it is no accident.
const SOME: u64 = 3;

/// Who listens for that.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// Copies dropped and packets heard at the last look.
    before: Option<(u64, u64)>,
    told: bool,
}

impl Unheard {
    /// Looks, and tells people.
    pub(super) async fn look(&mut self, kernel: &SharedKernel, alg: &Handle) {
        let Some(totals) = alg.totals().await else { return };
        let ours = |name: &str| name == "rx_outside" || name == "rx_outside_overflow";
        let heard = totals.counters.iter().filter(|(name, _)| ours(name)).map(|(_, count)| count).sum();
        let counted =
            kernel.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(|own| own.kernel.alg_counters());
        // Whoever cannot be asked now is asked again.
        if let Some(Ok(counted)) = counted
            && self.is_news(counted.copies, heard)
        {
            tracing::warn!(
                "answers of servers are dropped: they come by a device that the ALG does not read, since no next hop of the route to \
                 the server is on it; name all external devices with --interface"
            );
        }
    }

    /// Counts since whenever: copies that the kernel has dropped, packets that have come by the taps. True when people are to
    /// hear of it, which is once until something has come again.
    fn is_news(&mut self, copies: u64, heard: u64) -> bool {
        // An agent before may have left some.
        let Some((copies_before, heard_before)) = self.before.replace((copies, heard)) else { return false };
        // Chains that are made anew begin anew.
        let dropped = copies.checked_sub(copies_before).unwrap_or(copies);
        let came = heard != heard_before;
        if came {
            self.told = false;
        }
        let news = dropped >= SOME && !came && !self.told;
        self.told |= news;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_that_copies_are_dropped_while_nothing_comes_until_something_has_come() {
        let mut unheard = Unheard::default();
        let looks = [(7, 0), (9, 9), (9, 9), (11, 9), (20, 9), (30, 9), (40, 10), (50, 10), (2, 10), (3, 10)];
        let said = looks.map(|(copies, heard)| unheard.is_news(copies, heard));
        assert_eq!(said, [false, false, false, false, true, false, false, true, false, false]);
    }
}
