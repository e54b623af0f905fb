//! Handshakes under way, by where they come from: when there are too many, whoever has most of them loses the oldest.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Handshakes under way. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// Number of the next.
    next: u64,
    count: usize,
    /// Of each address, by number: the oldest first.
    by: BTreeMap<IpAddr, BTreeMap<u64, AbortHandle>>,
}

impl Pending {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    /// Starts one from `address`: `start` is given its number and starts the task.
    pub(super) fn add(&self, address: IpAddr, start: impl FnOnce(u64) -> AbortHandle) {
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        table.count += 1;
        let task = start(number);
        table.by.entry(address).or_default().insert(number, task);
    }

    /// One has ended by itself.
    pub(super) fn remove(&self, address: IpAddr, number: u64) {
        self.lock().take(address, number);
    }

    /// Ends the oldest one of the address that has most, of two such the older one; that address. An agent has one, which is young.
    pub(super) fn evict(&self) -> Option<IpAddr> {
        let mut table = self.lock();
        let (address, theirs) =
            table.by.iter().max_by_key(|(_, theirs)| (theirs.len(), Reverse(theirs.keys().next())))?;
        let (address, number) = (*address, *theirs.keys().next()?);
        table.take(address, number)?.abort();
        Some(address)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, address: IpAddr, number: u64) -> Option<AbortHandle> {
        let theirs = self.by.get_mut(&address)?;
        let task = theirs.remove(&number)?;
        if theirs.is_empty() {
            self.by.remove(&address);
        }
        self.count -= 1;
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn who_has_most_loses_the_oldest_and_what_has_ended_is_forgotten() {
        let (pending, mut tasks) = (Pending::default(), Vec::new());
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        for last in [1, 2, 2, 2, 3] {
            let task = tokio::spawn(std::future::pending::<()>());
            pending.add(address(last), |_| task.abort_handle());
            tasks.push(task);
        }
        assert_eq!(pending.evict(), Some(address(2)));
        assert!((&mut tasks[1]).await.unwrap_err().is_cancelled());
        assert_eq!(pending.evict(), Some(address(2)));
        assert!((&mut tasks[2]).await.unwrap_err().is_cancelled());
        assert_eq!((pending.count(), tasks[3].is_finished()), (3, false));
        assert_eq!(pending.evict(), Some(address(1)), "each has one, and this one is the oldest");
        for (last, number) in [(1, 0), (2, 1), (2, 3), (3, 4)] {
            pending.remove(address(last), number);
        }
        assert_eq!((pending.count(), pending.evict()), (0, None));
    }
}
