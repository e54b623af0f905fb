//! What was emitted and is not acknowledged: one message, one FIN, or the place where a message was taken out.

use serde::{Deserialize, Serialize};

use crate::types::is_default;
use crate::wire::Seq;

/// A stretch of the stream in both numberings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// First octet in S's numbers.
    pub(super) in_start: Seq,
    /// Length in S's numbers; 0 for a message of our own.
    pub(super) in_len: u32,
    /// First octet in R's numbers.
    pub(super) out: Seq,
    /// What R gets; empty for a swallowed message and for FIN.
    #[serde(with = "hex")]
    pub(super) bytes: Vec<u8>,
    /// It is FIN.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) fin: bool,
    /// S will not send it (again): we do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) ours: bool,
}

/// One segment to send to R.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Sequence number, in R's numbers.
    pub seq: Seq,
    /// Payload.
    pub bytes: Vec<u8>,
    /// Whether it carries FIN.
    pub fin: bool,
}

impl Chunk {
    /// Length in R's numbers.
    pub(super) fn out_len(&self) -> u32 {
        self.bytes.len() as u32 + u32::from(self.fin)
    }

    /// The number after it, in R's numbers.
    pub(super) fn out_end(&self) -> Seq {
        self.out + self.out_len()
    }

    /// Whether the numbers are shifted differently behind it.
    pub(super) fn shifts(&self) -> bool {
        self.in_len != self.out_len()
    }

    /// Whether `[start, end)` in S's numbers touches it.
    pub(super) fn overlaps(&self, start: Seq, end: Seq) -> bool {
        start.before(self.in_start + self.in_len) && self.in_start.before(end)
    }

    /// The segment that carries it; `None` for a swallowed message.
    pub(super) fn outgoing(&self) -> Option<Outgoing> {
        (self.out_len() > 0).then(|| Outgoing { seq: self.out, bytes: self.bytes.clone(), fin: self.fin })
    }

    /// Where `out`, inside this chunk or at one of its ends, is in S's numbers.
    pub(super) fn in_at(&self, out: Seq) -> Seq {
        let inside = out.distance(self.out).max(0).unsigned_abs();
        self.in_start + inside.min(self.in_len)
    }

    /// The acknowledgement for S when R has acknowledged up to `ack`, which is inside or before this chunk.
    pub(super) fn in_ack(&self, ack: Seq) -> Seq {
        let inside = ack.distance(self.out);
        // Of a message of another length only the beginning means something to S.
        if inside <= 0 || self.shifts() { self.in_start } else { self.in_start + inside as u32 }
    }
}

/// Octets as hexadecimal digits: a journal that people can read.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de, ser::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        // Neither by `write!` nor by characters: it would take longer than the rest of a record.
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
        let digits: Vec<u8> = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        serializer.serialize_str(std::str::from_utf8(&digits).map_err(S::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
        match digits {
            Some(digits) if digits.len() % 2 == 0 => Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()),
            Some(_) | None => Err(de::Error::custom("an even number of hexadecimal digits is expected")),
        }
    }
}
