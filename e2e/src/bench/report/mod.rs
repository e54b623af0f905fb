//! The figures of one run: values of each round by what was measured, and what was left out; as a table or as JSON.

mod json;
mod text;

use std::collections::BTreeMap;

use super::bed::{Kind, Rate};
use super::card::Taker;
use super::core::Core;
use super::elements::Change;
use super::latency::Delay;
use super::ordinary::Nat;
use super::site::{Direction, Measured};

/// What is measured once a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// GRE.
    Gre {
        /// Whose packets.
        direction: Direction,
        /// IPv4 octets.
        length: usize,
        /// Calls in turn.
        calls: usize,
        /// Gateway.
        kind: Kind,
    },
    /// GRE between network cards.
    Card {
        /// Whose packets.
        direction: Direction,
        /// Calls in turn.
        calls: usize,
        /// Gateway.
        kind: Kind,
        /// Who takes them.
        taker: Taker,
    },
    /// GRE at a low rate, one way.
    Delay {
        /// Gateway.
        kind: Kind,
    },
    /// UDP.
    Ordinary {
        /// Whose packets.
        direction: Direction,
        /// Gateway.
        nat: Nat,
    },
    /// Call set-ups.
    SetUps {
        /// At a time.
        width: usize,
        /// Gateway.
        kind: Kind,
    },
}

/// What one measurement found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found {
    /// Of `Gre`, `Card` and `Ordinary`.
    Packets(Measured),
    /// Of `Delay`.
    Delay(Delay),
    /// Of `SetUps`.
    Rate(Rate),
}

/// All measurements of one cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// Round and what was found in it.
    pub found: Vec<(usize, Found)>,
    /// Measurements that were good only when they were repeated.
    pub repeated: usize,
    /// Rounds without a good measurement, and why the repetition was none.
    pub left_out: Vec<(usize, String)>,
}

/// Everything of one run.
#[derive(Debug, Default)]
pub struct Report {
    /// Rounds that were complete: all figures are of these, but for a run that ended within its first.
    pub rounds: usize,
    /// Rounds that were asked for.
    pub wanted: usize,
    /// The engine alone.
    pub core: Core,
    /// By what was measured.
    pub cells: BTreeMap<Cell, Values>,
    /// Gateway, calls set up before any GRE, those of them that carry it.
    pub unheard: Vec<(Kind, usize, u64)>,
    /// Gateway, calls, memory of its agent for one control connection with one call, bytes.
    pub memory: Vec<(Kind, usize, f64)>,
    /// Changes of the kernel's tables.
    pub changes: Vec<Change>,
}

/// Minimum, median, maximum.
pub(super) fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => (0.0, 0.0, 0.0),
        // Of an even number there are two in the middle.
        all => (all[0], (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0, all[all.len() - 1]),
    }
}

impl Found {
    /// The figure that is compared: ns, or calls a second.
    fn main(self) -> f64 {
        match self {
            Self::Packets(measured) => measured.ns,
            Self::Delay(delay) => delay.p50,
            Self::Rate(rate) => rate.per_second,
        }
    }
}

impl Values {
    /// The figures that are compared.
    pub(super) fn main(&self) -> Vec<f64> {
        self.found.iter().map(|(_, found)| found.main()).collect()
    }

    /// One figure of each round that measured packets.
    fn packets(&self, figure: impl Fn(Measured) -> f64) -> Vec<f64> {
        let of = |found| if let Found::Packets(measured) = found { Some(figure(measured)) } else { None };
        self.found.iter().filter_map(|(_, found)| of(*found)).collect()
    }

    /// One figure of each round that measured latency.
    fn delays(&self, figure: impl Fn(Delay) -> f64) -> Vec<f64> {
        let of = |found| if let Found::Delay(delay) = found { Some(figure(delay)) } else { None };
        self.found.iter().filter_map(|(_, found)| of(*found)).collect()
    }

