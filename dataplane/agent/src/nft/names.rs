//! What chains, sets and objects are called: after the objects they come from, so that they stay when others change.

use callgate_proto::model::{ObjectKey, Rule, Service};

/// Longest name we make; the kernel's limit is 255, the nft tool's buffers are smaller.
const LONGEST: usize = 100;

/// The chain that matches a rule.
pub(super) fn rule(rule: &ObjectKey) -> String {
    joined(&["r", &rule.namespace, &rule.name])
}

/// The set with a rule's destinations.
pub(super) fn destinations(rule: &ObjectKey) -> String {
    joined(&["d", &rule.namespace, &rule.name])
}

/// The chain that says what a rule does with flows of a service.
pub(crate) fn actions(rule: &Rule, service: &Service) -> String {
    joined(&["v", &rule.key.namespace, &rule.key.name, &service.key.namespace, &service.key.name])
}

/// The chain that counts a service's sessions.
pub(crate) fn limit(service: &Service) -> String {
    joined(&["l", &service.key.namespace, &service.key.name])
}

/// A set with ports of a service.
pub(super) fn ports(service: &Service, kind: &str, number: usize) -> String {
    joined(&[kind, &number.to_string(), &service.key.namespace, &service.key.name])
}

/// The chain of one list of rules: by content, so that it stays when other lists come and go.
pub(super) fn source<'a>(rules: impl Iterator<Item = &'a ObjectKey>) -> String {
    let text: Vec<String> = rules.map(ToString::to_string).collect();
    format!("s_{:016x}", hash(&text.join(" ")))
}

/// The object a name was made from, as `Kind namespace/name`; `None` where it comes from none, or was too long to tell.
pub(crate) fn object(name: &str) -> Option<String> {
    if name.len() >= LONGEST {
        return None;
    }
    let mut parts = name.split('/');
    let kind = match parts.next()? {
        "r" | "d" | "v" => "IpRule",
        "l" => "Service",
        _ => return None,
    };
    Some(format!("{kind} {}/{}", parts.next()?, parts.next()?))
}

/// Parts joined by slashes, which is legal in nft and readable; what is too long ends in a hash of the whole.
fn joined(parts: &[&str]) -> String {
    let whole = parts.join("/");
    if whole.len() <= LONGEST && whole.is_ascii() {
        return whole;
    }
    let hash = hash(&whole);
    let mut short: String = whole.chars().filter(char::is_ascii).collect();
    short.truncate(LONGEST - 17);
    format!("{short}_{hash:016x}")
}

fn hash(text: &str) -> u64 {
    digest(text.as_bytes())
}

/// FNV-1a, 64 bits: names need no secret, only few collisions.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_objects_where_they_come_from_one() {
        let told = ["r/pos/tills", "d/pos/tills", "v/pos/tills/pos/web", "l/pos/web", "forward", "s_0123", "r/pos"];
        let told = told.map(|name| object(name).unwrap_or_default());
        assert_eq!(told, ["IpRule pos/tills", "IpRule pos/tills", "IpRule pos/tills", "Service pos/web", "", "", ""]);
        assert_eq!(object(&"r/".repeat(60)), None);
    }

    #[test]
    fn short_names_are_readable_and_long_ones_stay_distinct() {
        let key = |name: &str| ObjectKey::new("pos", name);
        assert_eq!(rule(&key("tills")), "r/pos/tills");
        let (one, two) = (rule(&key(&"a".repeat(253))), rule(&key(&format!("{}b", "a".repeat(252)))));
        assert_eq!((one.len(), two.len(), one == two), (LONGEST, LONGEST, false));
    }
}
