//! One round: every measurement once, in a shuffled order, and once more where nothing came of it.

use anyhow::Context as _;

use super::bed::{Bed, Kind};
use super::card::Taker;
use super::ordinary::Flows;
use super::report::{Cell, Found, Report};
use super::site::Direction;
use super::{CARDS, LENGTHS, Part, Plan, Size};
use crate::lab::signals;

/// Calls that are set up at a time.
pub const WIDTHS: [usize; 2] = [1, 16];
/// What tells the beds for set-ups from the others.
pub const SET_UPS: &str = "u";
/// Gateways whose delay is measured.
const DELAYED: [Kind; 5] = [Kind::Plain, Kind::KernelAlg, Kind::Slow, Kind::Fast, Kind::Xdp];
/// As many calls as the beds for set-ups hold before they are made anew: external ports of one server.
const ROOM: usize = 15_000;

/// A measurement of which nothing came is made so often in all.
const ATTEMPTS: usize = 2;

/// All beds of a run.
#[derive(Debug, Default)]
pub struct Beds {
    /// With as many calls as are compared.
    pub calls: Vec<Bed>,
    /// The same of those whose far ends are cards: a program that takes frames costs one that is handed a packet, too.
    pub cards: Vec<Bed>,
    /// For set-ups: calls are added in each round.
    pub set_ups: Vec<Bed>,
    /// For ordinary NAT.
    pub flows: Vec<Flows>,
}

/// What is measured in each round.
pub fn cells(beds: &Beds, plan: &Plan) -> Vec<Cell> {
    let mut cells = Vec::new();
    for bed in beds.calls.iter().filter(|_| plan.parts.contains(&Part::Gre)) {
        for direction in Direction::BOTH.into_iter().filter(|way| bed.kind.carries(*way)) {
            for &calls in plan.size.calls.iter().filter(|calls| **calls <= bed.calls()) {
                cells.extend(LENGTHS.map(|length| Cell::Gre { direction, length, calls, kind: bed.kind }));
            }
        }
    }
    let most = plan.size.calls.iter().max();
    let between =
        |beds: &'_ [Bed], taker| beds.iter().map(move |bed| (bed.kind, bed.calls(), taker)).collect::<Vec<_>>();
    let between = [between(&beds.calls, Taker::Stack), between(&beds.cards, Taker::Card)].concat();
    for (kind, most_of_it, taker) in
        between.into_iter().filter(|(kind, ..)| plan.parts.contains(&Part::Cards) && CARDS.contains(kind))
    {
        let compared = plan.size.calls.iter().filter(|calls| [1, 1_000].contains(*calls) || Some(*calls) == most);
        for &calls in compared.filter(|calls| **calls <= most_of_it) {
            cells.extend(Direction::BOTH.map(|direction| Cell::Card { direction, calls, kind, taker }));
        }
    }
    let delayed = beds.calls.iter().filter(|bed| plan.parts.contains(&Part::Latency) && DELAYED.contains(&bed.kind));
    cells.extend(delayed.map(|bed| Cell::Delay { kind: bed.kind }));
    for flows in &beds.flows {
        cells.extend(Direction::BOTH.map(|direction| Cell::Ordinary { direction, nat: flows.nat }));
    }
    for bed in &beds.set_ups {
        cells.extend(WIDTHS.map(|width| Cell::SetUps { width, kind: bed.kind }));
    }
    cells
}

/// What is compared with each other: a machine is not as fast in one half-minute as in the next, and a round takes longer than that.
fn compared(cell: Cell) -> (usize, Option<Direction>, usize) {
    match cell {
        Cell::Gre { direction, length, .. } => (0, Some(direction), length),
        Cell::Card { direction, .. } => (4, Some(direction), 0),
        Cell::Delay { .. } => (1, None, 0),
        Cell::Ordinary { direction, .. } => (2, Some(direction), 0),
        Cell::SetUps { width, .. } => (3, None, width),
    }
}

/// Another order, in which what is compared with each other is side by side; `random` goes on.
pub fn shuffle(cells: &mut [Cell], random: &mut u64) {
    for left in (1..cells.len()).rev() {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        cells.swap(left, (*random >> 33) as usize % (left + 1));
    }
    let mut groups = Vec::new();
    for group in cells.iter().map(|cell| compared(*cell)) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    cells.sort_by_key(|cell| groups.iter().position(|group| *group == compared(*cell)));
}

