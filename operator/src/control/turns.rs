//! How often the API server is asked about tokens: so much at once in all, less for one address, and after a bad token a pause.
//!
//! What stands in a token that nobody has checked proves nothing, so it does not choose who is asked about.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Questions under way in all. The operator's Lease goes over the same client, with the same share of the API server.
const AT_ONCE: usize = 32;
/// Questions under way for one address: agents of one node have one; of many behind one address each waits a few milliseconds.
const OF_ADDRESS: usize = 4;
/// How long an address has a place less after each token that was not good.
const PAUSE: Duration = Duration::from_secs(1);

/// Places to ask.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// Addresses for which one waits or asks.
    by: Mutex<BTreeMap<IpAddr, Arc<Semaphore>>>,
}

/// A place to ask. Dropped, it is kept from its address for a while: also whoever does not wait for the answer has asked.
#[derive(Debug)]
pub(super) struct Turn {
    of_address: Option<OwnedSemaphorePermit>,
    _in_all: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_ONCE)), by: Mutex::default() }
    }
}

impl Turns {
    /// Waits for a place. `None` does not happen: nothing closes these semaphores.
    pub(super) async fn wait(&self, address: IpAddr) -> Option<Turn> {
        let theirs = {
            let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever waits or asks has a share.
            by.retain(|_, theirs| Arc::strong_count(theirs) > 1);
            Arc::clone(by.entry(address).or_insert_with(|| Arc::new(Semaphore::new(OF_ADDRESS))))
        };
        let of_address = theirs.acquire_owned().await.ok()?;
        let in_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { of_address: Some(of_address), _in_all: in_all })
    }
}

impl Turn {
    /// The token was good: whoever waits next may ask at once.
    pub(super) fn pass_on(mut self) {
        self.of_address = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Without a runtime nobody asks any more.
        if let (Some(place), Ok(runtime)) = (self.of_address.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                tokio::time::sleep(PAUSE).await;
                drop(place);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::FutureExt as _;
    use tokio::time::Instant;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// As many as come at once.
    fn at_once(turns: &Turns, last: u8) -> Vec<Turn> {
        std::iter::from_fn(|| turns.wait(address(last)).now_or_never().flatten()).collect()
    }

    #[tokio::test]
    async fn an_address_has_four_places_and_all_together_thirty_two() {
        let turns = Turns::default();
        let mut taken: Vec<_> = (0..10).map(|last| at_once(&turns, last)).collect();
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 4, 4, 4, 0, 0]);
        taken.drain(1..).flatten().for_each(Turn::pass_on);
        assert_eq!((at_once(&turns, 0).len(), at_once(&turns, 9).len()), (0, 4));
        taken.drain(..).flatten().for_each(Turn::pass_on);
        let again = at_once(&turns, 0);
        assert_eq!(again.len(), 4);
        again.into_iter().for_each(Turn::pass_on);
        drop(turns.wait(address(1)).await);
        let known: Vec<_> = turns.by.lock().unwrap().keys().copied().collect();
        assert_eq!(known, [address(1), address(9)], "those whose tokens were not good; the others are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_token_that_was_not_good_its_address_waits_and_no_other() {
        let (turns, began) = (Turns::default(), Instant::now());
        drop(at_once(&turns, 1));
        assert_eq!((at_once(&turns, 1).len(), at_once(&turns, 2).len()), (0, 4));
        turns.wait(address(1)).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), PAUSE.as_secs());
    }
}
