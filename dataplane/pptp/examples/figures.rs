//! Figures of the core alone: ns a GRE packet and octets of memory a call at 1, 1,000 and 60,000 calls, ns a control message.
//!
//! `cargo run --release -p callgate-pptp --example figures`

// A measuring program: a panic is its way to fail, and it uses the tests' scripted peers only in part.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

#[path = "../tests/engine/ends.rs"]
mod ends;
#[path = "../tests/engine/messages.rs"]
mod messages;
#[path = "../tests/engine/pair.rs"]
mod pair;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callgate_pptp::{Admission, Admit, Change, Engine, Flow, Limits, Now, Refusal, Verdict};
use messages::gre;
use pair::{EXTERNAL, Pair, SERVER, client_addr, policy};

/// Octets in use.
static USED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system allocator unchanged; only a counter is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        USED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; `at` came from `alloc` and so from the system allocator.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Yes;

impl Admit for Yes {
    fn admit(&mut self, _: Flow) -> Result<Admission, Refusal> {
        Ok(Admission { external: EXTERNAL, policy: policy() })
    }
}

/// The records of an engine with so many calls, `each` a connection, and the ids of each call: client number, PAC id,
/// translated id.
fn build(calls: u32, each: u32) -> (Vec<Change>, Vec<(u32, u16, u16)>) {
    let limits = Limits { port_ranges: vec![(1_024, 65_535)], ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    let mut ids = Vec::new();
    for client in 0..calls.div_ceil(each) {
        let link = pair.start(client_addr(client), 40_000);
        for call in 0..each.min(calls - client * each) {
            let pac = (client * each + call) as u16;
            ids.push((client, pac, pair.call(link, call as u16, pac)));
        }
        pair.journal.clear();
        pair.events.clear();
        pair.clients.clear();
        pair.servers.clear();
    }
    (pair.engine.records(), ids)
}

fn restored(records: &[Change]) -> Engine {
    Engine::restore(Limits::default(), 9, records.iter().cloned(), Now(1_000_000))
}

/// ns an item of the best of seven rounds: what else the machine does counts little then.
fn best(mut round: impl FnMut() -> (Duration, usize)) -> f64 {
    let times = (0..7).map(|_| {
        let (time, items) = round();
        time.as_nanos() as f64 / items as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

fn gre_figures(calls: u32, each: u32) {
    let (records, ids) = build(calls, each);
    let before = USED.load(Ordering::Relaxed);
    let mut engine = restored(&records);
    let memory = USED.load(Ordering::Relaxed) - before;
    // A stride without common divisor: neighbours in time are not neighbours in the tables.
    let order = || (0..100_000).map(|n| ids[n * 7_919 % ids.len()]);
    // One after the other in memory, and copied to one place, as a ring of receive buffers is hot: what is measured are the
    // tables.
    let up: Vec<u8> = order().flat_map(|(client, pac, _)| gre(client_addr(client), SERVER, pac, 1, &[0; 64])).collect();
    let down: Vec<u8> = order().flat_map(|(.., translated)| gre(SERVER, EXTERNAL, translated, 1, &[0; 64])).collect();
    let now = Now(2_000_000);
    let mut figure = |packets: &[u8], from_client: bool| {
        best(|| {
            let start = Instant::now();
            for fresh in packets.chunks_exact(96) {
                let mut packet = [0; 96];
                packet.copy_from_slice(fresh);
                let verdict = if from_client {
                    engine.from_client(&mut packet, &mut Yes, now)
                } else {
                    engine.from_server(&mut packet, now)
                };
                assert!(matches!(verdict, Verdict::Forward(_)));
            }
            (start.elapsed(), packets.len() / 96)
        })
    };
    let (up, down) = (figure(&up, true), figure(&down, false));
    println!(
        "{calls:>6} calls, {each:>3} a connection: {up:>6.1} ns up, {down:>6.1} ns down a GRE packet; {:>4} octets a call",
        memory / calls as usize
    );
}

/// Echo-Requests of one client, each acknowledged: TCP checks, framing, checking, saved state, the new segment.
fn message_figures() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let (client, server) = (&pair.clients[&link.client], &pair.servers[&link.server]);
    let (mut client, mut server) = (client.clone(), server.clone());
    let figure = best(|| {
        let segments: Vec<(Vec<u8>, Vec<u8>)> = (0..20_000)
            .map(|_| {
                let message = client.data(&messages::set_link_info(100));
                server.expected += 24;
                (message, server.ack())
            })
            .collect();
        let start = Instant::now();
        let items = segments.len();
        for (mut message, mut acknowledgement) in segments {
            pair.engine.from_client(&mut message, &mut Yes, pair.now);
            while pair.engine.poll_command().is_some() {}
            let verdict = pair.engine.from_server(&mut acknowledgement, pair.now);
            assert!(matches!(verdict, Verdict::Forward(_)));
        }
        (start.elapsed(), items)
    });
    println!("a control message with its acknowledgement: {figure:.0} ns");
}

/// SYN, SYN-ACK, ACK, types 1, 2, 7, 8: what a call set-up costs the core, scripted peers included.
fn set_up_figures() {
    let figure = best(|| {
        let limits = Limits { port_ranges: vec![(1_024, 65_535)], ..Limits::default() };
        let mut pair = Pair::with_limits(limits);
        let start = Instant::now();
        for client in 0..2_000 {
            let link = pair.start(client_addr(client), 40_000);
            pair.call(link, 0, client as u16);
        }
        (start.elapsed(), 2_000)
    });
    println!("a call set-up, scripted peers included: {:.1} us", figure / 1_000.0);
}

fn main() {
    for (calls, each) in [(1, 1), (1_000, 1), (20_000, 1), (60_000, 100)] {
        gre_figures(calls, each);
    }
    message_figures();
    set_up_figures();
}
