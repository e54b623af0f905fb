//! The stream between two model TCPs over a network that loses, repeats and reorders, with any interference in between.
//!
//! ```text
//!   S (sends any ranges, believes acknowledgements) ══ network ══► stream ══ network ══► R (reassembles, SACKs)
//!                                      S ◄── acknowledgements mapped ── stream ◄══ network ══ R
//! ```
//! Whatever happens on the way, R reads the whole messages in order (rewritten, without the swallowed, with ours), each
//! sequence number carries the same octets each time, and S is only told what R has or what the stream keeps for it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::wire::control::{ControlType, Header, field12, set_field12};

/// What becomes of the nth message of S.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Emit,
    Swallow,
}

/// Something that happens. Numbers are reduced to what is possible at that moment.
#[derive(Debug, Clone)]
enum Event {
    /// S sends this many new octets.
    Send(u16),
    /// S sends a range again that it believes lost: octets from its oldest unacknowledged on, and length.
    Resend(u16, u16),
    /// The nth segment on the way from S arrives, is lost, or arrives and stays (to arrive again).
    FromS(u16, Luck),
    /// The same on the way to R.
    ToR(u16, Luck),
    /// Of the nth on the way to R only the beginning is taken, as by an R whose window is closing.
    ToRInPart(u16, u16),
    /// The same as on the way to R for its acknowledgements.
    FromR(u16, Luck),
    /// A message of our own is put in.
    Inject,
    /// Time passes until something is due.
    Wait,
    /// The state is saved and read back.
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Luck {
    Arrives,
    Lost,
    Repeated,
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![6 => Just(Luck::Arrives), 1 => Just(Luck::Lost), 1 => Just(Luck::Repeated)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1u16..400).prop_map(Event::Send),
        2 => (0u16..400, 1u16..400).prop_map(|(from, length)| Event::Resend(from, length)),
        8 => (0u16..4, luck()).prop_map(|(n, luck)| Event::FromS(n, luck)),
        8 => (0u16..4, luck()).prop_map(|(n, luck)| Event::ToR(n, luck)),
        1 => (0u16..4, 1u16..160).prop_map(|(n, length)| Event::ToRInPart(n, length)),
        6 => (0u16..4, luck()).prop_map(|(n, luck)| Event::FromR(n, luck)),
        1 => Just(Event::Inject),
        1 => Just(Event::Wait),
        1 => Just(Event::Restart),
    ]
}

fn a_message() -> impl Strategy<Value = (ControlType, Fate)> {
    let fate = prop_oneof![5 => Just(Fate::Emit), 1 => Just(Fate::Swallow)];
    (prop::sample::select(&ControlType::ALL[..]), fate)
}

fn bytes_of(control_type: ControlType, number: u16) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..control_type.length()).map(|at| (at as u16 ^ number) as u8).collect();
    let length = control_type.length() as u16;
    let header = Header {
        length,
        message_type: 1,
        cookie: control::COOKIE,
        control_type: control_type as u16,
        reserved0: number,
    };
    header.emit(&mut bytes).unwrap();
    bytes
}

/// An acknowledgement of R with the ranges it has beyond.
type Reply = (Seq, Vec<(Seq, Seq)>);

struct Model {
    first: Seq,
    now: Now,
    stream: Stream,
    /// S: its octets, what it has sent of them (FIN is the last place), what it believes acknowledged.
    octets: Vec<u8>,
    sent: usize,
    told: usize,
    fates: Vec<Fate>,
    taken: usize,
    from_s: Vec<(usize, Vec<u8>, bool)>,
    /// The gateway: each message sent, by R's number; and where each octet of S went (`None`: swallowed).
    carried: BTreeMap<usize, (Vec<u8>, bool)>,
    places: Vec<Option<usize>>,
    own: Vec<usize>,
    to_r: Vec<Outgoing>,
    /// R: the octets it has, by place; FIN is an octet 0xff that is never one of S's last places.
    got: BTreeMap<usize, u8>,
    from_r: Vec<Reply>,
}

