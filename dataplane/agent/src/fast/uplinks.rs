//! Links by which a server's answers may come beside its calls' own (several next hops): the program counts what comes by them, and
//! nothing of what comes by others.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use aya::maps::{HashMap, MapData};

/// A server and a link, as the program asks for them.
type Pair = [u32; 2];

/// How many calls have need of a pair, and whether it is in the map.
#[derive(Debug, Default, PartialEq, Eq)]
struct Use {
    calls: usize,
    known: bool,
}

/// The program's map of them.
pub(super) struct Uplinks {
    map: HashMap<MapData, Pair, u32>,
    uses: BTreeMap<Pair, Use>,
}

impl Uplinks {
    /// In this map, which is empty.
    pub(super) fn new(map: HashMap<MapData, Pair, u32>) -> Self {
        Self { map, uses: BTreeMap::new() }
    }

    /// A call to this server needs these links.
    pub(super) fn add(&mut self, server: Ipv4Addr, links: &[u32]) {
        for pair in pairs(server, links) {
            let used = self.uses.entry(pair).or_default();
            used.calls += 1;
            if used.known {
                continue;
            }
            match self.map.insert(pair, 1, 0) {
                Ok(()) => used.known = true,
                // The next call tries again; people need not hear it from each.
                Err(error) if used.calls == 1 => {
                    tracing::warn!(link = pair[1], "losses to {server} may be shown too high: {error}");
                }
                Err(_) => {}
            }
        }
    }

    /// It needs them no more.
    pub(super) fn remove(&mut self, server: Ipv4Addr, links: &[u32]) {
        for pair in pairs(server, links) {
            let Some(used) = self.uses.get_mut(&pair) else { continue };
            used.calls -= 1;
            if used.calls > 0 {
                continue;
            }
            if used.known
                && let Err(error) = self.map.remove(&pair)
            {
                tracing::warn!(link = pair[1], "answers of {server} by it are counted on: {error}");
            }
            self.uses.remove(&pair);
        }
    }
}

fn pairs(server: Ipv4Addr, links: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    // As on the wire.
    let server = u32::from_ne_bytes(server.octets());
    links.iter().map(move |link| [server, *link])
}
