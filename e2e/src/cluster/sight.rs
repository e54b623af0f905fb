//! What the router sees of packets that pods have sent: under whose address each leaves the cluster, if it does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::Cluster;
use super::inside::{Opening, Shot};
use super::wiring::LAN;
use crate::lab::capture::Capture;
use crate::lab::packet::{Body, Packet};
use crate::wait;

/// How long a packet may take that has to come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one must not come that has not to.
const SILENCE: Duration = Duration::from_millis(150);

/// A running look at everything that leaves the cluster.
#[derive(Debug)]
pub struct Sight(Capture);

impl Sight {
    /// Begins.
    ///
    /// # Errors
    /// If the router cannot be looked at.
    pub fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        Capture::start(&cluster.outside.router, LAN).map(Self)
    }

    /// Source address of each of these packets, `None` where it did not come. Those that are `expected` to come are waited for;
    /// after that a moment for the others.
    pub fn sources(&self, shots: &[(Shot, bool)]) -> Vec<Option<Ipv4Addr>> {
        let all_there = wait::until_true("packets outside", PATIENCE, || {
            let seen = self.seen();
            Ok(shots.iter().all(|(shot, expected)| !expected || seen.contains_key(&key(shot))))
        });
        // What has not come is part of the answer.
        drop(all_there);
        if shots.iter().any(|(_, expected)| !expected) {
            wait::let_pass(SILENCE);
        }
        let seen = self.seen();
        shots.iter().map(|(shot, _)| seen.get(&key(shot)).copied()).collect()
    }

    /// Call IDs by which `node` has sent GRE to servers.
    pub fn call_ids(&self, node: Ipv4Addr) -> BTreeSet<u16> {
        let packets = self.0.packets();
        let sent = packets.iter().filter(|packet| packet.source == node);
        sent.filter_map(|packet| if let Body::Gre(gre) = &packet.body { Some(gre.call_id) } else { None }).collect()
    }

    fn seen(&self) -> BTreeMap<(u8, u32), Ipv4Addr> {
        self.0.packets().iter().filter_map(|packet| Some((token(packet)?, packet.source))).collect()
    }
}

fn key(shot: &Shot) -> (u8, u32) {
    (shot.opening.protocol(), shot.token)
}

/// Protocol and token of what may be a shot; answers to shots are none.
fn token(packet: &Packet) -> Option<(u8, u32)> {
    match &packet.body {
        Body::Tcp(segment) if segment.flags == crate::lab::packet::flags::SYN => {
            Some((Opening::Tcp.protocol(), segment.sequence))
        }
        Body::Other(17) => {
            let payload = packet.bytes.get(28..32)?.try_into().ok()?;
            Some((Opening::Udp.protocol(), u32::from_be_bytes(payload)))
        }
        Body::Gre(gre) => Some((Opening::Gre(0).protocol(), gre.sequence?)),
        Body::Tcp(_) | Body::Icmp { .. } | Body::Fragment { .. } | Body::Other(_) => None,
    }
}
