//! Whether servers answer by links that nobody reads: the kernel drops its copies of what the ALG should have had.

use std::sync::PoisonError;

use super::SharedKernel;
use crate::alg::Handle;

/// Copies dropped between two looks from which on it is no accident.
const SOME: u64 = 3;

/// What may be under way between the two counts is less than this part of what has come: it is a minute's.
const SHARE: u64 = 4;

/// Who listens for that.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// Copies dropped and packets heard at the last look.
    before: Option<(u64, u64)>,
    /// Looks in a row at which packets were missing.
    lacked: u32,
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
    /// hear that more copies were dropped than packets have come: at once where none has, else at the second look in a row; and once, until
    /// all that was dropped has come.
    fn is_news(&mut self, copies: u64, heard: u64) -> bool {
        // An agent before may have left some.
        let Some((copies_before, heard_before)) = self.before.replace((copies, heard)) else { return false };
        // Chains that are made anew begin anew.
        let dropped = copies.checked_sub(copies_before).unwrap_or(copies);
        let came = heard.saturating_sub(heard_before);
        // Each packet that comes by a tap leaves a copy, but the two are not counted at the same moment.
        let lacks = dropped.saturating_sub(came) >= SOME.max(came / SHARE);
        if !lacks {
            self.lacked = 0;
            self.told &= came == 0;
            return false;
        }
        self.lacked += 1;
        let news = (came == 0 || self.lacked > 1) && !self.told;
        self.told |= news;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<const N: usize>(looks: [(u64, u64); N]) -> [bool; N] {
        let mut unheard = Unheard::default();
        looks.map(|(copies, heard)| unheard.is_news(copies, heard))
    }

    #[test]
    fn it_is_said_once_that_copies_are_dropped_while_nothing_comes_until_all_has_come() {
        let looks = [(7, 0), (9, 9), (9, 9), (11, 9), (20, 9), (30, 9), (40, 10), (50, 20), (60, 20), (2, 20), (3, 20)];
        assert_eq!(said(looks), [false, false, false, false, true, false, false, false, true, false, false]);
    }

    #[test]
    fn a_server_that_is_not_heard_is_told_of_though_another_one_is() {
        assert_eq!(said([(0, 0), (20, 5), (40, 10), (60, 15)]), [false, false, true, false]);
    }

    #[test]
    fn what_is_under_way_between_the_two_counts_is_no_server_that_is_not_heard() {
        assert_eq!(said([(0, 0), (9_000, 8_000), (18_000, 16_000), (18_010, 16_001), (18_020, 16_011)]), [false; 5]);
    }
}
