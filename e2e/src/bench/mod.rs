//! The benchmark: Callgate, plain forwarding, plain masquerade and the kernel's own ALG, interleaved in one run.
//!
//! ```text
//!  site: client ── gateway (plain | masquerade | kernel ALG | Callgate) ── server        all of them side by side
//!   ├ bed: PPTP calls (scripted control connections): floods, latency, set-ups     ─┐
//!   ├ ordinary: UDP flows, 1 and 1,000 rules                                        ├─ plan: rounds ─► report ─► text, JSON, chart
//!   └ elements: one change of the kernel's tables                                  ─┘
//!  core: the engine alone, without sockets
//! ```

pub mod bed;
pub mod calls;
pub mod card;
pub mod chart;
pub mod core;
pub mod elements;
pub mod flood;
pub mod latency;
pub mod ordinary;
pub mod plan;
pub mod report;
pub mod site;

use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::lab::{kernel, signals};
use bed::{Bed, Kind};
use card::Taker;
use ordinary::{Flows, Nat};
use plan::Beds;
use report::Report;

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Interleaved rounds.
    pub rounds: usize,
    /// Milliseconds of one measurement.
    pub ms: u64,
    /// Numbers of calls that are compared.
    pub calls: &'static [usize],
    /// Calls set up in one measurement.
    pub set_ups: usize,
}

impl Size {
    /// For a first look: about two minutes.
    pub const QUICK: Self = Self { rounds: 3, ms: 150, calls: &[1, 1_000, 10_000], set_ups: 300 };
    /// For figures that are told to others.
    pub const FULL: Self = Self { rounds: 12, ms: 250, calls: &[1, 100, 1_000, 10_000, 60_000], set_ups: 500 };
}

/// Octets of IPv4 packets.
const LENGTHS: [usize; 2] = [80, 1_400];
/// What tells a bed with cards at its far ends from the others.
const CARD: &str = "c";
/// Gateways that are measured between cards.
const CARDS: [Kind; 4] = [Kind::Plain, Kind::KernelAlg, Kind::Fast, Kind::Xdp];
/// More calls than the kernel's ALG has room for before their first packet.
const TOO_MANY: usize = 3_000;

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// GRE over all calls, as fast as it goes; calls before any GRE; memory.
    Gre,
    /// The same of packets of 80 octets as between network cards: frames that were no skb before.
    Cards,
    /// GRE, one packet now and then.
    Latency,
    /// UDP through ordinary rules.
    Ordinary,
    /// Call set-ups.
    SetUps,
    /// One change of the kernel's tables; the engine alone.
    Tables,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How much.
    pub size: Size,
    /// Nothing else.
    pub parts: Vec<Part>,
    /// No other gateways.
    pub kinds: Vec<Kind>,
}

impl Plan {
    fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

/// Runs it; the report is of the rounds that were complete when a signal came.
///
/// # Errors
/// Without root, or if a bed cannot be built.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    signals::install_patient();
    crate::lab::names::sweep_dead();
    let size = &plan.size;
    let mut report = Report { wanted: size.rounds, ..Report::default() };
    let begun = Instant::now();
    let mut beds = build(plan, &mut report)?;
    if plan.has(Part::Tables) {
        eprintln!("==> the kernel's tables, and the engine alone");
        report.core = core::measure(size.rounds.min(5));
        report.changes = elements::measure().context("changes of the kernel's tables")?;
    }
    let mut cells = plan::cells(&beds, plan);
    eprintln!("==> {} measurements a round; built in {:.0} s", cells.len(), begun.elapsed().as_secs_f64());
    let (mut random, begun, mut complete) = (0x9e37_79b9_7f4a_7c15_u64, Instant::now(), 0);
    for round in 0..size.rounds {
        plan::shuffle(&mut cells, &mut random);
        if !plan::round(&mut beds, &cells, round, size, &mut report) {
            break;
        }
        complete = round + 1;
        let (took, left) = (begun.elapsed().as_secs_f64(), size.rounds - complete);
        let left = took / complete as f64 * left as f64;
        eprintln!("==> round {complete} of {} after {took:.0} s, about {left:.0} s to go", size.rounds);
    }
    report.finish(complete);
    Ok(report)
}