impl Model {
    fn new(first: Seq, messages: &[(ControlType, Fate)]) -> Self {
        let octets = messages.iter().zip(0..).flat_map(|((kind, _), n)| bytes_of(*kind, n)).collect();
        Self {
            first,
            now: Now(1_000),
            stream: Stream::new(first),
            octets,
            sent: 0,
            told: 0,
            fates: messages.iter().map(|(_, fate)| *fate).collect(),
            taken: 0,
            from_s: Vec::new(),
            carried: BTreeMap::new(),
            places: Vec::new(),
            own: Vec::new(),
            to_r: Vec::new(),
            got: BTreeMap::new(),
            from_r: Vec::new(),
        }
    }

    /// Octets of S and its FIN.
    fn end(&self) -> usize {
        self.octets.len() + 1
    }

    fn place(&self, seq: Seq) -> usize {
        seq.distance(self.first) as usize
    }

    fn s_sends(&mut self, from: usize, to: usize) {
        let to = to.min(self.end());
        if from < to {
            let data = self.octets[from..to.min(self.octets.len())].to_vec();
            self.from_s.push((from, data, to == self.end()));
            self.sent = self.sent.max(to);
        }
    }

    fn happen(&mut self, event: Event) -> TestCaseResult {
        match event {
            Event::Send(length) => self.s_sends(self.sent, self.sent + usize::from(length)),
            Event::Resend(from, length) => {
                let from = (self.told + usize::from(from)).min(self.sent);
                self.s_sends(from, (from + usize::from(length)).min(self.sent));
            }
            Event::FromS(n, luck) => {
                if let Some((at, data, fin)) = pick(&mut self.from_s, n, luck) {
                    self.s_arrives(at, &data, fin)?;
                }
            }
            Event::ToR(n, luck) => {
                if let Some(segment) = pick(&mut self.to_r, n, luck) {
                    self.r_receives(&segment)?;
                }
            }
            Event::ToRInPart(n, length) => {
                if let Some(mut segment) = pick(&mut self.to_r, n, Luck::Arrives) {
                    segment.fin &= segment.bytes.len() <= usize::from(length);
                    segment.bytes.truncate(usize::from(length));
                    self.r_receives(&segment)?;
                }
            }
            Event::FromR(n, luck) => {
                if let Some(reply) = pick(&mut self.from_r, n, luck) {
                    self.reply_arrives(reply)?;
                }
            }
            Event::Inject => {
                if self.stream.can_inject() {
                    let mut own = bytes_of(ControlType::CallDisconnectNotify, 0xaaaa);
                    set_field12(&mut own, self.own.len() as u16);
                    let segment = self.stream.inject(own, self.now);
                    self.own.push(self.place(segment.seq));
                    self.carry(segment)?;
                }
            }
            Event::Wait => {
                if let Some(at) = self.stream.poll_timeout() {
                    self.now = self.now.max(at);
                    match self.stream.due(self.now) {
                        Due::Again(segments) => self.carry_all(segments)?,
                        // R may have been cut off for so long; in life the connection ends here.
                        Due::Dead => self.stream.rearm(self.now),
                        Due::Nothing => prop_assert!(false, "nothing due at its own time"),
                    }
                }
            }
            Event::Restart => {
                let text = serde_json::to_string(&self.stream).unwrap();
                let again: Stream = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(&again, &self.stream);
                self.stream = again;
                self.stream.rearm(self.now);
            }
        }
        self.s_is_told()
    }

