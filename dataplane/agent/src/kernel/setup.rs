//! Links, routing rules and sysctls: made or adopted at the start, taken away at the end.

use std::net::Ipv4Addr;

use callgate_proto::model::PortRange;

use super::options::{LocalPorts, PortRanges};
use super::record::{Keep, Record};
use super::{Error, Options, sysctl};
use crate::netlink::link::{self, Link};
use crate::netlink::policy::{self, MarkRule, TableRoute};
use crate::netlink::rt::Rt;
use crate::nft::Uses;

/// Next hop of everything that is steered: the IPv4 dummy address (RFC 7600), so that one neighbour entry serves all servers.
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Index of lo, in every network namespace.
const LOOPBACK: u32 = 1;

/// RT_TABLE_MAIN.
const MAIN: u32 = 254;

/// The rules of what is steered to the ALG: only where it is in use, since the first rule of anybody on a host costs every packet that
/// is forwarded some 450 ns (measured; the kernel remembers no route between packets and searches two tables). Before the one that
/// sends it to our table: where `src_valid_mark` is on, the check of the way back to the pod looks up with the mark too, as if from
/// the link the packet leaves by (net/ipv4/route.c, __mkroute_input); it must find the pod and not the pair.
fn steer_rules(options: &Options) -> [MarkRule; 2] {
    let steer = MarkRule {
        from: None,
        to: None,
        mark: options.steer.value,
        mask: options.steer.mask,
        table: options.route_table,
        priority: options.rule_priority,
    };
    let from = Some(options.steer_link.clone());
    [MarkRule { from, table: MAIN, priority: options.rule_priority - 1, ..steer.clone() }, steer]
}

/// The rules of the shared mode's sockets: of what the ALG sends itself, and of what is for them. Between the two the check of the
/// way back to the client, which looks up as if from lo, for the same reason as above. Each rule costs every packet of the host
/// that is routed some 20 ns, twice (measured): who does not share has none of these.
fn inward_rules(options: &Options) -> [MarkRule; 3] {
    let bits = options.inward();
    let inward = MarkRule {
        from: None,
        to: None,
        mark: bits.value,
        mask: bits.mask,
        table: options.inward_table(),
        priority: options.rule_priority - 2,
    };
    let lo = Some("lo".to_owned());
    [
        MarkRule { to: lo.clone(), priority: options.rule_priority - 4, ..inward.clone() },
        MarkRule { from: lo, table: MAIN, priority: options.rule_priority - 3, ..inward.clone() },
        inward,
    ]
}

/// The rules that are needed; with sockets all that there are.
fn rules_for(options: &Options, uses: Uses) -> Vec<MarkRule> {
    match uses {
        Uses::Ordinary => Vec::new(),
        Uses::Alg => steer_rules(options).into(),
        Uses::Sockets => inward_rules(options).into_iter().chain(steer_rules(options)).collect(),
    }
}

/// Ports of the host's own connections.
pub(super) fn local_ports() -> Result<LocalPorts, Error> {
    let name = "net/ipv4/ip_local_port_range";
    let text = sysctl::read(name).map_err(sysctl::failed(name))?;
    let mut numbers = text.split_whitespace().map(str::parse);
    let range = match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => PortRange { first, last },
        _ => return Err(sysctl::failed(name)(std::io::Error::other(format!("{text:?} is not two ports")))),
    };
    let name = "net/ipv4/ip_local_reserved_ports";
    let text = sysctl::read(name).map_err(sysctl::failed(name))?;
    let reserved = match text.as_str() {
        "" => PortRanges(Vec::new()),
        list => list.parse().map_err(|error: String| sysctl::failed(name)(std::io::Error::other(error)))?,
    };
    Ok(LocalPorts { range, reserved })
}

/// What `up` has changed, so that a first start that fails can take it back.
#[derive(Debug, Default)]
pub(super) struct Made {
    pair: bool,
    /// Links brought up or made larger, routes added, stale rules removed: nothing to take back beyond the pair.
    mended: bool,
    rules: Vec<MarkRule>,
    /// Sysctls that were remembered before.
    sysctls: usize,
}

impl Made {
    /// Whether there was anything to do.
    pub(super) fn any(&self) -> bool {
        self.pair || self.mended || !self.rules.is_empty()
    }

    /// Takes it back, as far as it can be.
    pub(super) fn undo(&self, rt: &Rt, options: &Options, record: &Record) {
        for rule in &self.rules {
            let _ = rule.remove(rt);
        }
        let _ = policy::remove_local(rt, options.inward_table(), LOOPBACK);
        if self.pair {
            let _ = link::remove(rt, &options.steer_link);
        }
        let sysctls = record.sysctls.get(self.sysctls..).unwrap_or_default().to_vec();
        let _ = sysctl::restore(&Record { sysctls, ..Record::default() });
    }
}

