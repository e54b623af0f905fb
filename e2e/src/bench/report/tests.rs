//! What is left out, and what ratios are of.

use super::*;

fn packets(ns: f64) -> Found {
    Found::Packets(Measured { ns, kpps: 1.0, offered: 1.0 })
}

fn cell(kind: Kind, calls: usize) -> Cell {
    Cell::Gre { direction: Direction::Down, length: 80, calls, kind }
}

fn report() -> Report {
    let mut report = Report { wanted: 3, ..Report::default() };
    for (round, plain, alg, fast) in [(0, 100.0, 200.0, 110.0), (1, 200.0, 300.0, 100.0)] {
        report.add(cell(Kind::Plain, 1_000), round, packets(plain), false);
        report.add(cell(Kind::KernelAlg, 1), round, packets(alg), round == 1);
        report.add(cell(Kind::Fast, 1_000), round, packets(fast), false);
    }
    report.leave_out(cell(Kind::KernelAlg, 1), 2, "0 of 9 packets arrived".into());
    report.add(cell(Kind::Plain, 1_000), 2, packets(1_000.0), false);
    report.add(cell(Kind::Fast, 1_000), 2, packets(1_000.0), false);
    report
}

fn ratios(report: &Report, kind: Kind, to: Kind) -> Vec<f64> {
    let cell = cell(kind, 1_000);
    report.to_gateway(cell, &report.cells[&cell], to)
}

#[test]
fn a_ratio_is_of_one_round_and_a_gateway_with_fewer_calls_is_compared_by_what_it_has() {
    let report = report();
    assert_eq!(ratios(&report, Kind::Fast, Kind::Plain), [1.1, 0.5, 1.0]);
    assert_eq!(ratios(&report, Kind::Fast, Kind::KernelAlg), [0.55, 100.0 / 300.0]);
    assert_eq!(ratios(&report, Kind::Fast, Kind::Masquerade), [0.0; 0]);
}

#[test]
fn of_an_even_number_of_rounds_the_median_is_between_the_two_in_the_middle() {
    let spreads = [vec![], vec![3.0], vec![4.0, 1.0], vec![9.0, 1.0, 2.0], vec![1.0, 9.0, 2.0, 4.0]];
    let expected = [(0.0, 0.0, 0.0), (3.0, 3.0, 3.0), (1.0, 2.5, 4.0), (1.0, 2.0, 9.0), (1.0, 3.0, 9.0)];
    assert_eq!(spreads.map(|values| spread(&values)), expected);
}

#[test]
fn a_measurement_without_packets_is_counted_and_named_and_costs_the_others_nothing() {
    let mut report = report();
    report.finish(3);
    let text = report.text();
    let line =
        |name: &str| text.lines().find(|line| line.contains(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(line("kernel ALG")[5..7], ["2/3", "200-250-300"]);
    assert_eq!(line("Callgate eBPF")[5..7], ["3/3", "100-110-1000"]);
    assert!(text.contains("Measurements repeated: 1; left out after that: 1"), "{text}");
    assert!(text.contains("round  3: down kernel ALG 80 bytes 1 calls: 0 of 9 packets arrived"), "{text}");
    let json = report.json();
    let alg = json["gre"].as_array().unwrap().iter().find(|row| row["gateway"] == "kernel ALG").unwrap();
    assert_eq!((&alg["rounds"], &alg["repeated"], &alg["leftOut"][0]["round"]), (&2.into(), &1.into(), &3.into()));
}

#[test]
fn of_a_run_that_ended_early_only_whole_rounds_count() {
    let mut early = report();
    early.finish(2);
    assert_eq!(ratios(&early, Kind::Fast, Kind::Plain), [1.1, 0.5]);
    assert!(early.text().starts_with("Ended early: 2 of 3 rounds"));
    let mut none = report();
    none.finish(0);
    assert_eq!(ratios(&none, Kind::Fast, Kind::Plain).len(), 3);
}
