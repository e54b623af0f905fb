//! How many of something there are for each name that limits it, how many of them each client has, and who may have one more.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::ids::one_less;

/// Counts by name: control connections by service, calls by ALG.
#[derive(Debug, Default)]
pub(crate) struct Shares(BTreeMap<String, Held>);

/// Those of one name.
#[derive(Debug, Default)]
struct Held {
    total: u32,
    clients: BTreeMap<Ipv4Addr, u32>,
}

/// Why a client may not have one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are as many as there may be.
    Limit(u32),
    /// Few are left, and the client has so many.
    Share(u32),
}

impl Shares {
    /// One more, of this client.
    pub(crate) fn add(&mut self, name: &str, client: Ipv4Addr) {
        // Names are few, and there before most of what they limit.
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), Held::default());
        }
        let Some(held) = self.0.get_mut(name) else { return };
        held.total += 1;
        *held.clients.entry(client).or_default() += 1;
    }

    /// One less, of whom it was added for.
    pub(crate) fn take_off(&mut self, name: &str, client: Ipv4Addr) {
        let Some(held) = self.0.get_mut(name) else { return };
        held.total = held.total.saturating_sub(1);
        one_less(&mut held.clients, &client);
        if held.total == 0 {
            self.0.remove(name);
        }
    }

    /// How many each client has of each name, for tests that look for leaks.
    pub(crate) fn all(&self) -> Vec<(String, Ipv4Addr, u32)> {
        let of = |(name, held): (&String, &Held)| {
            let name = name.clone();
            held.clients.iter().map(move |(client, count)| (name.clone(), *client, *count)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// How many this client has.
    pub(crate) fn own(&self, name: &str, client: Ipv4Addr) -> u32 {
        self.0.get(name).and_then(|held| held.clients.get(&client)).copied().unwrap_or_default()
    }

    /// Whether this client may have one more where there may be `max`, 0 being without limit.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn room(&self, name: &str, client: Ipv4Addr, max: u32) -> Result<(), Full> {
        let Some(held) = self.0.get(name).filter(|_| max != 0) else { return Ok(()) };
        if held.total >= max {
            return Err(Full::Limit(max));
        }
        let own = held.clients.get(&client).copied().unwrap_or_default();
        match has_its_share(max, held.total, own, held.clients.len() as u32) {
            true => Err(Full::Share(own)),
            false => Ok(()),
        }
    }
}

/// Whether a client that has `own` of the `used` of `max` must leave what is left to others; `clients` have some. Of the last quarter
/// nobody gets more than `max / clients`, so that one that asks for many leaves some to those that ask for one; and the last
/// sixteenth is for clients that have none.
fn has_its_share(max: u32, used: u32, own: u32, clients: u32) -> bool {
    let left = max.saturating_sub(used);
    own > 0 && (left <= max / 16 || left <= max / 4 && own >= max.div_ceil(clients.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a00_0000 + number)
    }

    fn total(shares: &Shares) -> u32 {
        shares.0.get("a").map_or(0, |held| held.total)
    }

    /// How many this client gets until it is refused, and why it is.
    fn takes(shares: &mut Shares, number: u32, max: u32) -> (u32, Full) {
        for taken in 0.. {
            match shares.room("a", client(number), max) {
                Ok(()) => shares.add("a", client(number)),
                Err(why) => return (taken, why),
            }
        }
        unreachable!("never full")
    }

    #[test]
    fn one_that_takes_all_it_gets_leaves_some_to_each_of_those_that_come_later() {
        let mut shares = Shares::default();
        assert_eq!(takes(&mut shares, 0, 200), (188, Full::Share(188)));
        let later: Vec<_> = (1..=13).map(|number| takes(&mut shares, number, 200)).collect();
        assert_eq!(later, [vec![(1, Full::Share(1)); 11], vec![(1, Full::Limit(200)), (0, Full::Limit(200))]].concat());
        // What it gives back others get.
        (0..40).for_each(|_| shares.take_off("a", client(0)));
        assert_eq!(
            (takes(&mut shares, 0, 200), takes(&mut shares, 13, 200)),
            ((0, Full::Share(148)), (15, Full::Share(15)))
        );
        assert_eq!(total(&shares), 175);
    }

    #[test]
    fn small_limits_can_be_used_up_by_one_and_no_limit_by_nobody() {
        let mut shares = Shares::default();
        assert_eq!(takes(&mut shares, 0, 8), (8, Full::Limit(8)));
        assert_eq!(shares.room("a", client(1), 0), Ok(()));
        (0..8).for_each(|_| shares.take_off("a", client(0)));
        assert_eq!((total(&shares), shares.0.len()), (0, 0));
    }

    #[test]
    fn what_another_has_counts_for_all() {
        let mut shares = Shares::default();
        (0..3).for_each(|_| shares.add("a", client(9)));
        assert_eq!([client(0), client(1)].map(|client| shares.room("a", client, 3)), [Err(Full::Limit(3)); 2]);
        shares.take_off("a", client(9));
        assert_eq!(shares.room("a", client(0), 3), Ok(()));
    }
}