/// Brings links, rules, route and sysctls to what is wanted; changes nothing that is so already.
pub(super) fn up(
    rt: &Rt,
    options: &Options,
    record: &mut Record,
    keep: &mut Keep,
    made: &mut Made,
    uses: Uses,
) -> Result<(), Error> {
    made.sysctls = record.sysctls.len();
    let near = pair(rt, options, made)?;
    route(rt, options, &near, made, uses)?;
    rules(rt, options, &record.before, made, uses)?;
    sysctl::forward(record, keep)
}

fn rules(rt: &Rt, options: &Options, before: &[Options], made: &mut Made, uses: Uses) -> Result<(), Error> {
    let known: Vec<MarkRule> =
        before.iter().chain([options]).flat_map(|options| rules_for(options, Uses::Sockets)).collect();
    let found = MarkRule::all(rt).map_err(Error::netlink("listing routing rules"))?;
    let ours = [options.route_table, options.inward_table()];
    // Those of a run before stay: whether this one has connections to go on with is not known yet.
    for stale in found.iter().filter(|rule| ours.contains(&rule.table) && !known.contains(rule)) {
        stale.remove(rt).map_err(Error::netlink(format!("removing stale routing rule {}", stale.priority)))?;
        made.mended = true;
    }
    for rule in rules_for(options, uses).into_iter().filter(|rule| !found.contains(rule)) {
        rule.add(rt).map_err(Error::netlink(format!("adding routing rule {}", rule.priority)))?;
        made.rules.push(rule);
    }
    Ok(())
}

/// Takes away the routing rules and the route of a run before that this one has no use for; for the moment when it knows what it needs.
pub(super) fn spare(rt: &Rt, options: &Options, uses: Uses) -> Result<(), Error> {
    let found = MarkRule::all(rt).map_err(Error::netlink("listing routing rules"))?;
    let (known, needed) = (rules_for(options, Uses::Sockets), rules_for(options, uses));
    for rule in known.iter().filter(|rule| found.contains(rule) && !needed.contains(rule)) {
        rule.remove(rt)
            .map_err(Error::netlink(format!("removing routing rule {}, which is of no use", rule.priority)))?;
    }
    if uses < Uses::Sockets {
        let what = format!("removing the local route of table {}, which is of no use", options.inward_table());
        policy::remove_local(rt, options.inward_table(), LOOPBACK).map_err(Error::netlink(what))?;
    }
    Ok(())
}

fn route(rt: &Rt, options: &Options, near: &Link, made: &mut Made, uses: Uses) -> Result<(), Error> {
    let table = options.route_table;
    let wanted = TableRoute { default: true, local: false, link: near.index, gateway: Some(NEXT_HOP) };
    let found = policy::routes(rt, table).map_err(Error::netlink(format!("listing routing table {table}")))?;
    if found.iter().any(|route| *route != wanted) {
        return Err(Error::Foreign(format!(
            "routing table {table} holds routes that are not ours: choose another with --route-table"
        )));
    }
    if found.is_empty() {
        policy::add_default(rt, table, near.index, NEXT_HOP)
            .map_err(Error::netlink(format!("adding the default route into {} to table {table}", near.name)))?;
        made.mended = true;
    }
    inward_route(rt, options, made, uses)
}

/// Delivers to the host's own sockets whatever is marked for them. It does not go with a link, so `down` removes it. Only where there
/// are such sockets: after the first local route in a table of somebody's own the kernel looks up the way back of every packet it
/// forwards (net/ipv4/fib_frontend.c, `fib_has_custom_local_routes`).
fn inward_route(rt: &Rt, options: &Options, made: &mut Made, uses: Uses) -> Result<(), Error> {
    let table = options.inward_table();
    let wanted = TableRoute { default: true, local: true, link: LOOPBACK, gateway: None };
    let found = policy::routes(rt, table).map_err(Error::netlink(format!("listing routing table {table}")))?;
    if found.iter().any(|route| *route != wanted) {
        return Err(Error::Foreign(format!(
            "routing table {table} (the one behind --route-table) holds routes that are not ours: choose another with \
             --route-table"
        )));
    }
    if found.is_empty() && uses == Uses::Sockets {
        policy::add_local(rt, table, LOOPBACK)
            .map_err(Error::netlink(format!("adding the local route to table {table}")))?;
        made.mended = true;
    }
    Ok(())
}

