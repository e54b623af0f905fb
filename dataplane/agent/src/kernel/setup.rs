//! Links, routing rule and sysctls: made or adopted at the start, taken away at the end.

use callgate_proto::model::PortRange;

use super::record::{Keep, Record};
use super::{Error, Options, sysctl};
use crate::netlink::link::{self, Link};
use crate::netlink::policy::{self, MarkRule};
use crate::netlink::socket::Socket;

/// Longest packet of the pair: what comes out of the pod's network fits, whatever its MTU.
const PAIR_MTU: u32 = 65_535;

/// What we need from the host, beside our own links.
const WANTED: &[(&str, &str)] = &[("net/ipv4/ip_forward", "1")];

/// The rule that sends steered packets to our table.
pub(super) fn mark_rule(options: &Options) -> MarkRule {
    MarkRule {
        mark: options.steer.value,
        mask: options.steer.mask,
        table: options.route_table,
        priority: options.rule_priority,
    }
}

/// `net.ipv4.ip_local_port_range`.
pub(super) fn local_ports() -> Result<PortRange, Error> {
    let name = "net/ipv4/ip_local_port_range";
    let failed = |source| Error::Sysctl { name: name.replace('/', "."), source };
    let text = sysctl::read(name).map_err(failed)?;
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Ok(PortRange { first, last }),
        _ => Err(failed(std::io::Error::other(format!("{text:?} is not two ports")))),
    }
}

/// Brings links, rule, route and sysctls to what is wanted; changes nothing that is so already.
pub(super) fn up(socket: &mut Socket, options: &Options, record: &mut Record, keep: &mut Keep) -> Result<(), Error> {
    for (path, value) in WANTED {
        let failed = |source| Error::Sysctl { name: path.replace('/', "."), source };
        if let Some(saved) = sysctl::change(path, value).map_err(failed)? {
            if !record.sysctls.iter().any(|known| known.path == saved.path) {
                record.sysctls.push(saved);
                keep(record).map_err(Error::Record)?;
            }
            sysctl::write(path, value).map_err(failed)?;
        }
    }
    let near = pair(socket, options)?;
    let rule = mark_rule(options);
    policy::default_route(socket, options.route_table, near.index).map_err(Error::netlink(format!(
        "adding the default route into {} to table {}",
        options.steer_link, options.route_table
    )))?;
    if !rule.exists(socket).map_err(Error::netlink("listing routing rules"))? {
        rule.add(socket).map_err(Error::netlink(format!("adding routing rule {}", options.rule_priority)))?;
    }
    Ok(())
}

/// The near end of the pair, made if it is not there.
fn pair(socket: &mut Socket, options: &Options) -> Result<Link, Error> {
    let (near, far) = (&options.steer_link, &options.tap_link);
    let get = |socket: &mut Socket, name: &str| {
        link::get(socket, 0, Some(name)).map_err(Error::netlink(format!("looking for link {name}")))
    };
    let found = (get(socket, near)?, get(socket, far)?);
    for (found, name, flag) in [(&found.0, near, "steer-link"), (&found.1, far, "tap-link")] {
        if let Some(link) = found
            && link.kind != "veth"
        {
            return Err(Error::Foreign(format!(
                "link {name} exists and is not ours (kind {:?}): remove it, or choose another name with --{flag}",
                link.kind
            )));
        }
    }
    match found {
        (Some(link), Some(_)) => return Ok(link),
        // Half of a pair cannot be ours.
        (Some(_), None) | (None, Some(_)) => {
            return Err(Error::Foreign(format!(
                "only one of the links {near} and {far} exists: remove it, or choose other names with --steer-link and --tap-link"
            )));
        }
        (None, None) => {}
    }
    link::make_pair(socket, near, far, PAIR_MTU)
        .map_err(Error::netlink(format!("making the veth pair {near} and {far}")))?;
    for name in [near, far] {
        // Nobody speaks IPv6 here; a host without it has no such file.
        let _ = sysctl::write(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1");
        let _ = sysctl::write(&format!("net/ipv4/conf/{name}/rp_filter"), "0");
        link::up(socket, name).map_err(Error::netlink(format!("switching link {name} on")))?;
    }
    get(socket, near)?.ok_or_else(|| Error::Foreign(format!("link {near} vanished right after it was made")))
}

/// Takes everything away again; every failure is collected.
pub(super) fn down(socket: &mut Socket, options: &Options, record: &Record) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut note = |result: Result<(), Error>| errors.extend(result.err());
    let rule = mark_rule(options);
    note(rule.remove(socket).map_err(Error::netlink(format!("removing routing rule {}", options.rule_priority))));
    // The route and the far end go with it.
    note(link::remove(socket, &options.steer_link).map_err(Error::netlink("removing the veth pair")));
    for saved in record.sysctls.iter().rev() {
        let failed = |source| Error::Sysctl { name: saved.path.replace('/', "."), source };
        match sysctl::read(&saved.path) {
            Ok(now) if now == saved.before => {}
            Ok(_) => note(sysctl::write(&saved.path, &saved.before).map_err(failed)),
            Err(source) => note(Err(failed(source))),
        }
    }
    errors
}
