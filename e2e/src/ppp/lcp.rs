//! LCP's options (RFC 1661 section 6): MRU, ACCM, magic number, field compression. Authentication is refused.

use super::negotiate::{Judgement, Options};
use super::packet::Opt;

const MRU: u8 = 1;
const ACCM: u8 = 2;
const MAGIC: u8 = 5;
const PROTOCOL_COMPRESSION: u8 = 7;
const ADDRESS_COMPRESSION: u8 = 8;

/// What we ask for, and what the peer asked for.
#[derive(Debug, Clone)]
pub struct Lcp {
    magic: Option<u32>,
    accm: bool,
    /// Control characters that the peer wants escaped; all of them until it says otherwise (RFC 1662 section 7.1).
    pub send_accm: u32,
    asked_accm: u32,
}

impl Lcp {
    /// `magic` tells the two ends of a looped line apart; any number will do.
    pub fn new(magic: u32) -> Self {
        Self { magic: Some(magic), accm: true, send_accm: u32::MAX, asked_accm: u32::MAX }
    }

    /// Our magic number, 0 if the peer would not have one.
    pub fn magic(&self) -> u32 {
        self.magic.unwrap_or(0)
    }

    /// The exchange is open: from now on escape what the peer asked for.
    pub fn opened(&mut self) {
        self.send_accm = self.asked_accm;
    }
}

impl Options for Lcp {
    fn request(&self) -> Vec<Opt> {
        let mut options = Vec::new();
        if self.accm {
            options.push(Opt { kind: ACCM, value: vec![0; 4] });
        }
        if let Some(magic) = self.magic {
            options.push(Opt { kind: MAGIC, value: magic.to_be_bytes().to_vec() });
        }
        options
    }

    fn judge(&mut self, asked: &[Opt]) -> Judgement {
        let known = |option: &&Opt| match option.kind {
            MRU => option.value.len() == 2,
            ACCM | MAGIC => option.value.len() == 4,
            PROTOCOL_COMPRESSION | ADDRESS_COMPRESSION => option.value.is_empty(),
            _ => false,
        };
        let unknown: Vec<Opt> = asked.iter().filter(|option| !known(option)).cloned().collect();
        if !unknown.is_empty() {
            return Judgement::Reject(unknown);
        }
        self.asked_accm = u32::MAX;
        for option in asked {
            if let (ACCM, Ok(value)) = (option.kind, <[u8; 4]>::try_from(option.value.as_slice())) {
                self.asked_accm = u32::from_be_bytes(value);
            }
        }
        Judgement::Ack
    }

    // The only values we name are ones every peer can take: a peer that will not is asked without them.
    fn nak(&mut self, suggested: &[Opt]) {
        self.reject(suggested);
    }

    fn reject(&mut self, unknown: &[Opt]) {
        for option in unknown {
            match option.kind {
                ACCM => self.accm = false,
                MAGIC => self.magic = None,
                _ => {}
            }
        }
    }
}
