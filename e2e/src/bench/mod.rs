//! The benchmark: Callgate, plain forwarding and the kernel's own ALG, interleaved in one run.
//!
//! ```text
//!  bed: client ── gateway (plain | kernel ALG | Callgate) ── server        three of them, side by side
//!  calls (scripted control connections) ─► flood (server → client) ─► count what arrives translated ─► report
//!  core: the engine alone, without sockets
//! ```

pub mod bed;
pub mod calls;
pub mod core;
pub mod flood;
pub mod report;

use anyhow::Context as _;

use bed::{Bed, Kind};
use report::{Report, Row};

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Interleaved rounds.
    pub rounds: usize,
    /// Milliseconds of one measurement.
    pub ms: u64,
}

/// Numbers of calls that are compared. The kernel's ALG is asked up to 1,000: beyond 2,048 calls without GRE it stops
/// carrying them.
const CALLS: [usize; 3] = [1, 1_000, 10_000];
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
    let mut beds = Vec::new();
    for kind in [Kind::Plain, Kind::KernelAlg, Kind::Callgate] {
        eprintln!("==> {} : building", kind.name());
        beds.push(Bed::build(kind).with_context(|| kind.name())?);
    }
    let before = beds[2].agent_memory()?;
    for bed in &mut beds {
        let wanted = if bed.kind == Kind::KernelAlg { 1_000 } else { 10_000 };
        eprintln!("==> {} : setting up {wanted} calls", bed.kind.name());
        let took = bed.set_up(wanted)?;
        report.set_ups.push((bed.kind, wanted, wanted as f64 / took.as_secs_f64()));
    }
    report.bytes_per_call = (beds[2].agent_memory()?.saturating_sub(before)) as f64 / 10_000.0;
    let mut plan: Vec<(usize, usize, usize)> = Vec::new();
    for (bed, _) in beds.iter().enumerate() {
        for calls in CALLS.into_iter().filter(|calls| *calls <= beds[bed].calls()) {
            plan.extend(LENGTHS.map(|length| (bed, calls, length)));
        }
    }
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..size.rounds {
        eprintln!("==> round {} of {}", round + 1, size.rounds);
        for left in (1..plan.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            plan.swap(left, (random >> 33) as usize % (left + 1));
        }
        for &(bed, calls, length) in &plan {
            let measured = beds[bed].flood(calls, length, size.ms)?;
            report.rows.push(Row { round, kind: beds[bed].kind, calls, length, measured });
        }
    }
    Ok(report)
}
