//! `--from` and `--to` of explain: what is accepted, and what to say about what is not.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use callgate_compile::explain::PROTOCOLS;
pub use callgate_compile::explain::protocol_name;

/// Where a packet goes: `IP:PORT/TCP`, `IP:PORT/UDP`, or `IP/PROTO` for a protocol without ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Destination address.
    pub address: Ipv4Addr,
    /// Destination port; always there for TCP and UDP, never for others.
    pub port: Option<u16>,
    /// IP protocol number.
    pub protocol: u8,
}

/// Where a packet comes from: `IP`, `IP:PORT`, `POD` or `NAMESPACE/POD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An address, and the source port if one is given.
    Address(Ipv4Addr, Option<u16>),
    /// A pod; without namespace the one of `-n` is meant.
    Pod(Option<String>, String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, protocol) = match text.rsplit_once('/') {
            Some((host, name)) => (host, Some(protocol(name)?)),
            None => (text, None),
        };
        let (address, port) = address_and_port(host)?;
        match (protocol, port) {
            (None, Some(port)) => Err(format!("say which protocol: {address}:{port}/TCP or {address}:{port}/UDP")),
            (None, None) => {
                Err(format!("say port and protocol: {address}:1723/TCP, {address}:53/UDP or {address}/icmp"))
            }
            (Some(protocol @ (6 | 17)), None) => {
                let name = protocol_name(protocol);
                Err(format!("{name} needs a port: {address}:PORT/{name}"))
            }
            (Some(protocol @ (6 | 17)), port) => Ok(Self { address, port, protocol }),
            (Some(protocol), None) => Ok(Self { address, port, protocol }),
            (Some(protocol), Some(port)) => {
                let name = protocol_name(protocol);
                let word = if name.contains(' ') { protocol.to_string() } else { name.to_ascii_lowercase() };
                Err(format!("{name} is matched without ports: leave out \":{port}\" and say {address}/{word}"))
            }
        }
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("{text:?} is neither an IPv4 address (10.0.0.7, 10.0.0.7:40000) nor a pod (POD or NAMESPACE/POD)")
        };
        let looks_like_address =
            text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.') || text.contains(':');
        if looks_like_address && !text.contains('/') {
            // A pod may be called 10.0.0.x-something, so a name is still possible where nothing else is.
            return match address_and_port(text) {
                Ok((address, port)) => Ok(Self::Address(address, port)),
                Err(_) if is_name(text) => Ok(Self::Pod(None, text.to_owned())),
                Err(error) => Err(error),
            };
        }
        match text.split_once('/') {
            None if is_name(text) => Ok(Self::Pod(None, text.to_owned())),
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Self::Pod(Some(namespace.to_owned()), name.to_owned()))
            }
            None | Some(_) => Err(bad()),
        }
    }
}

/// A DNS-1123 subdomain, as Kubernetes names pods, that is not all digits and dots.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 253
        && text.chars().all(allowed)
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.contains(|c: char| c.is_ascii_lowercase())
}

fn protocol(name: &str) -> Result<u8, String> {
    if let Some((_, number)) = PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Ok(*number);
    }
    let names = PROTOCOLS.map(|(name, _)| name.to_ascii_lowercase());
    name.parse()
        .map_err(|_| format!("{name:?} is not a protocol: use one of {} or a number from 0 to 255", names.join(", ")))
}

