//! Everything the agent may change on a host, as the tools print it: equal texts are an untouched host.

use crate::lab::node::Node;

/// Links, their settings, addresses, routes, rules, nftables, and every sysctl below net that can be read.
const COMMANDS: [&str; 8] = [
    "nft -s list ruleset",
    "ip rule",
    "ip route show table all",
    "ip -d link | sed -E 's/timer +[0-9.]+/timer/g'",
    "ip addr",
    "tc qdisc show",
    "find /sys/fs/bpf | sort",
    // What counts by itself is no setting.
    "cd /proc/sys && find net -type f ! -name nf_conntrack_count -exec grep -H . {} + 2>/dev/null | sort",
];

/// The surface of a node, one section a command, with the offloads of all its links at the end.
///
/// # Errors
/// If a tool fails.
pub fn of(node: &Node) -> anyhow::Result<String> {
    let mut text = String::new();
    let offloads = "for link in $(ls /sys/class/net); do ethtool -k $link; done";
    for command in COMMANDS.into_iter().chain([offloads]) {
        text += &format!("# {command}\n{}", node.run("sh", &["-c", command])?);
    }
    Ok(text)
}

/// Lines that are only in one of two texts; empty when they are equal.
pub fn difference(before: &str, after: &str) -> String {
    let mut lines = String::new();
    for (sign, text, other) in [('-', before, after), ('+', after, before)] {
        let known: std::collections::BTreeSet<&str> = other.lines().collect();
        for line in text.lines().filter(|line| !known.contains(line)) {
            lines += &format!("{sign} {line}\n");
        }
    }
    if lines.is_empty() && before != after { "the same lines in another order or number".to_owned() } else { lines }
}
