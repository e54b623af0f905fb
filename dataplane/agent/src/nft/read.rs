//! Reads back what is in the kernel: to adopt a ruleset that a previous process left, and to count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::encode::{FAMILY, SUBSYSTEM};
use super::expr::read_verdict;
use super::live::{self, Live};
use super::ruleset::{Element, Key, Ruleset, Set};
use crate::netlink::Error;
use crate::netlink::attr::{Attrs, attrs, find, find_be32, find_text};
use crate::netlink::socket::{DUMP, Socket};
use nix::errno::Errno;

const GET_TABLE: u16 = (SUBSYSTEM << 8) | 1;
const GET_CHAIN: u16 = (SUBSYSTEM << 8) | 4;
const GET_RULE: u16 = (SUBSYSTEM << 8) | 7;
const GET_SET: u16 = (SUBSYSTEM << 8) | 10;
const GET_ELEMENTS: u16 = (SUBSYSTEM << 8) | 13;

/// NFT_SET_ELEM_INTERVAL_END.
const INTERVAL_END: u32 = 1;

fn body(attrs: Attrs) -> Vec<u8> {
    [&FAMILY[..], &attrs.into_bytes()].concat()
}

/// Whether the table is there.
pub(crate) fn exists(socket: &mut Socket, table: &str) -> Result<bool, Error> {
    match socket.request(GET_TABLE, 0, &body(Attrs::new().text(1, table))) {
        Ok(_) => Ok(true),
        Err(Error::Kernel { errno: Errno::ENOENT, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What runs, if its structure is the one of `wanted` (the chain named after its digest is there, and as many rules in each
/// chain, and the same sets): then `wanted` with the elements that are really there. `None` otherwise.
pub(crate) fn adopt(socket: &mut Socket, table: &str, wanted: &Ruleset) -> Result<Option<Ruleset>, Error> {
    if !exists(socket, table)? {
        return Ok(None);
    }
    let mut rules: BTreeMap<String, usize> = names(socket, table, GET_CHAIN, 3)?.map(|name| (name, 0)).collect();
    for (chain, _) in dump_rules(socket, table, None)? {
        *rules.entry(chain).or_default() += 1;
    }
    let expected: BTreeMap<String, usize> =
        wanted.chains.iter().map(|(name, chain)| (name.clone(), chain.rules.len())).collect();
    let mut sets: Vec<String> = names(socket, table, GET_SET, 2)?.collect();
    sets.sort();
    if rules != expected || !sets.iter().eq(wanted.sets.keys()) {
        return Ok(None);
    }
    let mut running = wanted.clone();
    for (name, set) in &mut running.sets {
        set.elements = elements(socket, table, name, set)?;
    }
    Ok(Some(running))
}

/// What a previous process kept for the connections of its ALG; nothing where there is no table.
pub(crate) fn live(socket: &mut Socket, table: &str) -> Result<Live, Error> {
    let mut of = |name: &str, set: &Set| match elements(socket, table, name, set) {
        Err(Error::Kernel { errno: Errno::ENOENT, .. }) => Ok(BTreeMap::new()),
        found => found,
    };
    let mut addresses = |name| {
        let found = of(name, &Set::singles(Key::Address))?;
        Ok(found.into_keys().filter_map(|key| <[u8; 4]>::try_from(key).ok()).map(Ipv4Addr::from).collect())
    };
    let (own, clients) = (addresses("own_addresses")?, addresses("alg_clients")?);
    let servers = of("alg_servers", &Set::ranges(Key::Address))?;
    let ports = of("alg_server_ports", &Set::ranges(Key::Port))?;
    Ok(Live {
        own,
        clients,
        servers: servers.iter().filter_map(|(first, element)| live::blocks(first, element)).flatten().collect(),
        ports: ports.iter().filter_map(|(first, element)| live::range(first, element)).collect(),
    })
}

/// Marks of connections that mean something to a table, under the mask of whoever made it; nothing where there is none.
pub(crate) fn marks(socket: &mut Socket, table: &str) -> Result<BTreeSet<u32>, Error> {
    let mut marks = BTreeSet::new();
    for (name, set) in [("by_tag", Set::singles(Key::Mark).map()), ("rejected_tags", Set::singles(Key::Mark))] {
        match elements(socket, table, name, &set) {
            Err(Error::Kernel { errno: Errno::ENOENT, .. }) => {}
            Err(error) => return Err(error),
            Ok(found) => marks.extend(found.into_keys().filter_map(|key| key.try_into().ok()).map(u32::from_ne_bytes)),
        }
    }
    Ok(marks)
}

/// Packets counted in each chain that counts, or in this one alone.
pub(crate) fn counters(socket: &mut Socket, table: &str, only: Option<&str>) -> Result<BTreeMap<String, u64>, Error> {
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for (chain, attributes) in dump_rules(socket, table, only)? {
        let expressions = find(&attributes, 4).unwrap_or_default();
        for (_, expression) in attrs(expressions) {
            if find_text(expression, 1).as_deref() == Some("counter") {
                let packets =
                    find(expression, 2).and_then(|data| find(data, 2)).and_then(|value| value.try_into().ok());
                *counted.entry(chain.clone()).or_default() += packets.map_or(0, u64::from_be_bytes);
            }
        }
    }
    Ok(counted)
}

/// Names of the table's chains (attribute 3) or sets (attribute 2).
fn names(socket: &mut Socket, table: &str, kind: u16, name: u16) -> Result<impl Iterator<Item = String>, Error> {
    let answers = socket.request(kind, DUMP, &body(Attrs::new().text(1, table)))?;
    let mut names = Vec::new();
    for (_, body) in answers {
        let attributes = body.get(4..).unwrap_or_default();
        if body.first() == FAMILY.first() && find_text(attributes, 1).as_deref() == Some(table) {
            names.extend(find_text(attributes, name));
        }
    }
    Ok(names.into_iter())
}

/// Every rule of the table, or of one chain: its chain and its attributes.
fn dump_rules(socket: &mut Socket, table: &str, chain: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let request = Attrs::new().text(1, table);
    let request = match chain {
        Some(chain) => request.text(2, chain),
        None => request,
    };
    let answers = socket.request(GET_RULE, DUMP, &body(request))?;
    let of_table = answers.into_iter().filter_map(|(_, body)| {
        let attributes = body.get(4..)?;
        let ours = body.first() == FAMILY.first() && find_text(attributes, 1).as_deref() == Some(table);
        Some((find_text(attributes, 2).filter(|_| ours)?, attributes.to_vec()))
    });
    Ok(of_table.collect())
}

fn elements(socket: &mut Socket, table: &str, name: &str, set: &Set) -> Result<BTreeMap<Vec<u8>, Element>, Error> {
    let answers = socket.request(GET_ELEMENTS, DUMP, &body(Attrs::new().text(1, table).text(2, name)))?;
    let (mut found, mut ends) = (BTreeMap::new(), Vec::new());
    for (_, body) in &answers {
        let list = find(body.get(4..).unwrap_or_default(), 3).unwrap_or_default();
        for (_, element) in attrs(list) {
            let Some(key) = find(element, 1).and_then(|key| find(key, 1)) else { continue };
            if find_be32(element, 3).unwrap_or(0) & INTERVAL_END != 0 {
                ends.push(key.to_vec());
            } else {
                let verdict = find(element, 2).and_then(read_verdict);
                found.insert(key.to_vec(), Element { end: None, verdict });
            }
        }
    }
    if set.interval {
        ends.sort();
        for (key, element) in &mut found {
            // Ranges do not overlap, so a range ends at the first end behind its beginning.
            element.end = ends.get(ends.partition_point(|end| end <= key)).cloned();
        }
    }
    Ok(found)
}
