//! A length of time as text: `180s`, `1h30m`, `500ms`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{FieldError, text_schema};
use crate::shape;

/// Longest text that can be a duration: four groups of five digits and a two-letter unit.
const MAX_LENGTH: u32 = 28;

/// A length of time in the format of the Gateway API (GEP-2257): one to four groups of one to five digits and a unit
/// (`h`, `m`, `s`, `ms`), added up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub String);

impl Duration {
    /// Milliseconds. Fails where the text is no duration; cannot overflow (at most 4 × 99999 h).
    pub fn millis(&self) -> Result<u64, FieldError> {
        parse(&self.0).ok_or_else(|| FieldError { written: self.0.clone(), remedy: shape::DURATION.message })
    }

    /// Whole seconds, rounded up, so that a short duration does not become 0. Fails as [`Duration::millis`] does.
    pub fn seconds(&self) -> Result<u32, FieldError> {
        // 4 × 99999 h are 1.44e9 s, which a u32 holds.
        self.millis().map(|millis| u32::try_from(millis.div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Milliseconds of a duration; `None` where `text` is none.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0;
    for _ in 0..4 {
        if rest.is_empty() {
            break;
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 5 {
            return None;
        }
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at(letters);
        let millis = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        total += number.parse::<u64>().ok()? * millis;
        rest = tail;
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema(MAX_LENGTH, "A length of time: 180s, 1h30m, 500ms.", &shape::DURATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_duration_are_added_up() {
        let of = |text: &str| Duration::from(text).millis();
        assert_eq!(of("180s"), Ok(180_000));
        assert_eq!(of("1h30m"), Ok(5_400_000));
        assert_eq!(of("500ms"), Ok(500));
        assert_eq!(of("0s"), Ok(0));
        assert_eq!(of("1h1m1s1ms"), Ok(3_661_001));
        assert_eq!(of("99999h99999h99999h99999h"), Ok(4 * 99_999 * 3_600_000));
    }

    #[test]
    fn text_that_is_no_duration_is_refused_with_a_remedy() {
        for written in ["", "180", "s", "1.5h", "-1s", "1 h", "1d", "100000s", "1h1m1s1ms1ms", "180S", "1sm"] {
            let expected = FieldError { written: written.into(), remedy: shape::DURATION.message };
            assert_eq!(Duration::from(written).millis(), Err(expected));
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(Duration::from("1ms").seconds(), Ok(1));
        assert_eq!(Duration::from("0s").seconds(), Ok(0));
        assert_eq!(Duration::from("99999h99999h99999h99999h").seconds(), Ok(1_439_985_600));
    }
}