/// Measures these cells; false when somebody wants an end.
pub fn round(beds: &mut Beds, cells: &[Cell], round: usize, size: &Size, report: &mut Report) -> bool {
    for cell in cells {
        for attempt in 1..=ATTEMPTS {
            if signals::asked_to_end() {
                return false;
            }
            match beds.measure(*cell, size) {
                Ok(found) => {
                    report.add(*cell, round, found, attempt > 1);
                    break;
                }
                // What fails because of a signal has not failed.
                Err(_) if signals::asked_to_end() => return false,
                Err(error) if attempt < ATTEMPTS => {
                    eprintln!("    again: {}: {error:#}", cell.name());
                }
                Err(error) => {
                    eprintln!("    left out: {}: {error:#}", cell.name());
                    report.leave_out(*cell, round, format!("{error:#}"));
                }
            }
        }
    }
    true
}

impl Beds {
    fn measure(&mut self, cell: Cell, size: &Size) -> anyhow::Result<Found> {
        let of = |beds: &mut Vec<Bed>, kind| beds.iter().position(|bed| bed.kind == kind).context("no such bed");
        match cell {
            Cell::Gre { direction, length, calls, kind } => {
                let at = of(&mut self.calls, kind)?;
                Ok(Found::Packets(self.calls[at].flood(direction, calls, length, size.ms)?))
            }
            Cell::Card { direction, calls, kind, taker } => {
                let beds = match taker {
                    Taker::Stack => &mut self.calls,
                    Taker::Card => &mut self.cards,
                };
                let at = of(beds, kind)?;
                Ok(Found::Packets(beds[at].card_flood(direction, calls, size.ms)?))
            }
            Cell::Delay { kind } => {
                let at = of(&mut self.calls, kind)?;
                Ok(Found::Delay(self.calls[at].delay()?))
            }
            Cell::Ordinary { direction, nat } => {
                let flows = self.flows.iter().find(|flows| flows.nat == nat).context("no such site")?;
                Ok(Found::Packets(flows.flood(direction, size.ms)?))
            }
            Cell::SetUps { width, kind } => {
                let at = of(&mut self.set_ups, kind)?;
                if self.set_ups[at].calls() + size.set_ups > ROOM {
                    // First the old one has to go: the new one's devices and threads have the same names.
                    drop(self.set_ups.remove(at));
                    self.set_ups.insert(at, Bed::build(kind, SET_UPS)?);
                }
                let bed = &mut self.set_ups[at];
                let rate = bed.set_up(size.set_ups, width)?;
                // Conntrack's room, and the kernel's ALG's for calls without GRE, is for the next.
                match kind {
                    Kind::Masquerade | Kind::KernelAlg => bed.forget_flows(),
                    Kind::Plain | Kind::Slow | Kind::Fast | Kind::Xdp => {}
                }
                Ok(Found::Rate(rate))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ordinary::Nat;

    #[test]
    fn every_round_has_another_order_of_the_same_and_what_is_compared_stays_together() {
        let kinds = [Kind::Plain, Kind::Slow, Kind::Fast];
        let mut cells: Vec<Cell> = Vec::new();
        for direction in Direction::BOTH {
            for length in LENGTHS {
                cells.extend(kinds.map(|kind| Cell::Gre { direction, length, calls: 1, kind }));
            }
            cells.extend(Nat::ALL.map(|nat| Cell::Ordinary { direction, nat }));
        }
        cells.extend(WIDTHS.map(|width| Cell::SetUps { width, kind: Kind::Slow }));
        let (before, mut random) = (cells.clone(), 7);
        shuffle(&mut cells, &mut random);
        let first = cells.clone();
        shuffle(&mut cells, &mut random);
        assert_ne!(cells, first);
        let mut groups: Vec<_> = cells.iter().map(|cell| compared(*cell)).collect();
        groups.dedup();
        assert_eq!(groups.len(), 4 + 2 + 2, "{groups:?}");
        let sorted = |mut cells: Vec<Cell>| {
            cells.sort();
            cells
        };
        assert_eq!(sorted(cells), sorted(before));
    }
}
