//! IPCP's one option that matters here (RFC 1332 section 3.3): the IP address. The server gives it, the client takes it.

use std::net::Ipv4Addr;

use super::negotiate::{Judgement, Options};
use super::packet::Opt;

const ADDRESS: u8 = 3;

/// Addresses of both ends; unspecified where not yet known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipcp {
    /// Our own address.
    pub local: Ipv4Addr,
    /// The peer's address.
    pub remote: Ipv4Addr,
    /// We decide the peer's address.
    gives: bool,
}

impl Ipcp {
    /// The server's end: gives `remote` to the client.
    pub fn server(local: Ipv4Addr, remote: Ipv4Addr) -> Self {
        Self { local, remote, gives: true }
    }

    /// The client's end: takes what it is given.
    pub fn client() -> Self {
        Self { local: Ipv4Addr::UNSPECIFIED, remote: Ipv4Addr::UNSPECIFIED, gives: false }
    }
}

fn option(address: Ipv4Addr) -> Opt {
    Opt { kind: ADDRESS, value: address.octets().to_vec() }
}

fn address(option: &Opt) -> Option<Ipv4Addr> {
    let octets = <[u8; 4]>::try_from(option.value.as_slice()).ok()?;
    (option.kind == ADDRESS).then(|| octets.into())
}

impl Options for Ipcp {
    fn request(&self) -> Vec<Opt> {
        vec![option(self.local)]
    }

    fn judge(&mut self, asked: &[Opt]) -> Judgement {
        let unknown: Vec<Opt> = asked.iter().filter(|option| address(option).is_none()).cloned().collect();
        if !unknown.is_empty() {
            return Judgement::Reject(unknown);
        }
        match asked.iter().find_map(address) {
            Some(address) if self.gives && address == self.remote => Judgement::Ack,
            Some(_) | None if self.gives => Judgement::Nak(vec![option(self.remote)]),
            Some(address) if !address.is_unspecified() => {
                self.remote = address;
                Judgement::Ack
            }
            Some(_) | None => Judgement::Ack,
        }
    }

    fn nak(&mut self, suggested: &[Opt]) {
        if let Some(address) = suggested.iter().find_map(address)
            && !self.gives
        {
            self.local = address;
        }
    }

    fn reject(&mut self, _: &[Opt]) {}
}
