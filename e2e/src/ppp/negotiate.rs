//! The configuration exchange that LCP and IPCP share (RFC 1661 section 4), without a clock of its own.

use super::packet::{Control, Opt, code, parse_options, write_options};

/// Time between Configure-Requests, milliseconds. RFC 1661 suggests three seconds; a lab is quicker.
pub const RESTART_MS: u64 = 1_000;
/// Configure-Requests without an answer before giving up.
const MAX_CONFIGURE: u32 = 15;

/// What one side thinks of the other side's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// All fine.
    Ack,
    /// These would be fine instead.
    Nak(Vec<Opt>),
    /// These are not known here.
    Reject(Vec<Opt>),
}

/// The options of one protocol.
pub trait Options {
    /// What we ask for.
    fn request(&self) -> Vec<Opt>;
    /// Looks at what the peer asks for; remembers it if the answer is `Ack`.
    fn judge(&mut self, asked: &[Opt]) -> Judgement;
    /// The peer suggests other values.
    fn nak(&mut self, suggested: &[Opt]);
    /// The peer does not know these options.
    fn reject(&mut self, unknown: &[Opt]);
}

/// How an exchange stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not begun.
    Closed,
    /// Requests are under way.
    Negotiating,
    /// Both sides have acknowledged each other.
    Opened,
    /// The peer ended it, or never answered.
    Failed,
}

/// One exchange: our request and theirs.
#[derive(Debug)]
pub struct Negotiation<O> {
    /// The options, as agreed so far.
    pub options: O,
    protocol: u16,
    state: State,
    id: u8,
    sent: u32,
    ours_acked: bool,
    theirs_acked: bool,
    /// When the next request is due, milliseconds.
    due: Option<u64>,
}

impl<O: Options> Negotiation<O> {
    /// An exchange that has not begun.
    pub fn new(protocol: u16, options: O) -> Self {
        Self {
            options,
            protocol,
            state: State::Closed,
            id: 0,
            sent: 0,
            ours_acked: false,
            theirs_acked: false,
            due: None,
        }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// When `tick` wants to be called, milliseconds.
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// Begins: sends the first request.
    pub fn open(&mut self, now: u64, out: &mut Vec<Vec<u8>>) {
        self.state = State::Negotiating;
        self.sent = 0;
        self.ours_acked = false;
        self.theirs_acked = false;
        self.send_request(now, out);
    }

    /// Time has passed: repeats the request, or gives up.
    pub fn tick(&mut self, now: u64, out: &mut Vec<Vec<u8>>) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        if self.sent >= MAX_CONFIGURE {
            self.state = State::Failed;
            self.due = None;
        } else {
            self.send_request(now, out);
        }
    }

    fn send_request(&mut self, now: u64, out: &mut Vec<Vec<u8>>) {
        self.id = self.id.wrapping_add(1);
        self.sent += 1;
        self.due = Some(now + RESTART_MS);
        let data = write_options(&self.options.request());
        out.push(Control { code: code::CONFIGURE_REQUEST, id: self.id, data }.frame(self.protocol));
    }

    /// One packet of this protocol. True if it was one of the six codes dealt with here.
    pub fn input(&mut self, packet: &Control, now: u64, out: &mut Vec<Vec<u8>>) -> bool {
        match packet.code {
            code::CONFIGURE_REQUEST => self.peer_asks(packet, now, out),
            code::CONFIGURE_ACK if packet.id == self.id => self.ours_acked = true,
            code::CONFIGURE_NAK | code::CONFIGURE_REJECT if packet.id == self.id && !self.ours_acked => {
                if let Some(options) = parse_options(&packet.data) {
                    if packet.code == code::CONFIGURE_NAK {
                        self.options.nak(&options);
                    } else {
                        self.options.reject(&options);
                    }
                    self.send_request(now, out);
                }
            }
            // Answers to a request that is not the last one: stale (RFC 1661 section 5.2).
            code::CONFIGURE_ACK | code::CONFIGURE_NAK | code::CONFIGURE_REJECT => {}
            code::TERMINATE_REQUEST => {
                out.push(Control { code: code::TERMINATE_ACK, id: packet.id, data: vec![] }.frame(self.protocol));
                self.state = State::Failed;
                self.due = None;
            }
            code::TERMINATE_ACK => {}
            _ => return false,
        }
        if self.state == State::Negotiating && self.ours_acked && self.theirs_acked {
            self.state = State::Opened;
            self.due = None;
        }
        true
    }

    fn peer_asks(&mut self, packet: &Control, now: u64, out: &mut Vec<Vec<u8>>) {
        if matches!(self.state, State::Closed | State::Failed) {
            return;
        }
        let Some(asked) = parse_options(&packet.data) else { return };
        // A new request in an open exchange starts it over (RFC 1661 section 4.1, state Opened, event RCR).
        if self.state == State::Opened {
            self.open(now, out);
        }
        let judgement = self.options.judge(&asked);
        self.theirs_acked = judgement == Judgement::Ack;
        let (code, data) = match judgement {
            Judgement::Ack => (code::CONFIGURE_ACK, packet.data.clone()),
            Judgement::Nak(options) => (code::CONFIGURE_NAK, write_options(&options)),
            Judgement::Reject(options) => (code::CONFIGURE_REJECT, write_options(&options)),
        };
        out.push(Control { code, id: packet.id, data }.frame(self.protocol));
    }
}
