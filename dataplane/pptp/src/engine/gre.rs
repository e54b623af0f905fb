//! GRE of live calls: addresses and Call ID rewritten in place, one look-up a packet.

use super::Engine;
use super::call::Meter;
use super::fragments::{FragmentKey, Way};
use super::timers::Timer;
use super::view::CallState;
use crate::types::{Command, Now, Side, Verdict};
use crate::wire::{gre, ipv4};

impl Engine {
    pub(super) fn gre(&mut self, from: Side, packet: &mut [u8], now: Now) -> Verdict {
        let mut ip = ipv4::Packet::new_unchecked(&mut *packet);
        if ip.fragment_offset() > 0 {
            return self.later_fragment(from, packet, now);
        }
        let (src, dst, length, first) = (ip.src(), ip.dst(), ip.total_len(), ip.more_fragments());
        let payload = ip.payload_mut();
        // A first fragment does not hold all that its GRE header announces.
        let parsed = if first { gre::Packet::new_embedded(&*payload) } else { gre::Packet::new_checked(&*payload) };
        let Ok(header) = parsed else {
            self.counters.drop_gre_malformed += 1;
            return Verdict::Consumed;
        };
        let (id, sequence) = (header.call_id(), header.seq());
        let found = match from {
            Side::Client => self.calls.up(src, dst, id),
            Side::Server => self.calls.down(dst, src, id),
        };
        let Some(call) = found.and_then(|index| self.calls.get_mut(index)) else {
            self.counters.drop_gre_unknown_call += 1;
            self.note_dropped(from, packet, "GRE of no live call", now);
            return Verdict::Consumed;
        };
        if call.data.state != CallState::Up {
            let serial = call.serial;
            return self.hold(from, serial, packet, now);
        }
        call.data.last_seen = now;
        let way = match from {
            Side::Client => {
                count(&mut call.data.up, call.beside, length, sequence, now);
                self.counters.gre_up_packets += 1;
                self.counters.gre_up_bytes += length as u64;
                Way { to: Side::Server, src: call.external, dst }
            }
            Side::Server => {
                count(&mut call.data.down, call.beside, length, sequence, now);
                self.counters.gre_down_packets += 1;
                self.counters.gre_down_bytes += length as u64;
                let pns = call.data.pns.map_or(id, |pns| pns.client);
                gre::Packet::new_unchecked(payload).set_call_id(pns);
                Way { to: Side::Client, src, dst: call.client }
            }
        };
        if first {
            return self.first_fragment(FragmentKey::of(packet), way, packet, now);
        }
        way.apply(packet);
        Verdict::Forward(way.to)
    }

    /// The server may speak before its reply has reached the client. The client cannot: it does not know the id yet.
    fn hold(&mut self, from: Side, serial: u64, packet: &[u8], now: Now) -> Verdict {
        let queue = self.held.get(&serial).map_or(0, Vec::len);
        if from == Side::Client
            || queue >= self.limits.early_gre_packets as usize
            || self.held.values().map(Vec::len).sum::<usize>() >= self.limits.early_gre_total as usize
        {
            self.counters.drop_gre_held += 1;
            return Verdict::Consumed;
        }
        if queue == 0 {
            self.timers.set(now.after(self.limits.early_gre_ms), Timer::Held(serial));
        }
        self.counters.gre_held += 1;
        self.held.entry(serial).or_default().push(packet.to_vec());
        Verdict::Consumed
    }

    /// After a message of the server: GRE held for calls of this connection that are up now follows it.
    pub(super) fn release_held(&mut self, connection: u32, now: Now) {
        if self.held.is_empty() {
            return;
        }
        let ready: Vec<u64> = self
            .calls
            .of_connection(connection)
            .filter_map(|index| self.calls.get(index))
            .filter(|call| call.data.state == CallState::Up && self.held.contains_key(&call.serial))
            .map(|call| call.serial)
            .collect();
        for serial in ready {
            for mut packet in self.held.remove(&serial).unwrap_or_default() {
                self.counters.gre_released += 1;
                if let Verdict::Forward(to) = self.gre(Side::Server, &mut packet, now) {
                    self.commands.push_back(Command::Send { to, packet });
                }
            }
        }
    }
}

fn count(meter: &mut Meter, beside: bool, length: usize, sequence: Option<u32>, now: Now) {
    if beside {
        meter.count_beside(length, sequence.is_some(), now);
    } else {
        meter.count(length, sequence, now);
    }
}
