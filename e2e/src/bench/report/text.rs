//! The table for people.

use std::fmt::Write as _;

use super::{Cell, Report, Values, spread};
use crate::bench::bed::Kind;
use crate::bench::site::Direction;

/// Of a table of packets; `what` is the column that differs.
fn heading(out: &mut String, what: &str) {
    let _ = writeln!(
        out,
        "{:<4} {:<20} {what:>6} {:>7} {:>7} {:>20} {:>16} {:>16} {:>9} {:>8}",
        "", "gateway", "calls", "rounds", "ns", "/ plain", "/ ALG", "max kpps", "offered"
    );
}

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.rounds < self.wanted {
            let _ = writeln!(out, "Ended early: {} of {} rounds\n", self.rounds, self.wanted);
        }
        self.packets(&mut out);
        self.cards(&mut out);
        self.others(&mut out);
        self.missing(&mut out);
        out
    }

    fn packets(&self, out: &mut String) {
        let _ = writeln!(out, "GRE: ns of gateway CPU for each packet that arrived translated, min-median-max\n");
        heading(out, "bytes");
        for (cell, values) in &self.cells {
            let Cell::Gre { direction, length, calls, kind } = *cell else { continue };
            self.line(out, *cell, values, (direction, kind, calls), &length.to_string());
        }
        let _ = writeln!(out, "\nThe most calls against one, in the same round\n");
        for (direction, length, kind, values) in self.growths() {
            let _ = writeln!(out, "{:<4} {:<20} {length:>6} {:>16}", direction.name(), kind.name(), ratio(&values));
        }
    }

    fn cards(&self, out: &mut String) {
        let _ = writeln!(out, "\nThe same between network cards, 80 bytes: frames that were no skb before\n");
        heading(out, "taker");
        for (cell, values) in &self.cells {
            let Cell::Card { direction, calls, kind, taker } = *cell else { continue };
            self.line(out, *cell, values, (direction, kind, calls), taker.name());
        }
    }

    /// A line under `heading`; `what` is the column that differs.
    fn line(
        &self,
        out: &mut String,
        cell: Cell,
        values: &Values,
        (direction, kind, calls): (Direction, Kind, usize),
        what: &str,
    ) {
        let _ = writeln!(
            out,
            "{:<4} {:<20} {what:>6} {calls:>7} {:>7} {:>20} {:>16} {:>16} {}",
            direction.name(),
            kind.name(),
            self.rounds_of(values),
            whole(&values.main()),
            ratio(&self.to_gateway(cell, values, Kind::Plain)),
            ratio(&self.to_gateway(cell, values, Kind::KernelAlg)),
            reach(values),
        );
    }

    fn others(&self, out: &mut String) {
        let _ = writeln!(out, "\nGRE, one packet now and then: one way, us, min-median-max\n");
        let _ = writeln!(out, "{:<20} {:>7} {:>18} {:>18}", "gateway", "rounds", "p50", "p99");
        for (cell, values) in &self.cells {
            let Cell::Delay { kind } = cell else { continue };
            let (p50, p99) = (values.delays(|delay| delay.p50), values.delays(|delay| delay.p99));
            let _ = writeln!(
                out,
                "{:<20} {:>7} {:>18} {:>18}",
                kind.name(),
                self.rounds_of(values),
                tenths(&p50),
                tenths(&p99)
            );
        }
        let _ = writeln!(out, "\nOrdinary NAT, UDP of established flows: ns of gateway CPU a packet\n");
        for (cell, values) in &self.cells {
            let Cell::Ordinary { direction, nat } = cell else { continue };
            let _ = writeln!(
                out,
                "{:<4} {:<20} {:>7} {:>20} / masquerade {:>16} {}",
                direction.name(),
                nat.name(),
                self.rounds_of(values),
                whole(&values.main()),
                ratio(&self.to_gateway(*cell, values, Kind::Masquerade)),
                reach(values),
            );
        }
        let _ = writeln!(out, "\nCall set-ups, scripted peers: a second, us of gateway CPU each\n");
        for (cell, values) in &self.cells {
            let Cell::SetUps { width, kind } = cell else { continue };
            let _ = writeln!(
                out,
                "{width:>2} at a time {:<20} {:>7} {:>20} / ALG {:>16} CPU {:>16}",
                kind.name(),
                self.rounds_of(values),
                whole(&values.main()),
                ratio(&self.to_gateway(*cell, values, Kind::KernelAlg)),
                whole(&values.rates(|rate| rate.cpu_us)),
            );
        }
        let _ = writeln!(out, "\nCalls set up before any GRE, and those that carry it afterwards\n");
        for (kind, calls, carry) in &self.unheard {
            let _ = writeln!(out, "{:<20} {calls:>6} set up {carry:>6} carry", kind.name());
        }
        let _ = writeln!(out, "\nMemory of the agent for a control connection with one call\n");
        for (kind, calls, bytes) in &self.memory {
            let _ = writeln!(out, "{:<20} {calls:>6} calls {bytes:>8.0} bytes", kind.name());
        }
        let _ = writeln!(out, "\nOne change of the kernel's tables, us min-median-max\n");
        for change in &self.changes {
            let _ = writeln!(out, "{:<44} {:>20}", change.what, tenths(&change.us));
        }
        let _ = writeln!(out, "\nThe engine alone, ns min-median-max\n");
        for (calls, values) in &self.core.gre {
            let _ = writeln!(out, "a GRE packet, {calls:>6} live calls   {}", whole(values));
        }
        let _ = writeln!(out, "a control message, record included {}", whole(&self.core.message));
    }

    /// What a reader of the medians has to know.
    fn missing(&self, out: &mut String) {
        let repeated: usize = self.cells.values().map(|values| values.repeated).sum();
        let left_out: usize = self.cells.values().map(|values| values.left_out.len()).sum();
        if repeated + left_out == 0 {
            return;
        }
        let _ = writeln!(out, "\nMeasurements repeated: {repeated}; left out after that: {left_out}\n");
        for (cell, values) in &self.cells {
            for (round, why) in &values.left_out {
                let _ = writeln!(out, "round {:>2}: {}: {why}", round + 1, cell.name());
            }
        }
    }

    /// `n/of`.
    fn rounds_of(&self, values: &Values) -> String {
        format!("{}/{}", values.found.len(), values.found.len() + values.left_out.len())
    }
}

