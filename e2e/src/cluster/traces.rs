//! Everything of a node that a program on it could leave behind, as lines to compare: rules, routes, links, sysctls, files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::machine::Machine;
use crate::lab::node::Node;

/// By section, lines as they were found.
pub type Traces = BTreeMap<String, Vec<String>>;

/// What is listed, word by word. `-s`: without counters, which count every packet of the node.
const LISTS: [&[&str]; 8] = [
    &["nft", "-s", "list", "ruleset"],
    &["ip", "rule"],
    &["ip", "-6", "rule"],
    &["ip", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
    &["ip", "-j", "address"],
    &["tc", "qdisc", "show"],
    &["ls", "-lR", "/sys/fs/bpf"],
];

/// Of a link: clocks of a bridge and its ports that run, in the kernel's own units.
const CLOCKS: [&str; 7] = [
    "hello_timer",
    "tcn_timer",
    "topology_change_timer",
    "gc_timer",
    "message_age_timer",
    "forward_delay_timer",
    "hold_timer",
];

/// Below /proc/sys/net: what counts, or what is drawn at random, and by whom.
const SYSCTLS_THAT_MOVE: [(&str, &str); 1] = [("netfilter/nf_conntrack_count", "tracked connections at this moment")];

/// Trees of files that are another program's, which writes there all the time.
const OTHERS: [(&str, &str); 9] = [
    ("/run/containerd", "containerd's containers and tasks of this moment"),
    ("/run/netns", "containerd's network namespace a pod"),
    ("/run/log", "the lab's own log socket"),
    ("/var/lib/kubelet", "the kubelet's volumes of pods, removed by it some time after the pod"),
    ("/var/lib/cni", "addresses the CNI has handed out, and the last one"),
    ("/var/log/pods", "logs of pods, removed by the kubelet some time after the pod"),
    ("/var/log/containers", "links to those logs"),
    ("/var/run", "the same as /run"),
    ("/var/cache", "no file of it outlives a cluster"),
];

/// Where files are looked for. /etc and /opt are the host's own.
const TREES: [&str; 4] = ["/etc", "/opt", "/run", "/var"];

/// Bits of a connection mark that are Callgate's (docs/dataplane.md).
const MARKS: u32 = 0xffe0_0000;

/// All of it, of one node.
///
/// # Errors
/// If something cannot be listed.
pub fn of(machine: &Machine) -> anyhow::Result<Traces> {
    let node = &machine.node;
    let mut traces = Traces::new();
    for words in LISTS {
        traces.insert(words.join(" "), lines(&node.run(words[0], &words[1..])?));
    }
    let links: Value = serde_json::from_str(&node.run("ip", &["-j", "-d", "link"])?).context("ip -j -d link")?;
    let links = links.as_array().into_iter().flatten();
    traces.insert("ip -d link".into(), links.clone().map(|link| still(link.clone()).to_string()).collect());
    for name in links.filter_map(|link| link["ifname"].as_str()) {
        for side in ["ingress", "egress"] {
            // Nothing is listed where there is no such qdisc.
            let said = node.command("tc").args(["filter", "show", "dev", name, side]).output().context("tc")?;
            traces.insert(format!("tc filter {name} {side}"), lines(&String::from_utf8_lossy(&said.stdout)));
        }
    }
    for kind in ["prog", "map", "link"] {
        if let Some(all) = bpf(node, kind)? {
            traces.insert(format!("bpftool {kind}"), all);
        }
    }
    let flows = node.run("conntrack", &["-L", "-o", "extended"])?;
    traces.insert(
        "connections with a mark of ours".into(),
        flows.lines().filter(|flow| marked(flow)).map(str::to_owned).collect(),
    );
    traces.insert("sysctls".into(), node.within(|| sysctls(Path::new("/proc/sys/net")))?);
    traces.insert("files".into(), node.within(|| TREES.iter().flat_map(|tree| files(Path::new(tree))).collect())?);
    Ok(traces)
}

/// What is in one only: `-` in the first, `+` in the second.
pub fn difference(first: &Traces, second: &Traces) -> Vec<String> {
    let mut found = Vec::new();
    for section in first.keys().chain(second.keys().filter(|section| !first.contains_key(*section))) {
        let (before, after) = (first.get(section), second.get(section));
        if before == after {
            continue;
        }
        let (before, after) = (before.cloned().unwrap_or_default(), after.cloned().unwrap_or_default());
        let only = |a: &[String], b: &[String], sign: char| -> Vec<String> {
            a.iter().filter(|line| !b.contains(line)).map(|line| format!("{section}: {sign} {line}")).collect()
        };
        let mut lines = only(&before, &after, '-');
        lines.extend(only(&after, &before, '+'));
        if lines.is_empty() {
            // The same lines, in another order or another number.
            lines.push(format!("{section}: not the same order:\n{}\n---\n{}", before.join("\n"), after.join("\n")));
        }
        found.extend(lines);
    }
    found
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// A link without its running clocks.
fn still(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            CLOCKS.iter().for_each(|clock| drop(fields.remove(*clock)));
            fields.values_mut().for_each(|field| *field = still(field.take()));
        }
        Value::Array(all) => all.iter_mut().for_each(|one| *one = still(one.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

/// Programs, maps or links of the whole machine that have a name of ours; `None` without bpftool.
fn bpf(node: &Node, kind: &str) -> anyhow::Result<Option<Vec<String>>> {
    let Ok(output) = node.command("bpftool").args(["-j", kind, "show"]).output() else { return Ok(None) };
    let all: Value = serde_json::from_slice(&output.stdout).context("bpftool")?;
    let named = |one: &&Value| one["name"].as_str().is_some_and(|name| name.starts_with("callgate"));
    Ok(Some(all.as_array().into_iter().flatten().filter(named).map(Value::to_string).collect()))
}

fn marked(flow: &str) -> bool {
    let mark = flow.split(" mark=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    mark.is_some_and(|mark| mark & MARKS != 0)
}

/// `path = value` of everything that can be read, sorted.
fn sysctls(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in children(dir) {
        let name = path.strip_prefix("/proc/sys/net").unwrap_or(&path).display().to_string();
        if path.is_dir() {
            found.extend(sysctls(&path));
        } else if !SYSCTLS_THAT_MOVE.iter().any(|(moves, _)| *moves == name)
            && let Ok(value) = fs::read_to_string(&path)
        {
            found.push(format!("{name} = {}", value.trim_end()));
        }
    }
    found
}

/// Path, kind, rights, owner, size and (of links) target of everything, sorted. Of the time nothing: reading a directory is no change.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in children(dir) {
        if OTHERS.iter().any(|(tree, _)| path == Path::new(tree)) {
            continue;
        }
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let kind = meta.file_type();
        let size = if kind.is_file() { meta.len() } else { 0 };
        let target = fs::read_link(&path).map(|target| target.display().to_string()).unwrap_or_default();
        let kind = if kind.is_socket() {
            "socket"
        } else if kind.is_dir() {
            "dir"
        } else {
            "file"
        };
        found.push(format!(
            "{} {kind} {:o} {}:{} {size} {target}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid()
        ));
        if meta.is_dir() {
            found.extend(files(&path));
        }
    }
    found
}

fn children(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn traces(section: &str, lines: &[&str]) -> Traces {
        Traces::from([(section.to_owned(), lines.iter().map(|line| (*line).to_owned()).collect())])
    }

    #[test]
    fn what_came_what_went_and_another_order_are_told() {
        let before = traces("ip rule", &["0: from all lookup local", "32766: from all lookup main"]);
        assert_eq!(difference(&before, &before.clone()), Vec::<String>::new());
        let after = traces("ip rule", &["0: from all lookup local", "95: from all fwmark 0x200000 lookup 7411"]);
        let expected =
            ["ip rule: - 32766: from all lookup main", "ip rule: + 95: from all fwmark 0x200000 lookup 7411"];
        assert_eq!(difference(&before, &after), expected);
        let turned = traces("ip rule", &["32766: from all lookup main", "0: from all lookup local"]);
        assert_eq!(difference(&before, &turned).len(), 1);
        assert_eq!(difference(&before, &traces("sysctls", &["a = 1"])).len(), 3);
    }

    #[test]
    fn running_clocks_of_links_are_no_trace_and_the_rest_is() {
        let link = json!({"ifname": "pods0", "linkinfo": {"info_data": {"gc_timer": 12.5, "ageing_time": 30000}}});
        assert_eq!(still(link), json!({"ifname": "pods0", "linkinfo": {"info_data": {"ageing_time": 30000}}}));
    }

    #[test]
    fn only_connections_with_our_bits_in_their_mark_are_ours() {
        assert!(marked("ipv4 2 tcp 6 299 ESTABLISHED src=10.244.1.2 dst=203.0.113.11 mark=2097152 use=1"));
        assert!(!marked("ipv4 2 tcp 6 299 ESTABLISHED src=10.244.1.2 dst=203.0.113.11 mark=16384 use=1"));
        assert!(!marked("ipv4 2 tcp 6 299 ESTABLISHED src=10.244.1.2 dst=203.0.113.11 use=1"));
    }
}