    fn s_arrives(&mut self, at: usize, data: &[u8], fin: bool) -> TestCaseResult {
        match self.stream.receive(self.first + at as u32, data, fin) {
            Received::New(again) => {
                self.carry_all(again)?;
                loop {
                    match self.stream.next_message(true) {
                        Next::Message(bytes) => self.decide(bytes)?,
                        Next::Nothing => break,
                        other @ Next::Malformed(_) => prop_assert!(false, "{:?}", other),
                    }
                }
                if let Some(fin) = self.stream.emit_fin(self.now) {
                    self.places.push(Some(self.place(fin.seq)));
                    self.carry(fin)?;
                }
                if self.stream.is_holding() {
                    self.stream.take_custody(self.now);
                }
            }
            Received::Again(again) => self.carry_all(again)?,
            // R answers whatever is behind its window with what it stands at.
            Received::Probe(seq) => {
                prop_assert_eq!(seq, self.stream.out_next() - 1);
                self.r_replies();
            }
            Received::Acknowledge(ack) => prop_assert_eq!(ack, self.stream.in_acked()),
            Received::Gap | Received::Full => {}
            Received::Implausible => prop_assert!(false, "S is never far away"),
        }
        Ok(())
    }

    fn decide(&mut self, mut bytes: Vec<u8>) -> TestCaseResult {
        let (number, length) = (self.taken, bytes.len());
        self.taken += 1;
        if self.fates[number] == Fate::Swallow {
            self.stream.swallow(length, self.now);
            self.places.extend(vec![None; length]);
            return Ok(());
        }
        let id = field12(&bytes) ^ 0x5555;
        set_field12(&mut bytes, id);
        let segment = self.stream.emit(bytes, self.now);
        let at = self.place(segment.seq);
        self.places.extend((at..at + length).map(Some));
        self.carry(segment)
    }

    fn carry_all(&mut self, segments: Vec<Outgoing>) -> TestCaseResult {
        segments.into_iter().try_for_each(|segment| self.carry(segment))
    }

    /// A segment leaves for R: new behind everything before, or exactly what left there before.
    fn carry(&mut self, segment: Outgoing) -> TestCaseResult {
        let at = self.place(segment.seq);
        let what = (segment.bytes.clone(), segment.fin);
        let end = self.carried.last_key_value().map_or(0, |(at, (bytes, fin))| at + bytes.len() + usize::from(*fin));
        match self.carried.get(&at) {
            Some(before) => prop_assert_eq!(before, &what),
            None => {
                prop_assert_eq!(at, end);
                self.carried.insert(at, what);
            }
        }
        self.to_r.push(segment);
        Ok(())
    }

    fn r_receives(&mut self, segment: &Outgoing) -> TestCaseResult {
        let at = self.place(segment.seq);
        let fin = segment.fin.then_some(0xff);
        for (place, octet) in (at..).zip(segment.bytes.iter().copied().chain(fin)) {
            prop_assert_eq!(*self.got.entry(place).or_insert(octet), octet);
        }
        self.r_replies();
        Ok(())
    }

    fn r_has(&self) -> usize {
        (0..).zip(self.got.keys()).take_while(|(n, place)| n == *place).count()
    }

    fn r_replies(&mut self) {
        let next = self.r_has();
        let mut ranges: Vec<(Seq, Seq)> = Vec::new();
        for place in self.got.keys().filter(|place| **place >= next) {
            let seq = self.first + *place as u32;
            match ranges.last_mut() {
                Some((_, end)) if *end == seq => *end += 1,
                Some(_) | None => ranges.push((seq, seq + 1)),
            }
        }
        self.from_r.push((self.first + next as u32, ranges));
    }

    fn reply_arrives(&mut self, (ack, ranges): Reply) -> TestCaseResult {
        self.stream.acknowledged(ack, self.now);
        for (left, right) in ranges {
            if let Some((start, end)) = self.stream.map_sack(left, right) {
                let (start, end) = (self.place(start), self.place(end));
                prop_assert!(start < end && end <= self.sent && start >= self.told);
                for place in start..end {
                    let carried = self.places.get(place).copied();
                    prop_assert!(carried.is_some(), "octet {} was never taken", place);
                    if let Some(Some(out)) = carried {
                        prop_assert!(self.got.contains_key(&out), "R does not have octet {} of S", place);
                    }
                }
            }
        }
        Ok(())
    }

