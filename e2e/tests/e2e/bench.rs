//! The benchmark as users run it, in one round: every part is measured over every gateway. No time is judged.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use callgate_e2e::bench::site::{Gateway, Site};
use callgate_e2e::gateway::baseline;
use callgate_e2e::lab::kernel;
use callgate_e2e::peers::program;
use serde_json::{Value, json};

use super::labs::left;
use super::support::can_run;

/// Gateways that carry calls both ways.
fn pptp() -> Vec<&'static str> {
    let xdp = Some("Callgate XDP").filter(|_| kernel::has_xdp());
    ["Callgate AF_PACKET", "Callgate eBPF", "kernel ALG", "plain forwarding"].into_iter().chain(xdp).collect()
}

/// What a part has measured: the fields that tell a cell from others, where `value` was found.
fn measured(part: &Value, value: &str, fields: &[&str]) -> BTreeSet<String> {
    let cells =
        part.as_array().unwrap().iter().filter(|cell| cell[value]["median"].as_f64().is_some_and(|of| of > 0.0));
    cells.map(|cell| fields.iter().map(|field| cell[*field].clone()).collect::<Value>().to_string()).collect()
}

fn set(cells: impl IntoIterator<Item = Value>) -> BTreeSet<String> {
    cells.into_iter().map(|cell| cell.to_string()).collect()
}

#[test]
fn a_round_of_the_benchmark_measures_every_part_over_every_gateway() {
    if !can_run("a_round_of_the_benchmark_measures_every_part_over_every_gateway") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let chart = dir.path().join("chart.svg");
    let mut command = Command::new(program("callgate-bench").unwrap());
    command.args(["--rounds", "1", "--calls", "1,100", "--output", "json", "--svg"]).arg(&chart);
    let bench = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = bench.id() as i32;
    let output = bench.wait_with_output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(left(pid), Vec::<String>::new());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["rounds"], &report["roundsWanted"]), (&json!(1), &json!(1)));

    let mut gre = Vec::new();
    for (calls, bytes) in [(1, 80), (1, 1_400), (100, 80), (100, 1_400)] {
        gre.extend(
            pptp().into_iter().flat_map(|gateway| ["up", "down"].map(|way| json!([gateway, way, calls, bytes]))),
        );
        gre.push(json!(["plain masquerade", "up", calls, bytes]));
    }
    assert_eq!(measured(&report["gre"], "ns", &["gateway", "direction", "calls", "bytes"]), set(gre));
    assert_eq!(
        measured(&report["latency"], "p50Us", &["gateway"]),
        set(pptp().into_iter().map(|gateway| json!([gateway])))
    );
    let ordinary = ["plain masquerade", "Callgate, 1 rule", "Callgate, 1000 rules", "Callgate, 1 and PPTP"];
    let ordinary = ordinary.iter().flat_map(|gateway| ["up", "down"].map(|way| json!([gateway, way])));
    assert_eq!(measured(&report["ordinaryNat"], "ns", &["gateway", "direction"]), set(ordinary));
    let mut cards = Vec::new();
    for (calls, direction) in [(1, "up"), (1, "down"), (100, "up"), (100, "down")] {
        let gateways = pptp().into_iter().filter(|gateway| *gateway != "Callgate AF_PACKET");
        cards.extend(gateways.map(|gateway| json!([gateway, direction, calls, "stack"])));
        let xdp = Some(json!(["Callgate XDP", direction, calls, "card"])).filter(|_| kernel::has_xdp());
        cards.extend(xdp);
    }
    assert_eq!(measured(&report["cards"], "ns", &["gateway", "direction", "calls", "taker"]), set(cards));
    let set_ups = pptp().into_iter().filter(|gateway| *gateway != "Callgate XDP").chain(["plain masquerade"]);
    let set_ups = set_ups.flat_map(|gateway| [1, 16].map(|width| json!([gateway, width])));
    assert_eq!(measured(&report["setUps"], "perSecond", &["gateway", "atATime"]), set(set_ups));

    let before_gre = report["setUpBeforeGre"].as_array().unwrap().iter();
    let before_gre = before_gre.map(|of| json!([of["gateway"], of["calls"], of["carry"]]));
    let carry = [
        json!(["kernel ALG", 3_000, baseline::calls_without_gre().unwrap().min(3_000)]),
        json!(["Callgate AF_PACKET", 100, 100]),
        json!(["Callgate eBPF", 100, 100]),
    ];
    let xdp = Some(json!(["Callgate XDP", 100, 100])).filter(|_| kernel::has_xdp());
    assert_eq!(set(before_gre), set(carry.into_iter().chain(xdp)));
    let changes = report["tableChanges"].as_array().unwrap();
    assert!(changes.len() == 6 && changes.iter().all(|change| !change["us"].is_null()), "{changes:#?}");
    assert!(fs::read_to_string(&chart).unwrap().starts_with("<svg"));
}

#[test]
fn a_site_that_cannot_be_built_leaves_nothing() {
    if !can_run("a_site_that_cannot_be_built_leaves_nothing") {
        return;
    }
    let before = left(std::process::id() as i32);
    let gateway = Gateway::Callgate { manifests: "", flags: &["--no-such-flag"] };
    assert!(Site::build("x", gateway).is_err());
    assert_eq!(left(std::process::id() as i32), before);
}
