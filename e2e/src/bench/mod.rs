//! The benchmark: Callgate, plain forwarding, plain masquerade and the kernel's own ALG, interleaved in one run.
//!
//! ```text
//!  bed: client ── gateway (plain | masquerade | kernel ALG | AF_PACKET | eBPF) ── server        five of them, side by side
//!  calls (scripted control connections) ─► flood, both ways ─► count what arrives translated ─► report ─► text, JSON, chart
//!  core: the engine alone, without sockets
//! ```

pub mod bed;
pub mod calls;
pub mod chart;
pub mod core;
pub mod flood;
pub mod report;

use anyhow::Context as _;

use bed::{Bed, Direction, Kind};
use report::{Report, Row};

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Interleaved rounds.
    pub rounds: usize,
    /// Milliseconds of one measurement.
    pub ms: u64,
    /// Numbers of calls that are compared.
    pub calls: &'static [usize],
}

impl Size {
    /// For a first look: about two minutes.
    pub const QUICK: Self = Self { rounds: 4, ms: 200, calls: &[1, 1_000, 10_000] };
    /// For figures that are told to others.
    pub const FULL: Self = Self { rounds: 12, ms: 250, calls: &[1, 100, 1_000, 10_000, 60_000] };
}

/// Octets of IPv4 packets.
const LENGTHS: [usize; 2] = [80, 1_400];

/// Runs everything.
///
/// # Errors
/// Without root, or if a bed cannot be built.
pub fn run(size: Size) -> anyhow::Result<Report> {
    crate::lab::signals::install();
    crate::lab::names::sweep_dead();
    let mut report = Report { core: core::measure(size.rounds.min(5)), ..Report::default() };
    let most = size.calls.iter().copied().max().unwrap_or(1);
    let mut beds = Vec::new();
    for kind in Kind::ALL {
        let wanted = most.min(kind.most());
        eprintln!("==> {} : building, setting up {wanted} calls", kind.name());
        let mut bed = Bed::build(kind).with_context(|| kind.name())?;
        let before = bed.agent_memory()?;
        let took = bed.set_up(wanted).with_context(|| kind.name())?;
        report.set_ups.push((kind, wanted, wanted as f64 / took.as_secs_f64()));
        if let (Some(before), Some(after)) = (before, bed.agent_memory()?) {
            report.memory.push((kind, wanted, after.saturating_sub(before) as f64 / wanted as f64));
        }
        beds.push(bed);
    }
    let mut plan: Vec<(usize, Direction, usize, usize)> = Vec::new();
    for (bed, _) in beds.iter().enumerate() {
        for direction in [Direction::Down, Direction::Up].into_iter().filter(|way| beds[bed].kind.carries(*way)) {
            for calls in size.calls.iter().copied().filter(|calls| *calls <= beds[bed].calls()) {
                plan.extend(LENGTHS.map(|length| (bed, direction, calls, length)));
            }
        }
    }
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..size.rounds {
        eprintln!("==> round {} of {}", round + 1, size.rounds);
        for left in (1..plan.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            plan.swap(left, (random >> 33) as usize % (left + 1));
        }
        for &(bed, direction, calls, length) in &plan {
            let measured = beds[bed].flood(direction, calls, length, size.ms)?;
            report.rows.push(Row { round, kind: beds[bed].kind, direction, calls, length, measured });
        }
    }
    Ok(report)
}