    /// One figure of each round that measured set-ups.
    fn rates(&self, figure: impl Fn(Rate) -> f64) -> Vec<f64> {
        let of = |found| if let Found::Rate(rate) = found { Some(figure(rate)) } else { None };
        self.found.iter().filter_map(|(_, found)| of(*found)).collect()
    }
}

impl Report {
    /// Adds what a round has found in a cell.
    pub fn add(&mut self, cell: Cell, round: usize, found: Found, repeated: bool) {
        let values = self.cells.entry(cell).or_default();
        values.found.push((round, found));
        values.repeated += usize::from(repeated);
    }

    /// Notes that a round has found nothing in a cell, twice.
    pub fn leave_out(&mut self, cell: Cell, round: usize, why: String) {
        self.cells.entry(cell).or_default().left_out.push((round, why));
    }

    /// Without what an unfinished round has found, if there is a finished one.
    pub fn finish(&mut self, rounds: usize) {
        self.rounds = rounds;
        if rounds == 0 {
            return;
        }
        for values in self.cells.values_mut() {
            values.found.retain(|(round, _)| *round < rounds);
            values.left_out.retain(|(round, _)| *round < rounds);
        }
    }

    /// A cell's figures over those of another one in the same round.
    fn ratios(&self, of: &Values, to: Option<&Values>) -> Vec<f64> {
        let same_round = |(round, found): &(usize, Found)| {
            let (_, other) = to?.found.iter().find(|(other, _)| other == round)?;
            Some(found.main() / other.main())
        };
        of.found.iter().filter_map(same_round).collect()
    }

    /// Ratio to another gateway. One without that many calls is compared with what it has most of.
    fn to_gateway(&self, cell: Cell, of: &Values, to: Kind) -> Vec<f64> {
        let other = match cell {
            Cell::Gre { direction, length, calls, .. } => {
                let fits = |other: &Cell| match *other {
                    Cell::Gre { direction: way, length: octets, calls: most, kind } => {
                        (way, octets, kind) == (direction, length, to) && most <= calls
                    }
                    Cell::Card { .. } | Cell::Delay { .. } | Cell::Ordinary { .. } | Cell::SetUps { .. } => false,
                };
                // In order of calls.
                self.cells.iter().rfind(|(other, _)| fits(other)).map(|(_, values)| values)
            }
            Cell::Card { direction, calls, .. } => {
                let fits = |other: &Cell| match *other {
                    Cell::Card { direction: way, calls: most, kind, taker } => {
                        (way, kind, taker) == (direction, to, Taker::Stack) && most <= calls
                    }
                    Cell::Gre { .. } | Cell::Delay { .. } | Cell::Ordinary { .. } | Cell::SetUps { .. } => false,
                };
                self.cells.iter().rfind(|(other, _)| fits(other)).map(|(_, values)| values)
            }
            Cell::Delay { .. } => self.cells.get(&Cell::Delay { kind: to }),
            Cell::SetUps { width, .. } => self.cells.get(&Cell::SetUps { width, kind: to }),
            Cell::Ordinary { direction, .. } => {
                self.cells.get(&Cell::Ordinary { direction, nat: Nat::Masquerade }).filter(|_| to == Kind::Masquerade)
            }
        };
        self.ratios(of, other)
    }

    /// Cost with the most calls over that with one, of the same gateway in the same round.
    fn growths(&self) -> Vec<(Direction, usize, Kind, Vec<f64>)> {
        let mut growths = Vec::new();
        for (cell, ones) in &self.cells {
            let Cell::Gre { direction, length, calls: 1, kind } = *cell else { continue };
            let same = |other: &Cell| match *other {
                Cell::Gre { direction: way, length: octets, kind: of, .. } => {
                    (way, octets, of) == (direction, length, kind)
                }
                Cell::Card { .. } | Cell::Delay { .. } | Cell::Ordinary { .. } | Cell::SetUps { .. } => false,
            };
            if let Some((_, most)) = self.cells.iter().rfind(|(other, _)| same(other)) {
                growths.push((direction, length, kind, self.ratios(most, Some(ones))));
            }
        }
        growths
    }
}

#[cfg(test)]
mod tests;
