//! Conntrack time-outs of services: objects named after their values, because the kernel cannot change one in place.

use callgate_proto::model::Service;

use super::chains::{GRE, ICMP, TCP, UDP};
use super::ruleset::{Ruleset, Timeouts};

/// Protocols whose time-outs can be set, with their names.
const PROTOCOLS: [(u8, &str); 4] = [(ICMP, "icmp"), (TCP, "tcp"), (UDP, "udp"), (GRE, "gre")];

/// Seconds: 24 days. The kernel keeps the time in jiffies of 32 bits, of which there may be a thousand a second, and takes what is more than
/// half of that ahead for past (net/netfilter/nf_conntrack_core.c, `nf_ct_is_expired`): the flow would end at once.
const LONGEST: u32 = 24 * 86_400;

/// Adds the objects a service needs.
pub(super) fn objects(ruleset: &mut Ruleset, service: &Service) {
    for (protocol, _) in PROTOCOLS {
        if let Some((name, timeouts)) = of(service, protocol) {
            ruleset.timeouts.insert(name, timeouts);
        }
    }
}

/// The objects of a service by protocol.
pub(super) fn names(service: &Service) -> impl Iterator<Item = (u8, String)> {
    PROTOCOLS.into_iter().filter_map(|(protocol, _)| of(service, protocol).map(|(name, _)| (protocol, name)))
}

/// The object of a service for a protocol it matches, if it differs from the kernel's own time-outs. The ALG keeps time itself.
fn of(service: &Service, protocol: u8) -> Option<(String, Timeouts)> {
    let wanted = service.timeouts.filter(|_| service.alg.is_none())?;
    let [initial, established, closing] = [wanted.initial, wanted.established, wanted.closing].map(|s| s.min(LONGEST));
    service.matches.iter().find(|found| found.protocol.is_none_or(|number| number == protocol))?;
    // linux/netfilter/nfnetlink_cttimeout.h: TCP SYN_SENT 1, SYN_RECV 2, ESTABLISHED 3, FIN_WAIT 4, CLOSE_WAIT 5,
    // LAST_ACK 6, TIME_WAIT 7; UDP and GRE unreplied 1, replied 2; ICMP has one.
    let mut states: Vec<(u16, u32)> = match protocol {
        TCP => {
            let mut states = vec![(1, initial), (2, initial), (3, established)];
            states.extend((4..=7).map(|state| (state, closing)));
            states
        }
        UDP | GRE => vec![(1, initial), (2, established)],
        ICMP => vec![(1, if initial > 0 { initial } else { established })],
        _ => Vec::new(),
    };
    states.retain(|(_, seconds)| *seconds > 0);
    let (_, text) = PROTOCOLS.iter().find(|(number, _)| *number == protocol)?;
    let seconds = format!("{initial}_{established}_{closing}");
    (!states.is_empty()).then(|| (format!("t_{text}_{seconds}"), Timeouts { protocol, states }))
}
