//! Whether what is steered to the ALG is routed elsewhere: the kernel drops it then, and nothing else shows that PPTP cannot work.

use std::sync::PoisonError;

use super::SharedKernel;

/// Looks in a row without such a packet after which the next one is told of again: two minutes, since a client that gets no answer
/// says SYN again after a minute at last.
const QUIET: u32 = 24;

/// Who listens for that.
#[derive(Debug, Default)]
pub(super) struct Astray {
    /// Dropped until the last look.
    before: Option<u64>,
    /// Looks without one since people were told; `None` where there is nothing to wait for.
    quiet: Option<u32>,
}

impl Astray {
    /// Looks, and tells people.
    pub(super) fn look(&mut self, kernel: &SharedKernel) {
        let mut guard = kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = guard.as_mut() else { return };
        // Whoever cannot be asked now is asked again.
        let Ok(dropped) = own.kernel.steered_dropped() else { return };
        let last = own.kernel.options().rule_priority;
        drop(guard);
        if let Some(packets) = self.news(dropped) {
            tracing::warn!(
                packets,
                "packets of PPTP clients were dropped, since they were routed past the ALG: a routing rule of somebody else comes \
                 before ours, which are {} to {last} (`ip rule`): choose a --rule-priority before that one's; where ours or their \
                 route was missing for a moment, the log says so too",
                last - 4
            );
        }
    }

    /// How many more there are than at the last look, if people are to hear of it: once, until none has come for a while.
    fn news(&mut self, dropped: u64) -> Option<u64> {
        // An agent before may have left some.
        let before = self.before.replace(dropped)?;
        // A chain that is made anew begins anew.
        let more = dropped.checked_sub(before).unwrap_or(dropped);
        if more == 0 {
            self.quiet = self.quiet.map(|looks| looks + 1).filter(|looks| *looks < QUIET);
            return None;
        }
        self.quiet.replace(0).is_none().then_some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_that_steered_packets_are_dropped_until_none_has_been_for_a_while() {
        let mut astray = Astray::default();
        let mut said = |counts: &[u64]| counts.iter().map(|count| astray.news(*count)).collect::<Vec<_>>();
        assert_eq!(said(&[7, 7, 9, 9, 9, 30]), [None, None, Some(2), None, None, None]);
        assert_eq!(said(&[30; QUIET as usize - 1]), [None; QUIET as usize - 1]);
        assert_eq!(said(&[31]), [None], "it has not been quiet for long enough");
        assert_eq!(said(&[31; QUIET as usize]), [None; QUIET as usize]);
        assert_eq!(said(&[32, 33]), [Some(1), None]);
    }

    #[test]
    fn a_chain_that_is_made_anew_counts_from_nothing() {
        let mut astray = Astray::default();
        assert_eq!([9, 0, 3].map(|count| astray.news(count)), [None, None, Some(3)]);
    }
}
