//! The classic BPF programs that choose which packets the taps read, and the small assembler that builds them.
//!
//! Offsets are taken from the network header (`SKF_NET_OFF`), so that the same program serves devices with and without
//! a link-layer header. Jumps of classic BPF are 8 bits, hence the caps on lists; beyond a cap the program lets more
//! through and the caller's own check (`Tap` users compare the destination again) decides.

use std::net::Ipv4Addr;

use callgate_proto::model::PortRange;

/// Most addresses compared in the kernel; with more of them the destination is not looked at here.
pub const MAX_ADDRESSES: usize = 200;
/// Most port ranges compared in the kernel, each for server and external ports; with more of them any port passes.
pub const MAX_RANGES: usize = 24;

/// One instruction of classic BPF (struct sock_filter, linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the condition holds.
    pub yes: u8,
    /// Instructions to skip when it does not.
    pub no: u8,
    /// Operand.
    pub k: u32,
}

/// What the tap on an external device lets through: packets addressed to this host that are
/// TCP from `server_ports` to `external_ports`, enhanced GRE (RFC 2637 section 4.1) and its later fragments, or an ICMP error
/// (types 3 and 11) about GRE or about TCP from `external_ports`; and all of it only to `addresses`, and not by a link of `elsewhere`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// External addresses, sorted.
    pub addresses: Vec<Ipv4Addr>,
    /// TCP ports of servers, sorted and disjoint.
    pub server_ports: Vec<PortRange>,
    /// Our own ports of control connections, sorted and disjoint.
    pub external_ports: Vec<PortRange>,
    /// Links that are read by taps of their own. What comes by a VLAN, macvlan or bond is shown to a tap on the link below it too.
    pub elsewhere: Vec<u32>,
}

impl Outside {
    /// The program; accepts nothing when there is no address.
    #[must_use]
    pub fn program(&self) -> Vec<Instruction> {
        let mut p = Program::default();
        if !self.elsewhere.is_empty() {
            p.op(LD_W_ABS, (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32);
            for link in &self.elsewhere {
                p.jump(JEQ, *link, Elsewhere, Next);
            }
            p.go(Here);
            p.place(Elsewhere);
            p.op(RET, 0);
            p.place(Here);
        }
        p.op(LD_W_ABS, (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32);
        p.jump(JEQ, u32::from(libc::PACKET_HOST), Next, Drop);
        protocol_switch(&mut p);

        p.place(Gre);
        enhanced_gre(&mut p, Destination);

        p.place(Tcp);
        first_fragment_header(&mut p, Drop);
        p.op(LD_H_IND, net(0));
        p.ranges(&self.server_ports);
        p.op(LD_H_IND, net(2));
        p.ranges(&self.external_ports);
        p.go(Destination);

        p.place(Icmp);
        icmp_error(&mut p);
        p.op(LD_B_IND, net(8 + 9));
        p.jump(JEQ, GRE, Destination, Next);
        p.jump(JEQ, TCP, Next, Drop);
        // X += length of the inner IPv4 header: its TCP source port is ours.
        p.op(LD_B_IND, net(8));
        p.op(AND, 0xf);
        p.op(LSH, 2);
        p.op(ADD_X, 0);
        p.op(TAX, 0);
        p.op(LD_H_IND, net(8));
        p.ranges(&self.external_ports);
        p.go(Destination);

        p.place(Drop);
        p.op(RET, 0);

        p.place(Destination);
        if self.addresses.is_empty() {
            p.op(RET, 0);
        } else if self.addresses.len() <= MAX_ADDRESSES {
            p.op(LD_W_ABS, net(16));
            for address in &self.addresses {
                p.jump(JEQ, u32::from(*address), Accept, Next);
            }
            p.op(RET, 0);
        }
        p.place(Accept);
        p.op(RET, WHOLE);
        p.assemble()
    }
}

/// The program of the tap behind the pod-side veth pair: TCP, enhanced GRE with its later fragments, and ICMP errors.
/// Which of them are wanted was decided by the rules that steered them there; this keeps out the link's own noise.
#[must_use]
pub fn pod_side() -> Vec<Instruction> {
    let mut p = Program::default();
    protocol_switch(&mut p);
    p.place(Gre);
    enhanced_gre(&mut p, Accept);
    p.place(Tcp);
    first_fragment_header(&mut p, Drop);
    p.go(Accept);
    p.place(Icmp);
    icmp_error(&mut p);
    p.go(Accept);
    p.place(Drop);
    p.op(RET, 0);
    p.place(Accept);
    p.op(RET, WHOLE);
    p.assemble()
}

fn protocol_switch(p: &mut Program) {
    p.op(LD_B_ABS, net(9));
    p.jump(JEQ, GRE, Gre, Next);
    p.jump(JEQ, TCP, Tcp, Next);
    p.jump(JEQ, ICMP, Icmp, Drop);
}

/// Version 1 with protocol 0x880B, or a later fragment of any GRE (its header is in the first one).
fn enhanced_gre(p: &mut Program, accept: Label) {
    first_fragment_header(p, accept);
    p.op(LD_W_IND, net(0));
    p.op(AND, 0x0007_ffff);
    p.jump(JEQ, 0x0001_880b, accept, Drop);
}

/// X = length of the IPv4 header; later fragments go to `later`.
fn first_fragment_header(p: &mut Program, later: Label) {
    p.op(LD_H_ABS, net(6));
    p.jump(JSET, 0x1fff, later, Next);
    p.op(LD_B_ABS, net(0));
    p.op(AND, 0xf);
    p.op(LSH, 2);
    p.op(TAX, 0);
}

fn icmp_error(p: &mut Program) {
    first_fragment_header(p, Drop);
    p.op(LD_B_IND, net(0));
    p.jump(JEQ, 3, IcmpInner, Next); // destination unreachable
    p.jump(JEQ, 11, Next, Drop); // time exceeded
    p.place(IcmpInner);
}

const ICMP: u32 = libc::IPPROTO_ICMP as u32;
const TCP: u32 = libc::IPPROTO_TCP as u32;
const GRE: u32 = libc::IPPROTO_GRE as u32;
/// Accept, up to any length.
const WHOLE: u32 = u32::MAX;

const LD_W_ABS: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LD_H_ABS: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LD_B_ABS: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LD_W_IND: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const LD_H_IND: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LD_B_IND: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const LSH: u32 = libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K;
const ADD_X: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X;
const TAX: u32 = libc::BPF_MISC;
const RET: u32 = libc::BPF_RET | libc::BPF_K;
const JA: u32 = libc::BPF_JMP | libc::BPF_JA;
const JEQ: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JGT: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const JGE: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const JSET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;

/// An offset from the network header (linux/filter.h).
const fn net(offset: i32) -> u32 {
    (libc::SKF_NET_OFF + offset) as u32
}

/// A place in a program; `Next` and `Skip` are relative to the jump itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Next,
    Skip(u8),
    Elsewhere,
    Here,
    Gre,
    Tcp,
    Icmp,
    IcmpInner,
    Destination,
    Drop,
    Accept,
}
use Label::{Accept, Destination, Drop, Elsewhere, Gre, Here, Icmp, IcmpInner, Next, Skip, Tcp};

#[derive(Default)]
struct Program {
    lines: Vec<Line>,
    places: Vec<(Label, usize)>,
}

struct Line {
    code: u32,
    k: u32,
    yes: Label,
    no: Label,
}

impl Program {
    fn op(&mut self, code: u32, k: u32) {
        self.jump(code, k, Next, Next);
    }

