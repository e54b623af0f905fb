//! What chains, sets and objects are called: after the objects they come from, so that they stay when others change.

use callgate_proto::model::{NodeConfig, ObjectKey, Rule, Service};
use sha2::{Digest as _, Sha256};

use super::timeouts;

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
    format!("s_{}", digest(text.join(" ").as_bytes()))
}

/// The chain that says which structure a table has.
pub(super) fn structure(bytes: &[u8]) -> String {
    format!("structure_{}", digest(bytes))
}

/// The objects a name was made from, as `Kind namespace/name`: several where Services with the same time-outs share an object of the
/// kernel; none where it comes from none, or was too long to tell.
pub(crate) fn objects(name: &str, config: &NodeConfig) -> Vec<String> {
    if name.starts_with("t_") {
        let of = |service: &&Service| timeouts::names(service).any(|(_, object)| object == name);
        return config.services.iter().filter(of).map(|service| format!("Service {}", service.key)).collect();
    }
    object(name).into_iter().collect()
}

fn object(name: &str) -> Option<String> {
    if name.len() >= LONGEST {
        return None;
    }
    let mut parts = name.split('/');
    let kind = match parts.next()? {
        "r" | "d" | "v" => "IpRule",
        "l" => "Service",
        "sp" | "dp" => {
            // Which of the service's matches.
            parts.next()?;
            "Service"
        }
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
    let digest = digest(whole.as_bytes());
    let mut short: String = whole.chars().filter(char::is_ascii).collect();
    short.truncate(LONGEST - 1 - digest.len());
    format!("{short}_{digest}")
}

/// 128 bits of SHA-256, in hexadecimal digits: tenants choose names, and nobody may find two that give the same chain.
fn digest(bytes: &[u8]) -> String {
    let mut digest = format!("{:x}", Sha256::digest(bytes));
    digest.truncate(32);
    digest
}

#[cfg(test)]
mod tests {
    use callgate_proto::model::{Match, Timeouts};

    use super::*;

    #[test]
    fn names_lead_back_to_their_objects_where_they_come_from_one() {
        let of = |names: [&str; 3]| names.map(|name| object(name).unwrap_or_default());
        assert_eq!(of(["r/pos/tills", "d/pos/tills", "v/pos/tills/pos/web"]), ["IpRule pos/tills"; 3]);
        assert_eq!(of(["l/pos/web", "sp/0/pos/web", "dp/1/pos/web"]), ["Service pos/web"; 3]);
        assert_eq!(of(["forward", "s_0123", "r/pos"]), [""; 3]);
        assert_eq!(object(&"r/".repeat(60)), None);
    }

    #[test]
    fn time_outs_lead_back_to_all_services_that_have_them() {
        let service = |name: &str, established| Service {
            key: ObjectKey::new("pos", name),
            matches: vec![Match { protocol: Some(6), source_ports: vec![], destination_ports: vec![] }],
            alg: None,
            max_sessions: 0,
            forward_icmp_errors: true,
            timeouts: Some(Timeouts { initial: 0, established, closing: 0 }),
        };
        let services = vec![service("web", 60), service("mail", 60), service("dns", 70)];
        let config = NodeConfig { services, ..NodeConfig::default() };
        assert_eq!(objects("t_tcp_0_60_0", &config), ["Service pos/web", "Service pos/mail"]);
        assert_eq!(objects("t_udp_0_60_0", &config), Vec::<String>::new());
    }

    #[test]
    fn lists_of_rules_have_names_that_nobody_can_make_meet() {
        let key = |name: &str| ObjectKey::new("pos", name);
        // sha256sum of "pos/tills pos/web".
        assert_eq!(source([&key("tills"), &key("web")].into_iter()), "s_7500a50d97f50b3a5aa7dcc8abb9cdd5");
    }

    #[test]
    fn short_names_are_readable_and_long_ones_stay_distinct() {
        let key = |name: &str| ObjectKey::new("pos", name);
        assert_eq!(rule(&key("tills")), "r/pos/tills");
        let (one, two) = (rule(&key(&"a".repeat(253))), rule(&key(&format!("{}b", "a".repeat(252)))));
        assert_eq!((one.len(), two.len(), one == two), (LONGEST, LONGEST, false));
    }
}
