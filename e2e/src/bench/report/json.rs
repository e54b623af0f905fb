//! The same for programs.

use serde_json::{Value, json};

use super::{Cell, Report, Values, spread};
use crate::bench::bed::Kind;

fn three(values: &[f64]) -> Value {
    if values.is_empty() {
        return Value::Null;
    }
    let (min, median, max) = spread(values);
    json!({"min": min, "median": median, "max": max})
}

/// `value` with how many rounds it is of.
fn with_rounds(mut value: Value, values: &Values) -> Value {
    value["rounds"] = values.found.len().into();
    value["repeated"] = values.repeated.into();
    value["leftOut"] = values.left_out.iter().map(|(round, why)| json!({"round": round + 1, "why": why})).collect();
    value
}

impl Report {
    /// For programs.
    pub fn json(&self) -> Value {
        let (mut gre, mut latency, mut ordinary, mut set_ups) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut cards = Vec::new();
        for (cell, values) in &self.cells {
            let to = |kind| three(&self.to_gateway(*cell, values, kind));
            let main = three(&values.main());
            match cell {
                Cell::Gre { direction, length, calls, kind } => gre.push(with_rounds(
                    json!({
                        "direction": direction.name(), "gateway": kind.name(), "bytes": length, "calls": calls,
                        "ns": main, "kpps": three(&values.packets(|measured| measured.kpps)), "offered": three(&values.packets(|measured| measured.offered)),
                        "ratioToPlain": to(Kind::Plain), "ratioToKernelAlg": to(Kind::KernelAlg),
                    }),
                    values,
                )),
                Cell::Card { direction, calls, kind, taker } => cards.push(with_rounds(
                    json!({
                        "direction": direction.name(), "gateway": kind.name(), "taker": taker.name(), "bytes": 80, "calls": calls,
                        "ns": main, "kpps": three(&values.packets(|measured| measured.kpps)), "offered": three(&values.packets(|measured| measured.offered)),
                        "ratioToPlain": to(Kind::Plain), "ratioToKernelAlg": to(Kind::KernelAlg),
                    }),
                    values,
                )),
                Cell::Delay { kind } => latency.push(with_rounds(
                    json!({"gateway": kind.name(), "p50Us": three(&values.delays(|delay| delay.p50)), "p99Us": three(&values.delays(|delay| delay.p99))}),
                    values,
                )),
                Cell::Ordinary { direction, nat } => ordinary.push(with_rounds(
                    json!({
                        "direction": direction.name(), "gateway": nat.name(), "ns": main,
                        "kpps": three(&values.packets(|measured| measured.kpps)), "ratioToMasquerade": to(Kind::Masquerade),
                    }),
                    values,
                )),
                Cell::SetUps { width, kind } => set_ups.push(with_rounds(
                    json!({
                        "gateway": kind.name(), "atATime": width, "perSecond": main, "cpuUs": three(&values.rates(|rate| rate.cpu_us)),
                        "ratioToKernelAlg": to(Kind::KernelAlg),
                    }),
                    values,
                )),
            }
        }
        let growth: Vec<Value> = self
            .growths()
            .iter()
            .map(|(direction, length, kind, values)| {
                json!({"direction": direction.name(), "gateway": kind.name(), "bytes": length, "ratio": three(values)})
            })
            .collect();
        let unheard: Vec<Value> = self
            .unheard
            .iter()
            .map(|(kind, calls, carry)| json!({"gateway": kind.name(), "calls": calls, "carry": carry}))
            .collect();
        let memory: Vec<Value> = self
            .memory
            .iter()
            .map(|(kind, calls, bytes)| json!({"gateway": kind.name(), "calls": calls, "bytesPerCall": bytes}))
            .collect();
        let changes: Vec<Value> =
            self.changes.iter().map(|change| json!({"what": change.what, "us": three(&change.us)})).collect();
        let core: Vec<Value> =
            self.core.gre.iter().map(|(calls, values)| json!({"calls": calls, "ns": three(values)})).collect();
        json!({
            "rounds": self.rounds, "roundsWanted": self.wanted,
            "gre": gre, "cards": cards, "mostCallsToOne": growth, "latency": latency, "ordinaryNat": ordinary, "setUps": set_ups,
            "setUpBeforeGre": unheard, "memory": memory, "tableChanges": changes,
            "coreGre": core, "coreMessage": three(&self.core.message),
        })
    }
}