/// The near end of the pair, made if it is not there.
fn pair(rt: &Rt, options: &Options, made: &mut Made) -> Result<Link, Error> {
    let (near, far) = (&options.steer_link, &options.tap_link);
    let links = link::all(rt).map_err(Error::netlink("listing links"))?;
    // What comes out of a pod's network fits, whatever the largest packet there.
    let largest = links.iter().filter(|link| !link.loopback && link.name != *near && link.name != *far);
    let mtu = largest.map(|link| link.mtu).max().unwrap_or(0).clamp(1500, 65_535);
    let of_name = |name: &str| links.iter().find(|link| link.name == name);
    match (of_name(near), of_name(far)) {
        (Some(a), Some(b)) if a.kind == "veth" && a.peer == Some(b.index) => {}
        (None, None) => {
            let what = || Error::netlink(format!("making the veth pair {near} and {far}"));
            link::make_pair(rt, near, far, mtu).map_err(what())?;
            made.pair = true;
        }
        (Some(_), _) | (_, Some(_)) => {
            return Err(Error::Foreign(format!(
                "of the links {near} and {far} at least one exists, and they are not one veth pair: remove what is there, \
                 or choose other names with --steer-link and --tap-link"
            )));
        }
    }
    for name in [near, far] {
        let link = named(rt, name)?;
        silent(rt, &link)?;
        let readied =
            link::ready(rt, &link, link.mtu.max(mtu)).map_err(Error::netlink(format!("readying link {name}")));
        // A larger MTU is no mending: another link has come.
        made.mended |= readied? && !link.up;
    }
    named(rt, near)
}

/// Nobody speaks IPv6 here; a host without it has no such switch. Where /proc/sys is read-only (a container that is not privileged),
/// the link at least gets no address to speak from.
fn silent(rt: &Rt, link: &Link) -> Result<(), Error> {
    let path = format!("net/ipv6/conf/{}/disable_ipv6", link.name);
    let Err(error) = sysctl::write(&path, "1") else { return Ok(()) };
    match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
            // Setting it again would be told to everybody who listens for changes of links, ourselves too.
            if sysctl::read(&format!("net/ipv6/conf/{}/addr_gen_mode", link.name)).is_ok_and(|mode| mode == "1") {
                return Ok(());
            }
            let what = format!("keeping IPv6 addresses off link {}", link.name);
            link::without_ipv6_address(rt, link).map_err(Error::netlink(what))
        }
        _ => Err(sysctl::failed(&path)(error)),
    }
}

fn named(rt: &Rt, name: &str) -> Result<Link, Error> {
    let found = link::by_name(rt, name).map_err(Error::netlink(format!("looking for link {name}")))?;
    found.ok_or_else(|| Error::Foreign(format!("link {name} vanished just now: is another agent running?")))
}

/// Takes away what a run before had under these names and numbers, and this one has not.
pub(super) fn retire(rt: &Rt, old: &Options, options: &Options) -> Result<(), Error> {
    let ours = rules_for(options, Uses::Sockets);
    for rule in rules_for(old, Uses::Sockets).into_iter().filter(|rule| !ours.contains(rule)) {
        rule.remove(rt)
            .map_err(Error::netlink(format!("removing routing rule {} of the run before", rule.priority)))?;
    }
    let pair = link::by_name(rt, &old.steer_link)
        .map_err(Error::netlink(format!("looking for link {}", old.steer_link)))?
        .filter(|link| link.kind == "veth");
    if old.route_table != options.route_table {
        let what = |table| Error::netlink(format!("removing the route of table {table}, of the run before"));
        policy::remove_local(rt, old.inward_table(), LOOPBACK).map_err(what(old.inward_table()))?;
        if let Some(pair) = &pair {
            policy::remove_default(rt, old.route_table, pair.index, NEXT_HOP).map_err(what(old.route_table))?;
        }
    }
    match pair.filter(|_| old.steer_link != options.steer_link) {
        Some(pair) => link::remove(rt, &pair.name).map_err(Error::netlink("removing the veth pair of the run before")),
        None => Ok(()),
    }
}

/// Takes links, rules and routes away again; every failure is collected.
pub(super) fn down(rt: &Rt, options: &Options) -> Vec<Error> {
    let mut errors = Vec::new();
    for rule in rules_for(options, Uses::Sockets) {
        let what = format!("removing routing rule {}", rule.priority);
        errors.extend(rule.remove(rt).map_err(Error::netlink(what)).err());
    }
    let what = format!("removing the local route of table {}", options.inward_table());
    errors.extend(policy::remove_local(rt, options.inward_table(), LOOPBACK).map_err(Error::netlink(what)).err());
    // The route and the far end go with it. A link of that name that is no pair of ours is somebody else's.
    let ours = link::by_name(rt, &options.steer_link)
        .map_err(Error::netlink(format!("looking for link {}", options.steer_link)))
        .map(|found| found.is_some_and(|link| link.kind == "veth"));
    match ours {
        Ok(true) => {
            let removed = link::remove(rt, &options.steer_link).map_err(Error::netlink("removing the veth pair"));
            errors.extend(removed.err());
        }
        Ok(false) => {}
        Err(error) => errors.push(error),
    }
    errors
}
