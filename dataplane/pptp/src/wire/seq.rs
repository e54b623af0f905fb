//! TCP sequence numbers: 32 bits that wrap, compared by distance (RFC 9293 §3.4).

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// A position in a TCP byte stream, modulo 2^32.
///
/// It has no `Ord`: "before" only means something between numbers less than 2^31 apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Seq(pub u32);

impl Seq {
    /// Signed distance in bytes from `other` to `self`; negative when `self` comes before.
    pub const fn distance(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Whether `self` comes before `other`.
    pub const fn before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// Whether `self` comes after `other`.
    pub const fn after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    /// The later of the two.
    pub const fn later(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of the two.
    pub const fn earlier(self, other: Self) -> Self {
        if self.after(other) { other } else { self }
    }
}

impl Add<u32> for Seq {
    type Output = Self;
    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;
    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_distance_across_the_wrap() {
        let high = Seq(u32::MAX - 1);
        let low = high + 5;
        assert_eq!(low, Seq(3));
        assert!(high.before(low) && low.after(high) && !low.before(high));
        assert_eq!(low.distance(high), 5);
        assert_eq!(high.distance(low), -5);
        assert_eq!(low - 5, high);
        assert_eq!((high.later(low), high.earlier(low)), (low, high));
    }
}