    /// S hears the acknowledgement the stream stands at: never back, never ahead of what it sent, and each octet it may
    /// forget is at R, or swallowed, or kept by the stream until R has it.
    fn s_is_told(&mut self) -> TestCaseResult {
        let told = self.place(self.stream.in_acked());
        prop_assert!(told >= self.told, "an acknowledgement went back from {} to {}", self.told, told);
        prop_assert!(told <= self.sent, "acknowledged {} of {}", told, self.sent);
        for place in self.told..told {
            if let Some(Some(out)) = self.places.get(place) {
                let kept = |chunk: &Chunk| (self.place(chunk.out)..self.place(chunk.out_end())).contains(out);
                let ours = self.stream.chunks.iter().any(|chunk| chunk.ours && kept(chunk));
                prop_assert!(ours || self.got.contains_key(out), "octet {} is lost", place);
            }
        }
        if self.stream.chunks.iter().any(|chunk| chunk.ours && chunk.out_len() > 0) {
            prop_assert!(self.stream.poll_timeout().is_some(), "something is ours and nobody will send it");
        }
        self.told = told;
        Ok(())
    }

    /// The network behaves: everything gets through within a few rounds.
    fn settle(&mut self) -> TestCaseResult {
        for _ in 0..200 {
            if self.told == self.end() && self.stream.is_delivered() {
                return Ok(());
            }
            self.happen(Event::Send(u16::MAX))?;
            self.happen(Event::Resend(0, u16::MAX))?;
            for _ in 0..self.from_s.len() {
                self.happen(Event::FromS(0, Luck::Arrives))?;
            }
            self.happen(Event::Wait)?;
            for _ in 0..self.to_r.len() {
                self.happen(Event::ToR(0, Luck::Arrives))?;
            }
            for _ in 0..self.from_r.len() {
                self.happen(Event::FromR(0, Luck::Arrives))?;
            }
        }
        prop_assert!(false, "not done after 200 rounds: told {} of {}", self.told, self.end());
        Ok(())
    }
}

/// Takes the nth of a queue (or the last there is).
fn pick<T: Clone>(queue: &mut Vec<T>, n: u16, luck: Luck) -> Option<T> {
    let n = usize::from(n).min(queue.len().checked_sub(1)?);
    match luck {
        Luck::Arrives => Some(queue.remove(n)),
        Luck::Repeated => Some(queue[n].clone()),
        Luck::Lost => {
            queue.remove(n);
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(512), ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_on_the_way_the_receiver_reads_whole_messages_in_order(
        first in prop_oneof![any::<u32>(), (u32::MAX - 2_000)..u32::MAX],
        messages in prop::collection::vec(a_message(), 0..14),
        events in prop::collection::vec(event(), 0..160),
    ) {
        let mut model = Model::new(Seq(first), &messages);
        for event in events {
            model.happen(event)?;
        }
        model.settle()?;

        let read: Vec<u8> = model.got.values().copied().collect();
        prop_assert_eq!(model.r_has(), read.len());
        let sent: Vec<u8> = model.carried.values().flat_map(|(bytes, fin)| bytes.iter().copied().chain(fin.then_some(0xff))).collect();
        prop_assert_eq!(&read, &sent);
        let theirs: Vec<Vec<u8>> = model
            .carried
            .iter()
            .filter(|(at, (_, fin))| !fin && !model.own.contains(at))
            .map(|(_, (bytes, _))| bytes.clone())
            .collect();
        let expected: Vec<Vec<u8>> = messages
            .iter()
            .zip(0..)
            .filter(|((_, fate), _)| *fate == Fate::Emit)
            .map(|((kind, _), number)| {
                let mut bytes = bytes_of(*kind, number);
                let id = field12(&bytes) ^ 0x5555;
                set_field12(&mut bytes, id);
                bytes
            })
            .collect();
        prop_assert_eq!(theirs, expected);
        prop_assert_eq!(model.stream.poll_timeout(), None);
    }
}