impl Cell {
    /// In a line of its own.
    pub fn name(&self) -> String {
        match self {
            Self::Gre { direction, length, calls, kind } => {
                format!("{} {} {length} bytes {calls} calls", direction.name(), kind.name())
            }
            Self::Card { direction, calls, kind, taker } => {
                format!("cards {} {} {calls} calls, {}", direction.name(), kind.name(), taker.name())
            }
            Self::Delay { kind } => format!("latency {}", kind.name()),
            Self::Ordinary { direction, nat } => format!("UDP {} {}", direction.name(), nat.name()),
            Self::SetUps { width, kind } => format!("set-ups {} {width} at a time", kind.name()),
        }
    }
}

/// Most packets a second, and how many were offered for each.
fn reach(values: &Values) -> String {
    format!(
        "{:>9.0} {:>7.1}x",
        spread(&values.packets(|measured| measured.kpps)).2,
        spread(&values.packets(|measured| measured.offered)).1
    )
}

fn whole(values: &[f64]) -> String {
    written(values, 0)
}

fn tenths(values: &[f64]) -> String {
    written(values, 1)
}

fn ratio(values: &[f64]) -> String {
    written(values, 2)
}

fn written(values: &[f64], digits: usize) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let (low, median, high) = spread(values);
    format!("{low:.digits$}-{median:.digits$}-{high:.digits$}")
}
