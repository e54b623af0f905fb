//! A far end as a network card would be: frames that never were an skb, by BPF_PROG_TEST_RUN with live frames (Linux 5.18), and, where
//! XDP hands them over, frames that never become one. What either costs is not the gateway's.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, bail};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode, tc};
use aya::{Ebpf, EbpfLoader};

use super::flood::{self, Frames, HEAD, Packet};
use super::site::SERVER_NET;
use crate::lab::node::Node;

/// The object that clang has made of e2e/bpf/card.bpf.c (`cargo xtask generate`).
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/card.bpf.o");

/// Frames a system call where nothing limits them: each call makes pages for a batch.
const MANY: usize = 1_024;

/// linux/bpf.h.
const PROG_TEST_RUN: i64 = 10;
const LIVE_FRAMES: u32 = 1 << 1;

/// Who takes what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taker {
    /// A machine's stack, which makes an skb of it first.
    Stack,
    /// A card, which sends it off: nothing becomes of the frame here.
    Card,
}

impl Taker {
    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stack => "stack",
            Self::Card => "card",
        }
    }
}

/// One end's card.
#[derive(Debug)]
pub struct Card {
    ebpf: Ebpf,
    sends: OwnedFd,
    /// Frames whose heads it has.
    loaded: usize,
}

impl Card {
    /// At an end's eth0, for so many frames. What arrives is counted by `taker`; until it is told what, all goes to the stack.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn at(end: &Node, most: usize, taker: Taker) -> anyhow::Result<Self> {
        let link = end.within(|| nix::net::if_::if_nametoindex("eth0"))?.context("eth0")?;
        let mut loader = EbpfLoader::new();
        loader.btf(None).map_max_entries("heads", most as u32).override_global("LINK", &link, true);
        let mut ebpf = loader.load(OBJECT).context("the programs of a card")?;
        // Somewhere it has to be, or the kernel rewrites itself with each call (its dispatcher of XDP programs).
        let sends = attach(&mut ebpf, end, "card_sends", ("lo", XdpMode::Skb))?;
        let mut card = Self { ebpf, sends, loaded: 0 };
        card.take(None)?;
        match taker {
            Taker::Card => drop(attach(&mut card.ebpf, end, "card_counts", ("eth0", XdpMode::Driver))?),
            Taker::Stack => {
                let program: &mut SchedClassifier =
                    card.ebpf.program_mut("stack_counts").context("no such program")?.try_into()?;
                program.load()?;
                end.within(|| -> anyhow::Result<()> {
                    // Before tcx it stands behind that.
                    let _ = tc::qdisc_add_clsact("eth0");
                    program.attach("eth0", TcAttachType::Ingress).context("stack_counts on eth0")?;
                    Ok(())
                })??;
            }
        }
        Ok(card)
    }

    /// From now on it counts these packets and lets no GRE through; or, without any, lets everything through.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn take(&mut self, wanted: Option<(&[Packet], [u8; 6])>) -> anyhow::Result<()> {
        let value = wanted.map_or(Ok(passing()), |(wanted, mac)| counted(wanted, mac))?;
        let mut wanteds: Array<_, [u8; 28]> = self.ebpf.map_mut("wanteds").context("wanteds")?.try_into()?;
        wanteds.set(0, value, 0).context("what is counted")
    }

    /// Packets counted so far, once they are no longer more.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn settled(&self) -> anyhow::Result<u64> {
        let map: PerCpuArray<&MapData, u64> = self.ebpf.map("counted").context("counted")?.try_into()?;
        flood::settle(|| Ok(map.get(&0, 0)?.iter().sum()))
    }

    /// These frames are what it sends; each is a prefix of those that were loaded before.
    ///
    /// # Errors
    /// If there are more than it was made for.
    pub fn load(&mut self, frames: &Frames) -> anyhow::Result<()> {
        let heads = frames.heads();
        if heads.len() > self.loaded {
            let mut map: Array<_, [u8; 48]> = self.ebpf.map_mut("heads").context("heads")?.try_into()?;
            for (head, at) in heads.iter().zip(0..) {
                let mut value = [0; 48];
                value[..HEAD].copy_from_slice(head);
                map.set(at, value, 0).context("a head")?;
            }
            self.loaded = heads.len();
        }
        let mut turns: Array<_, [u32; 2]> = self.ebpf.map_mut("turns").context("turns")?.try_into()?;
        turns.set(0, [0, heads.len() as u32], 0).context("whose turn it is")
    }

    /// All frames that are loaded in turn for this long, as many as it can or so many a second; how many were sent off.
    ///
    /// # Errors
    /// If they cannot be sent.
    pub fn run(&self, from: &Node, frames: &Frames, time: Duration, rate: Option<f64>) -> anyhow::Result<u64> {
        let frame = frames.first();
        from.within(|| flood::paced(time, rate, MANY, |batch| self.send(&frame, batch)))?
    }

    fn send(&self, frame: &[u8], count: usize) -> anyhow::Result<usize> {
        // union bpf_attr, `test`: prog_fd, data_size_in, data_in, repeat, flags, batch_size.
        let mut attr = [0u32; 20];
        attr[0] = self.sends.as_raw_fd() as u32;
        attr[2] = frame.len() as u32;
        let at = frame.as_ptr() as u64;
        (attr[4], attr[5]) = (at as u32, (at >> 32) as u32);
        (attr[8], attr[16], attr[18]) = (count as u32, LIVE_FRAMES, flood::BATCH as u32);
        // SAFETY: the kernel reads the attribute and the frame within the lengths it is told; both live until the call returns.
        let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, attr.as_mut_ptr(), size_of_val(&attr)) };
        if result < 0 {
            return Err(std::io::Error::last_os_error()).context("sending frames (BPF_PROG_TEST_RUN)");
        }
        Ok(count)
    }
}

fn attach(ebpf: &mut Ebpf, end: &Node, name: &str, (link, mode): (&str, XdpMode)) -> anyhow::Result<OwnedFd> {
    let program: &mut Xdp = ebpf.program_mut(name).context("no such program")?.try_into()?;
    program.load()?;
    end.within(|| program.attach(link, mode))?.with_context(|| format!("{name} on {link}"))?;
    Ok(program.fd()?.as_fd().try_clone_to_owned()?)
}

/// `struct wanted`: everything to the stack.
fn passing() -> [u8; 28] {
    let mut value = [0; 28];
    value[26] = 1;
    value
}

/// `struct wanted`: packets between these addresses with these Call IDs, which follow each other.
fn counted(wanted: &[Packet], mac: [u8; 6]) -> anyhow::Result<[u8; 28]> {
    let ids = flood::call_ids(wanted);
    let (Some(packet), Some(first), Some(last)) = (wanted.first(), ids.clone().min(), ids.max()) else {
        bail!("no calls")
    };
    // /30, which holds the servers and nobody else.
    let net = |address: Ipv4Addr| {
        let mask = Ipv4Addr::from(if SERVER_NET.1.contains(&address) { !3 } else { !0 });
        [address & mask, mask]
    };
    let [[source, source_mask], [destination, destination_mask]] = [packet.src, packet.dst].map(net);
    let addresses = [source, source_mask, destination, destination_mask].map(|address| address.octets()).concat();
    let mut value = [0; 28];
    value[..16].copy_from_slice(&addresses);
    value[16..18].copy_from_slice(&first.to_ne_bytes());
    value[18..20].copy_from_slice(&last.to_ne_bytes());
    value[20..26].copy_from_slice(&mac);
    Ok(value)
}
