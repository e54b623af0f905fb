//! Admission without a host: rules, routes, and what has to be claimed before a SYN leaves.

use std::io;
use std::sync::Mutex;

use callgate_pptp::Policy;

use super::super::outlets::{Node, Way};
use super::super::policy::tests::{config, expected, flow};
use super::*;
use crate::kernel::Peers;

/// A host with one route: 203.0.113.0/24 from 192.0.2.1. `--interface` names a device that is not there, so that nothing is tapped.
#[derive(Clone, Default)]
struct Fake {
    claims: Arc<Mutex<Vec<Vec<Ipv4Addr>>>>,
    asked: Arc<Mutex<Vec<Ipv4Addr>>>,
    refuses: bool,
    /// Questions for a route that fail before one is answered.
    failures: Arc<Mutex<usize>>,
}

impl Node for Fake {
    fn way(&mut self, server: Ipv4Addr) -> io::Result<Option<Way>> {
        self.asked.lock().unwrap().push(server);
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(io::Error::other("netlink socket: No buffer space available"));
        }
        let reached = server.octets()[..3] == [203, 0, 113];
        Ok(reached.then_some(Way { source: Ipv4Addr::new(192, 0, 2, 1), links: vec![7] }))
    }

    fn claim(&mut self, addresses: &[Ipv4Addr], _: &Peers) -> io::Result<()> {
        if self.refuses {
            return Err(io::Error::other("no"));
        }
        self.claims.lock().unwrap().push(addresses.to_vec());
        Ok(())
    }

    fn index_of(&mut self, _: &str) -> Option<u32> {
        None
    }
}

fn gate(node: &Fake) -> Gate {
    let outlets = Outlets::new(Box::new(node.clone()), vec!["cg-none".into()], vec![]);
    Gate::new(Arc::new(config()), outlets)
}

fn claims(node: &Fake) -> Vec<Vec<Ipv4Addr>> {
    node.claims.lock().unwrap().clone()
}

const CLIENT: [u8; 4] = [10, 0, 0, 2];
const SERVER: [u8; 4] = [203, 0, 113, 7];

#[test]
fn an_admitted_connection_has_the_routes_address_claimed_first_and_only_once() {
    let node = Fake::default();
    let mut gate = gate(&node);
    let admission = Admission { external: Ipv4Addr::new(192, 0, 2, 1), policy: expected() };
    assert_eq!(gate.admit(flow(CLIENT, SERVER, 1723)), Ok(admission.clone()));
    assert_eq!(
        gate.admit(flow([10, 0, 0, 3], SERVER, 1723)),
        Ok(Admission { policy: Policy { ..expected() }, ..admission })
    );
    assert_eq!(claims(&node), [[Ipv4Addr::new(192, 0, 2, 1)]]);
    assert_eq!(*node.asked.lock().unwrap(), [Ipv4Addr::from(SERVER)], "routes are remembered");
    assert!(gate.outlets.is_ours(Ipv4Addr::new(192, 0, 2, 1)));
}

#[test]
fn a_fixed_address_is_taken_in_place_of_the_routes_and_claimed_beside_others() {
    let node = Fake::default();
    let mut gate = gate(&node);
    gate.admit(flow(CLIENT, SERVER, 1723)).unwrap();
    let fixed = Ipv4Addr::new(198, 51, 100, 9);
    Arc::make_mut(&mut gate.config).rules[0].external = External::Address(fixed);
    assert_eq!(gate.admit(flow(CLIENT, SERVER, 1723)).map(|a| a.external), Ok(fixed));
    assert_eq!(claims(&node), [vec![Ipv4Addr::new(192, 0, 2, 1)], vec![Ipv4Addr::new(192, 0, 2, 1), fixed]]);
}

#[test]
fn what_no_rule_allows_or_no_route_reaches_is_refused_without_a_claim() {
    let node = Fake::default();
    let mut gate = gate(&node);
    assert_eq!(gate.admit(flow([10, 9, 9, 9], SERVER, 1723)), Err(Refusal::NoRule));
    assert_eq!(gate.admit(flow(CLIENT, [1, 2, 3, 4], 1723)), Err(Refusal::NoRoute));
    assert_eq!(claims(&node), Vec::<Vec<Ipv4Addr>>::new());
}

#[test]
fn an_address_the_kernel_would_answer_for_is_not_used() {
    let node = Fake { refuses: true, ..Fake::default() };
    let mut gate = gate(&node);
    assert_eq!(gate.admit(flow(CLIENT, SERVER, 1723)), Err(Refusal::NoRoute));
    assert!(!gate.outlets.is_ours(Ipv4Addr::new(192, 0, 2, 1)));
}

#[test]
fn routes_are_asked_for_anew_after_a_refresh() {
    let node = Fake::default();
    let mut gate = gate(&node);
    gate.admit(flow(CLIENT, SERVER, 1723)).unwrap();
    gate.outlets.refresh();
    gate.admit(flow(CLIENT, SERVER, 1723)).unwrap();
    assert_eq!(*node.asked.lock().unwrap(), [Ipv4Addr::from(SERVER), Ipv4Addr::from(SERVER)]);
}

#[test]
fn an_error_while_asking_for_a_route_is_not_remembered_as_no_route() {
    let node = Fake { failures: Arc::new(Mutex::new(1)), ..Fake::default() };
    let mut gate = gate(&node);
    assert_eq!(gate.admit(flow(CLIENT, SERVER, 1723)), Err(Refusal::NoRoute));
    assert!(gate.admit(flow(CLIENT, SERVER, 1723)).is_ok());
}

/// Log lines, counted.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<usize>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.0.lock().unwrap() += bytes.iter().filter(|byte| **byte == b'\n').count();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_flood_of_connections_that_cannot_be_readied_is_a_line_of_log_and_not_one_each() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(log, || {
        let refusing = Fake { refuses: true, ..Fake::default() };
        let failing = Fake { failures: Arc::new(Mutex::new(1000)), ..Fake::default() };
        for node in [refusing, failing] {
            let mut gate = gate(&node);
            for port in 0..1000 {
                let refused = gate.admit(Flow { client_port: port, ..flow(CLIENT, SERVER, 1723) });
                assert_eq!(refused, Err(Refusal::NoRoute));
            }
        }
    });
    // One of each kind at most: another test may take the same line to the log of nobody at the same moment.
    assert!(*lines.0.lock().unwrap() <= 2, "{} lines", lines.0.lock().unwrap());
}