    fn jump(&mut self, code: u32, k: u32, yes: Label, no: Label) {
        self.lines.push(Line { code, k, yes, no });
    }

    /// An unconditional jump: its distance is in k, so it may be far.
    fn go(&mut self, to: Label) {
        self.jump(JA, 0, to, Next);
    }

    fn place(&mut self, label: Label) {
        self.places.push((label, self.lines.len()));
    }

    /// Goes on if the accumulator is in one of the ranges, else drops.
    fn ranges(&mut self, ranges: &[PortRange]) {
        if ranges.len() > MAX_RANGES {
            return;
        }
        // Per range: `jge first` (below it: nothing later fits either, the list is sorted), `jgt last` (above: next range).
        for (i, range) in ranges.iter().enumerate() {
            let left = (ranges.len() - 1 - i) as u8;
            self.jump(JGE, u32::from(range.first), Next, Drop);
            self.jump(JGT, u32::from(range.last), if left == 0 { Drop } else { Next }, Skip(2 * left));
        }
        if ranges.is_empty() {
            self.go(Drop);
        }
    }

    fn assemble(&self) -> Vec<Instruction> {
        let place = |label: Label, at: usize| -> usize {
            match label {
                Next => 0,
                Skip(n) => usize::from(n),
                Elsewhere | Here | Gre | Tcp | Icmp | IcmpInner | Destination | Drop | Accept => self
                    .places
                    .iter()
                    .filter(|(l, to)| *l == label && *to > at)
                    .map(|(_, to)| to - at - 1)
                    .min()
                    .unwrap_or_else(|| unreachable!("{label:?} is placed after every jump to it")),
            }
        };
        let near = |label, at| {
            u8::try_from(place(label, at)).unwrap_or_else(|_| unreachable!("the caps keep jumps below 256"))
        };
        self.lines
            .iter()
            .enumerate()
            .map(|(at, i)| {
                if i.code == JA {
                    Instruction { code: JA as u16, yes: 0, no: 0, k: place(i.yes, at) as u32 }
                } else {
                    Instruction { code: i.code as u16, yes: near(i.yes, at), no: near(i.no, at), k: i.k }
                }
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
