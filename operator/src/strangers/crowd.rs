//! Connections of nobody in particular, by where they come from: when there are too many, whoever has most of them loses the oldest.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Closing, Limit};

/// All of them. A clone is the same.
#[derive(Debug, Clone)]
pub(crate) struct Crowd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Whose connections, for the log.
    what: &'static str,
    most: AtomicUsize,
    table: Mutex<Table>,
    closed: Limit,
}

#[derive(Debug, Default)]
struct Table {
    /// Number of the next.
    next: u64,
    count: usize,
    /// Of each address, by number: the oldest first.
    by: BTreeMap<IpAddr, BTreeMap<u64, One>>,
}

#[derive(Debug)]
struct One {
    closing: Arc<Closing>,
    until: Instant,
}

/// One of the crowd, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Crowd,
    address: IpAddr,
    number: u64,
}

impl Crowd {
    /// At most so many; `what` they are is said in the log.
    pub(crate) fn new(what: &'static str, most: usize) -> Self {
        let most = AtomicUsize::new(most);
        Self(Arc::new(Inner { what, most, table: Mutex::default(), closed: Limit::default() }))
    }

    /// From now on there may be so many.
    pub(crate) fn holds(&self, most: usize) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// One more from `address`, to be closed after `lasts` at the latest (see `expire`). Where there are too many, one makes room.
    pub(crate) fn enter(&self, address: IpAddr, closing: &Arc<Closing>, lasts: Duration) -> Place {
        if self.lock().count >= self.0.most.load(Ordering::Relaxed) {
            self.evict("there are too many, and most of them are from this address");
        }
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        table.count += 1;
        let one = One { closing: Arc::clone(closing), until: Instant::now() + lasts };
        table.by.entry(address).or_default().insert(number, one);
        Place { crowd: self.clone(), address, number }
    }

    /// Closes the oldest one of the address that has most, of two such the older one. An agent has one, which is young.
    pub(crate) fn evict(&self, why: &str) {
        let mut table = self.lock();
        let most = table.by.iter().max_by_key(|(_, theirs)| (theirs.len(), Reverse(theirs.keys().next())));
        let Some((address, Some(number))) = most.map(|(address, theirs)| (*address, theirs.keys().next().copied()))
        else {
            return;
        };
        self.close(&mut table, address, number, why);
    }

    /// Closes those whose time is over.
    pub(crate) fn expire(&self, why: &str) {
        let (mut table, now) = (self.lock(), Instant::now());
        let theirs = |(address, theirs): (&IpAddr, &BTreeMap<u64, One>)| {
            let over = theirs.iter().filter(|(_, one)| one.until <= now);
            over.map(|(number, _)| (*address, *number)).collect::<Vec<_>>()
        };
        for (address, number) in table.by.iter().flat_map(theirs).collect::<Vec<_>>() {
            self.close(&mut table, address, number, why);
        }
    }

    fn close(&self, table: &mut Table, address: IpAddr, number: u64, why: &str) {
        let Some(one) = table.take(address, number) else { return };
        one.closing.close();
        if let Some(untold) = self.0.closed.tell() {
            tracing::warn!(%address, untold, "{} closed: {why}", self.0.what);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, address: IpAddr, number: u64) -> Option<One> {
        let theirs = self.by.get_mut(&address)?;
        let one = theirs.remove(&number)?;
        if theirs.is_empty() {
            self.by.remove(&address);
        }
        self.count -= 1;
        Some(one)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.crowd.lock().take(self.address, self.number));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::FutureExt as _;

    use super::*;

    /// A crowd of four at most, and a connection from each of these addresses.
    fn crowd(from: &[u8]) -> (Crowd, Vec<(Arc<Closing>, Place)>) {
        let crowd = Crowd::new("a connection", 4);
        let entered = from.iter().map(|last| enter(&crowd, *last)).collect();
        (crowd, entered)
    }

    fn enter(crowd: &Crowd, last: u8) -> (Arc<Closing>, Place) {
        let closing = Arc::default();
        let place = crowd.enter(Ipv4Addr::new(10, 0, 0, last).into(), &closing, Duration::from_secs(15));
        (closing, place)
    }

    /// Which of them were told to close.
    fn closed(entered: &[(Arc<Closing>, Place)]) -> Vec<usize> {
        let told = entered.iter().enumerate().filter(|(_, (closing, _))| closing.wait().now_or_never().is_some());
        told.map(|(index, _)| index).collect()
    }

    #[tokio::test]
    async fn who_has_most_loses_the_oldest_and_what_has_ended_is_forgotten() {
        let (crowd, mut entered) = crowd(&[1, 2, 2, 3]);
        assert_eq!(closed(&entered), [0; 0]);
        entered.push(enter(&crowd, 4));
        assert_eq!(closed(&entered), [1], "the older one of the address that has two");
        entered.push(enter(&crowd, 4));
        assert_eq!(closed(&entered), [0, 1], "each had one, and this one was the oldest");
        crowd.evict("a test");
        assert_eq!(closed(&entered), [0, 1, 4]);
        drop(entered);
        let table = crowd.lock();
        assert_eq!((table.count, table.by.len()), (0, 0));
    }

    #[tokio::test]
    async fn where_more_may_come_nobody_loses_his_place_to_them() {
        let (crowd, mut entered) = crowd(&[1, 2, 3, 4]);
        crowd.holds(5);
        entered.push(enter(&crowd, 5));
        assert_eq!(closed(&entered), [0; 0]);
        entered.push(enter(&crowd, 6));
        assert_eq!(closed(&entered), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stays_too_long_is_closed_and_nobody_else() {
        let (crowd, mut entered) = crowd(&[1, 1]);
        drop(entered.remove(0));
        tokio::time::advance(Duration::from_secs(10)).await;
        entered.push(enter(&crowd, 2));
        tokio::time::advance(Duration::from_secs(5)).await;
        crowd.expire("a test");
        assert_eq!((closed(&entered), crowd.lock().count), (vec![0], 1));
    }
}
