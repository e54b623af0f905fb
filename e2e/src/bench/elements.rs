//! What one change costs in the kernel's tables, as the agent makes it: an address of nftables, a call of the eBPF map.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use callgate_agent::fast::{Fast, Mode, Setup};
use callgate_agent::kernel::{Kernel, Options};
use callgate_pptp::{CallPath, IdPair, Now};
use callgate_proto::model::{Action, External, Match, NodeConfig, ObjectKey, Rule, Service, Source};

use super::site::{CLIENT, EXTERNAL, Gateway, SERVERS, Site};
use crate::wait;

/// Changes of each kind.
const CHANGES: usize = 200;
/// How long links may take to get the program.
const LINKS: Duration = Duration::from_secs(10);

/// Times of one kind of change, µs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What is changed.
    pub what: String,
    /// One value a change.
    pub us: Vec<f64>,
}

/// Measures all of them in a site of its own.
///
/// # Errors
/// If the kernel refuses something.
pub fn measure() -> anyhow::Result<Vec<Change>> {
    let site = Site::build("el", Gateway::Plain)?;
    site.gw.within(|| {
        let mut changes = Vec::new();
        for others in [1, 1_000] {
            changes.extend(addresses(others)?);
        }
        changes.extend(calls()?);
        Ok(changes)
    })?
}

/// One address more and less under a rule, beside so many others: compile to a ruleset, difference, one transaction.
fn addresses(others: usize) -> anyhow::Result<[Change; 2]> {
    let mut kernel = Kernel::start(Options::default(), None, Box::new(|_| Ok(())))?;
    let (without, with) = (config(others), config(others + 1));
    kernel.apply(&without, &[])?;
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for _ in 0..CHANGES {
        for (config, times) in [(&with, &mut added), (&without, &mut removed)] {
            let begun = Instant::now();
            let applied = kernel.apply(config, &[])?;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
            ensure!(!applied.structure_replaced, "one address is not one element: {applied:?}");
        }
    }
    kernel.stop()?;
    let change = |how: &str, us| Change { what: format!("nftables: an address {how}, beside {others}"), us };
    Ok([change("more", added), change("less", removed)])
}

fn config(sources: usize) -> NodeConfig {
    let key = |name: &str| ObjectKey::new("bench", name);
    let service = Service {
        key: key("udp"),
        matches: vec![Match { protocol: Some(17), source_ports: Vec::new(), destination_ports: Vec::new() }],
        alg: None,
        max_sessions: 0,
        forward_icmp_errors: true,
        timeouts: None,
    };
    let rule = Rule {
        key: key("rule"),
        action: Action::Nat,
        destinations: vec![ipnet::Ipv4Net::default()],
        services: vec![0],
        external: External::NodeAddress,
        log: false,
    };
    let first = u32::from(Ipv4Addr::new(100, 64, 0, 1));
    let net = |number| ipnet::Ipv4Net::from(Ipv4Addr::from(first + number as u32));
    NodeConfig {
        node: "bench".into(),
        services: vec![service],
        rules: vec![rule],
        chains: vec![vec![0]],
        sources: (0..sources).map(|number| Source { net: net(number), chain: 0 }).collect(),
        ..NodeConfig::default()
    }
}

/// Both directions of a call.
fn calls() -> anyhow::Result<[Change; 2]> {
    let mut fast = Fast::start(Setup { mode: Mode::Auto, ..Setup::default() }, &BTreeSet::new(), Now(0));
    let path = |id: u16| CallPath {
        client: CLIENT,
        external: EXTERNAL,
        server: SERVERS[0],
        pns: IdPair { client: id, server: id },
        pac: IdPair { client: id, server: id },
    };
    // The first one brings the program to the links, in the fast path's own time.
    fast.open(path(0), Now(0));
    wait::until_true("the links have the program", LINKS, || {
        fast.work(Now(0));
        Ok(fast.is_settled())
    })?;
    ensure!(fast.placed().any(|placed| placed == path(0)), "the fast path does not take a call");
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    for id in 1..=CHANGES as u16 {
        let begun = Instant::now();
        fast.open(path(id), Now(0)).then_some(()).ok_or_else(|| anyhow!("call {id} is refused"))?;
        opened.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    for id in 1..=CHANGES as u16 {
        let begun = Instant::now();
        fast.close(&path(id), Now(0));
        closed.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let change = |how: &str, us| Change { what: format!("eBPF: a call {how}, both directions"), us };
    Ok([change("in", opened), change("out", closed)])
}
