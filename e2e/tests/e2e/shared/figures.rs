//! What a client costs in Shared beside PerClient: set-ups a second and memory, printed.

use std::time::Instant;

use super::super::support::can_run;
use super::client::Client;
use super::crowd::Stage;
use super::server::Second;

/// Resident memory of a process, KiB.
fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_client_costs_this_much_in_shared_beside_per_client() {
    if !can_run("a_client_costs_this_much_in_shared_beside_per_client") {
        return;
    }
    let clients = if cfg!(feature = "long") { 900 } else { 400 };
    for mode in ["PerClient", "Shared"] {
        let stage = Stage::of(mode, clients, 65_535, Second::Serve);
        // What comes once: listener, tunnel, tables.
        let _first = Client::with_call(&stage.lab.clients[0], 0, 0).unwrap();
        let before = resident(stage.callgate.pid().unwrap());
        let begun = Instant::now();
        let (_clients, calls) = stage.fill(1..clients);
        let took = begun.elapsed();
        let grown = resident(stage.callgate.pid().unwrap()) - before;
        assert_eq!((calls.len(), stage.server.calls().len()), (clients - 1, clients), "all calls are live");
        println!(
            "{mode}: {:.0} set-ups a second one after the other ({} clients in {took:?}), {:.1} KiB of the agent a client",
            calls.len() as f64 / took.as_secs_f64(),
            calls.len(),
            grown as f64 / calls.len() as f64,
        );
    }
}