/// All beds, with what is measured while they are made.
fn build(plan: &Plan, report: &mut Report) -> anyhow::Result<Beds> {
    let most = if plan.has(Part::Gre) || plan.has(Part::Cards) {
        plan.size.calls.iter().copied().max().unwrap_or(1)
    } else {
        1
    };
    let mut beds = Beds::default();
    for &kind in &plan.kinds {
        if kind == Kind::Xdp && !kernel::has_xdp() {
            eprintln!("==> {}: left out, this kernel does not say what drivers can (Linux 6.3)", kind.name());
            continue;
        }
        ensure!(!signals::asked_to_end(), "ended by a signal before anything was measured");
        if plan.has(Part::Gre) || plan.has(Part::Cards) || plan.has(Part::Latency) {
            beds.calls.push(with_calls(kind, most, plan, report).with_context(|| kind.name())?);
            if plan.has(Part::Cards) && kind == Kind::Xdp {
                beds.cards.push(between_cards(kind, most).context("far ends that are cards")?);
            }
        }
        // A call is set up with XDP as without.
        if plan.has(Part::SetUps) && kind != Kind::Xdp {
            beds.set_ups.push(Bed::build(kind, plan::SET_UPS).with_context(|| kind.name())?);
        }
    }
    if plan.has(Part::Gre) && plan.kinds.contains(&Kind::KernelAlg) {
        eprintln!("==> {}: setting up {TOO_MANY} calls before any GRE", Kind::KernelAlg.name());
        let mut alg = Bed::build(Kind::KernelAlg, "x")?;
        alg.set_up(TOO_MANY, plan::WIDTHS[1])?;
        report.unheard.insert(0, (Kind::KernelAlg, TOO_MANY, all_that_carry(&alg)?));
    }
    for nat in Nat::ALL.into_iter().filter(|_| plan.has(Part::Ordinary)) {
        eprintln!("==> ordinary NAT: {}", nat.name());
        beds.flows.push(Flows::build(nat).with_context(|| nat.name())?);
    }
    Ok(beds)
}

fn with_calls(kind: Kind, most: usize, plan: &Plan, report: &mut Report) -> anyhow::Result<Bed> {
    let mut bed = Bed::build(kind, "")?;
    let calls = most.min(bed.most()?);
    if plan.has(Part::Cards) {
        // All of them, though not all are measured so: what a far end does with a packet is the same for each.
        bed = bed.with_cards(calls, Taker::Stack)?;
    }
    eprintln!("==> {}: setting up {calls} calls", kind.name());
    // What the first call needs, it needs for all.
    bed.set_up(1, 1)?;
    if kind == Kind::Xdp {
        bed.wait_for_xdp()?;
    }
    let (before, others) = (bed.agent_memory()?, calls - 1);
    if others > 0 {
        bed.set_up(others, plan::WIDTHS[1])?;
        if let (Some(before), Some(after)) = (before, bed.agent_memory()?) {
            report.memory.push((kind, calls, after.saturating_sub(before) as f64 / others as f64));
        }
    }
    match kind {
        Kind::Plain | Kind::Masquerade => {}
        // Its expectations end with the first packet of each call.
        Kind::KernelAlg => {
            let carry = all_that_carry(&bed)? as usize;
            ensure!(
                carry == calls,
                "of {calls} calls only {carry} carry GRE: what it would cost is not that of {calls}"
            );
        }
        Kind::Slow | Kind::Fast | Kind::Xdp => report.unheard.push((kind, calls, all_that_carry(&bed)?)),
    }
    Ok(bed)
}

/// A bed whose far ends take frames of XDP as cards.
fn between_cards(kind: Kind, calls: usize) -> anyhow::Result<Bed> {
    let mut bed = Bed::build(kind, CARD)?.with_cards(calls, Taker::Card)?;
    bed.set_up(1, 1)?;
    bed.wait_for_xdp()?;
    if calls > 1 {
        bed.set_up(calls - 1, plan::WIDTHS[1])?;
    }
    let carry = all_that_carry(&bed)? as usize;
    ensure!(carry == calls, "of {calls} calls only {carry} carry GRE");
    Ok(bed)
}

/// Calls of a bed whose packets arrive. A packet may get lost where this machine is busy, a call may not: the best of a few passes.
fn all_that_carry(bed: &Bed) -> anyhow::Result<u64> {
    let mut best = 0;
    for _ in 0..3 {
        best = best.max(bed.first_packets()?);
        if best as usize == bed.calls() {
            break;
        }
    }
    Ok(best)
}
