//! The figures: medians with their range, ratios of one round, as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::bed::{Direction, Kind, Measured};
use super::core::Core;

/// One measurement and where it belongs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Round.
    pub round: usize,
    /// Gateway.
    pub kind: Kind,
    /// Whose packets.
    pub direction: Direction,
    /// Calls in turn.
    pub calls: usize,
    /// IPv4 octets.
    pub length: usize,
    /// What was measured.
    pub measured: Measured,
}

/// Everything of one run.
#[derive(Debug, Default)]
pub struct Report {
    /// The engine alone.
    pub core: Core,
    /// GRE through gateways.
    pub rows: Vec<Row>,
    /// Gateway, calls, set-ups a second, one after the other.
    pub set_ups: Vec<(Kind, usize, f64)>,
    /// Gateway, calls, memory of its agent for one control connection with one call, bytes.
    pub memory: Vec<(Kind, usize, f64)>,
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Down => "down",
        Direction::Up => "up",
    }
}

/// Minimum, median, maximum.
pub(super) fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => (0.0, 0.0, 0.0),
        all => (all[0], all[all.len() / 2], all[all.len() - 1]),
    }
}

/// Rows of all rounds by direction, length, calls and gateway.
type Cells = BTreeMap<(Direction, usize, usize, Kind), Vec<Row>>;

impl Report {
    pub(super) fn cells(&self) -> Cells {
        let mut cells = Cells::new();
        for row in &self.rows {
            cells.entry((row.direction, row.length, row.calls, row.kind)).or_default().push(*row);
        }
        cells
    }

    /// Ratio to another gateway in the same round with the same length, each round one value. A gateway without that many calls is
    /// compared with what it has most of.
    fn ratios(&self, rows: &[Row], to: Kind) -> Vec<f64> {
        let value = |row: &Row| {
            let others = self.rows.iter().filter(|other| {
                (other.kind, other.round, other.direction, other.length) == (to, row.round, row.direction, row.length)
                    && other.calls <= row.calls
            });
            let other = others.max_by_key(|other| other.calls)?;
            Some(row.measured.ns / other.measured.ns)
        };
        rows.iter().filter_map(value).collect()
    }

    /// Cost with the most calls over that with one, of the same gateway in the same round.
    fn growths(&self) -> Vec<(Direction, usize, Kind, Vec<f64>)> {
        let cells = self.cells();
        let ones = cells.iter().filter(|((_, _, calls, _), _)| *calls == 1);
        let growth = |(&(direction, length, _, kind), ones): (&(Direction, usize, usize, Kind), &Vec<Row>)| {
            let same = |key: &(Direction, usize, usize, Kind)| (key.0, key.1, key.3) == (direction, length, kind);
            let most = cells.iter().filter(|(key, _)| same(key)).max_by_key(|(key, _)| key.2).map(|(_, rows)| rows);
            let values = most.into_iter().flatten().filter_map(|row| {
                let one = ones.iter().find(|one| one.round == row.round)?;
                Some(row.measured.ns / one.measured.ns)
            });
            (direction, length, kind, values.collect())
        };
        ones.map(growth).collect()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "GRE: ns of gateway CPU for each packet that arrived translated\n");
        let _ = writeln!(
            out,
            "{:<4} {:<20} {:>6} {:>7} {:>24} {:>16} {:>16} {:>9} {:>8}",
            "", "gateway", "bytes", "calls", "ns min-median-max", "/ plain", "/ ALG", "max kpps", "offered"
        );
        let ratio = |values: Vec<f64>| match values.is_empty() {
            true => "-".to_owned(),
            false => {
                let (low, median, high) = spread(&values);
                format!("{low:.2}-{median:.2}-{high:.2}")
            }
        };
        for ((direction, length, calls, kind), rows) in self.cells() {
            let ns: Vec<f64> = rows.iter().map(|row| row.measured.ns).collect();
            let (low, median, high) = spread(&ns);
            let kpps = spread(&rows.iter().map(|row| row.measured.kpps).collect::<Vec<_>>()).2;
            let offered = spread(&rows.iter().map(|row| row.measured.offered).collect::<Vec<_>>()).1;
            let plain = ratio(self.ratios(&rows, Kind::Plain));
            let alg = ratio(self.ratios(&rows, Kind::KernelAlg));
            let _ = writeln!(
                out,
                "{:<4} {:<20} {length:>6} {calls:>7} {:>24} {plain:>16} {alg:>16} {kpps:>9.0} {offered:>7.1}x",
                way(direction),
                kind.name(),
                format!("{low:.0}-{median:.0}-{high:.0}"),
            );
        }
        let _ = writeln!(out, "\nThe most calls against one, in the same round\n");
        for (direction, length, kind, values) in self.growths() {
            let _ = writeln!(out, "{:<4} {:<20} {length:>6} {:>16}", way(direction), kind.name(), ratio(values));
        }
        let _ = writeln!(out, "\nCall set-ups, one after the other, scripted peers\n");
        for (kind, calls, rate) in &self.set_ups {
            let _ = writeln!(out, "{:<20} {calls:>6} calls {rate:>8.0} a second", kind.name());
        }
        let _ = writeln!(out, "\nMemory of the agent for a control connection with one call\n");
        for (kind, calls, bytes) in &self.memory {
            let _ = writeln!(out, "{:<20} {calls:>6} calls {bytes:>8.0} bytes", kind.name());
        }
        let _ = writeln!(out, "\nThe engine alone, ns min-median-max\n");
        for (calls, values) in &self.core.gre {
            let (low, median, high) = spread(values);
            let _ = writeln!(out, "a GRE packet, {calls:>6} live calls   {low:.0}-{median:.0}-{high:.0}");
        }
        let (low, median, high) = spread(&self.core.message);
        let _ = writeln!(out, "a control message, record included {low:.0}-{median:.0}-{high:.0}");
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let three = |values: &[f64]| {
            let (min, median, max) = spread(values);
            json!({"min": min, "median": median, "max": max})
        };
        let cells = self.cells();
        let gre: Vec<Value> = cells
            .iter()
            .map(|((direction, length, calls, kind), rows)| {
                json!({
                    "direction": way(*direction), "gateway": kind.name(), "bytes": length, "calls": calls, "rounds": rows.len(),
                    "ns": three(&rows.iter().map(|row| row.measured.ns).collect::<Vec<_>>()),
                    "kpps": three(&rows.iter().map(|row| row.measured.kpps).collect::<Vec<_>>()),
                    "ratioToPlain": three(&self.ratios(rows, Kind::Plain)),
                    "ratioToKernelAlg": three(&self.ratios(rows, Kind::KernelAlg)),
                })
            })
            .collect();
        let set_ups: Vec<Value> = self
            .set_ups
            .iter()
            .map(|(kind, calls, rate)| json!({"gateway": kind.name(), "calls": calls, "perSecond": rate}))
            .collect();
        let core: Vec<Value> =
            self.core.gre.iter().map(|(calls, values)| json!({"calls": calls, "ns": three(values)})).collect();
        let memory: Vec<Value> = self
            .memory
            .iter()
            .map(|(kind, calls, bytes)| json!({"gateway": kind.name(), "calls": calls, "bytesPerCall": bytes}))
            .collect();
        json!({"gre": gre, "setUps": set_ups, "memory": memory, "coreGre": core, "coreMessage": three(&self.core.message)})
    }
}