fn address_and_port(text: &str) -> Result<(Ipv4Addr, Option<u16>), String> {
    if text.parse::<Ipv6Addr>().is_ok() || text.starts_with('[') {
        return Err(format!("{text} is an IPv6 address; only IPv4 is handled yet"));
    }
    let (address, port) = match text.split_once(':') {
        Some((address, port)) => (address, Some(port)),
        None => (text, None),
    };
    let address = address
        .parse()
        .map_err(|_| format!("{address:?} is not an IPv4 address such as 203.0.113.9; names are not looked up"))?;
    let port = port
        .map(|port| match port.parse::<u16>() {
            Ok(0) | Err(_) => Err(format!("{port:?} is not a port: use a number from 1 to 65535")),
            Ok(port) => Ok(port),
        })
        .transpose()?;
    Ok((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: [u8; 4], port: Option<u16>, protocol: u8) -> Result<Target, String> {
        Ok(Target { address: address.into(), port, protocol })
    }

    #[test]
    fn a_target_is_address_port_and_protocol() {
        let server = [203, 0, 113, 9];
        assert_eq!("203.0.113.9:1723/TCP".parse(), target(server, Some(1723), 6));
        assert_eq!("203.0.113.9:53/udp".parse(), target(server, Some(53), 17));
        assert_eq!("203.0.113.9:80/6".parse(), target(server, Some(80), 6));
        assert_eq!("203.0.113.9/icmp".parse(), target(server, None, 1));
        assert_eq!("203.0.113.9/47".parse(), target(server, None, 47));
        assert_eq!("203.0.113.9/253".parse(), target(server, None, 253));
    }

    #[test]
    fn a_wrong_target_is_answered_with_a_right_one() {
        let cases = [
            ("203.0.113.9", "say port and protocol: 203.0.113.9:1723/TCP, 203.0.113.9:53/UDP or 203.0.113.9/icmp"),
            ("203.0.113.9:1723", "say which protocol: 203.0.113.9:1723/TCP or 203.0.113.9:1723/UDP"),
            ("203.0.113.9/tcp", "TCP needs a port: 203.0.113.9:PORT/TCP"),
            ("203.0.113.9:8/icmp", "ICMP is matched without ports: leave out \":8\" and say 203.0.113.9/icmp"),
            ("203.0.113.9:8/253", "IP protocol 253 is matched without ports: leave out \":8\" and say 203.0.113.9/253"),
            (
                "203.0.113.9:80/http",
                "\"http\" is not a protocol: use one of icmp, tcp, udp, gre, esp, ah, sctp or a number from 0 to 255",
            ),
            (
                "203.0.113.9/256",
                "\"256\" is not a protocol: use one of icmp, tcp, udp, gre, esp, ah, sctp or a number from 0 to 255",
            ),
            ("203.0.113.9:0/tcp", "\"0\" is not a port: use a number from 1 to 65535"),
            ("203.0.113.9:65536/tcp", "\"65536\" is not a port: use a number from 1 to 65535"),
            ("server:80/tcp", "\"server\" is not an IPv4 address such as 203.0.113.9; names are not looked up"),
            ("2001:db8::1/icmp", "2001:db8::1 is an IPv6 address; only IPv4 is handled yet"),
            ("[2001:db8::1]:80/tcp", "[2001:db8::1]:80 is an IPv6 address; only IPv4 is handled yet"),
            ("", "\"\" is not an IPv4 address such as 203.0.113.9; names are not looked up"),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<Target>(), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_origin_is_an_address_or_a_pod() {
        assert_eq!("10.42.0.7".parse(), Ok(Origin::Address([10, 42, 0, 7].into(), None)));
        assert_eq!("10.42.0.7:40000".parse(), Ok(Origin::Address([10, 42, 0, 7].into(), Some(40000))));
        assert_eq!("till-1".parse(), Ok(Origin::Pod(None, "till-1".into())));
        assert_eq!("pos/till-1".parse(), Ok(Origin::Pod(Some("pos".into()), "till-1".into())));
        assert_eq!("10.2.x-pod".parse(), Ok(Origin::Pod(None, "10.2.x-pod".into())));
    }

    #[test]
    fn a_wrong_origin_is_answered_with_what_is_accepted() {
        let neither = |text: &str| {
            format!("{text:?} is neither an IPv4 address (10.0.0.7, 10.0.0.7:40000) nor a pod (POD or NAMESPACE/POD)")
        };
        let cases = [
            ("", neither("")),
            ("Till", neither("Till")),
            ("a/b/c", neither("a/b/c")),
            ("10.42.0.0/24", neither("10.42.0.0/24")),
            ("10.42.0", "\"10.42.0\" is not an IPv4 address such as 203.0.113.9; names are not looked up".into()),
            ("10.42.0.7:x", "\"x\" is not a port: use a number from 1 to 65535".into()),
            ("fe80::1", "fe80::1 is an IPv6 address; only IPv4 is handled yet".into()),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<Origin>(), Err(message), "{text}");
        }
    }
}
