//! Starts, stops and crashes: the host is left as it was found, and wrong starts say what is wrong.

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use callgate_e2e::lab::node::Node;
use callgate_e2e::lab::process::Process;
use callgate_e2e::lab::topology::{EXTERNAL, Lab, server_address};
use callgate_e2e::peers::program;
use callgate_e2e::traffic::manifests::rule;
use callgate_e2e::traffic::probe::{self, Flow, Seen};
use callgate_e2e::traffic::servers::Servers;
use callgate_e2e::traffic::surface;
use callgate_e2e::wait;

use super::support::can_run;

const LIMIT: Duration = Duration::from_secs(20);

/// Where an agent of these tests keeps everything.
struct Place(PathBuf);

impl Place {
    fn new(gw: &Node, name: &str, manifests: &str) -> Self {
        let dir = gw.dir.join(name);
        fs::create_dir_all(dir.join("manifests")).unwrap();
        fs::write(dir.join("manifests/rules.yaml"), manifests).unwrap();
        Self(dir)
    }

    fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }

    /// The command, with another state directory if given.
    fn command(&self, mut command: Command, state: Option<&Path>) -> Command {
        let state = state.map_or_else(|| self.0.join("state"), Path::to_owned);
        command.arg("standalone").arg("--manifests").arg(self.0.join("manifests")).arg("--state-dir").arg(state);
        command.arg("--ready-file").arg(self.ready()).arg("--api").arg(self.0.join("api.sock"));
        command
    }

    fn spawn(&self, gw: &Node, flags: &[&str]) -> Process {
        let mut command = self.command(gw.command(program("callgate-dataplane").unwrap()), None);
        command.args(flags);
        // One that was killed has left it; what is waited for is that of the new one.
        drop(fs::remove_file(self.ready()));
        gw.spawn("callgate", command).unwrap()
    }

    fn wait_ready(&self, process: &mut Process) {
        wait::until_true("ready", LIMIT, || match process.exit_status() {
            Some(status) => anyhow::bail!("ended with {status}: {}", process.output()),
            None => Ok(self.ready().exists()),
        })
        .unwrap();
    }
}

fn nat_all() -> String {
    rule("web", 100, "NAT", "10.10.0.0/16", "cidrs: [0.0.0.0/0]", &["http", "pptp-ctl"])
}

fn web() -> SocketAddrV4 {
    SocketAddrV4::new(server_address(0), 80)
}

/// A lab whose gateway does not forward yet: one thing more to put back.
fn lab() -> Lab {
    let lab = Lab::new(1, 1).unwrap();
    lab.gw.sysctl("net/ipv4/ip_forward", "0").unwrap();
    lab.gw.nft("table ip foreign { chain post { type nat hook postrouting priority 100; oifname \"nowhere\" masquerade; }; }").unwrap();
    lab.gw.ip("route add 192.0.2.0/24 dev out0 table 77\nrule add fwmark 0x77 lookup 77 priority 77").unwrap();
    lab
}

fn assert_untouched(before: &str, gw: &Node, when: &str) {
    let after = surface::of(gw).unwrap();
    assert_eq!(surface::difference(before, &after), "", "{when}");
}

fn exists(gw: &Node, what: &str, name: &str) -> bool {
    let line = match what {
        "link" => format!("ip link show {name}"),
        _ => format!("nft list table ip {name}"),
    };
    gw.command("sh").args(["-c", &line]).output().unwrap().status.success()
}

#[test]
fn sigterm_leaves_the_host_as_it_was_found_whenever_it_comes() {
    if !can_run("sigterm_leaves_the_host_as_it_was_found_whenever_it_comes") {
        return;
    }
    let lab = lab();
    let (gw, place) = (&lab.gw, Place::new(&lab.gw, "agent", &nat_all()));
    let before = surface::of(gw).unwrap();
    for moment in ["at once", "link", "table", "ready"] {
        let mut process = place.spawn(gw, &[]);
        match moment {
            "at once" => {}
            "ready" => {
                place.wait_ready(&mut process);
                assert_ne!(surface::of(gw).unwrap(), before, "an agent that runs has to show");
            }
            "link" => wait::until_true(moment, LIMIT, || Ok(exists(gw, moment, "callgate0"))).unwrap(),
            _ => wait::until_true(moment, LIMIT, || Ok(exists(gw, moment, "callgate"))).unwrap(),
        }
        let status = process.stop().unwrap();
        // Before its handler is installed the signal ends it by itself; nothing is done by then.
        assert!(status.success() || moment == "at once", "{moment}: {status} {}", process.output());
        assert_untouched(&before, gw, moment);
        assert!(!place.ready().exists(), "{moment}: the ready file stays behind");
    }
}

#[test]
fn after_kill_9_a_new_start_takes_over_and_its_end_leaves_the_host_as_it_was_at_first() {
    if !can_run("after_kill_9_a_new_start_takes_over_and_its_end_leaves_the_host_as_it_was_at_first") {
        return;
    }
    let lab = lab();
    let _servers = Servers::start(&lab.servers[0], &[80], &[]).unwrap();
    let (gw, place) = (&lab.gw, Place::new(&lab.gw, "agent", &nat_all()));
    let before = surface::of(gw).unwrap();
    let mut process = place.spawn(gw, &[]);
    place.wait_ready(&mut process);
    let mut flow = Flow::open(&lab.clients[0], web()).unwrap().unwrap();
    for _ in 0..3 {
        process.kill9();
        assert_eq!(flow.still(), Seen::From(EXTERNAL), "while no agent runs");
        process = place.spawn(gw, &[]);
        place.wait_ready(&mut process);
        assert_eq!(flow.still(), Seen::From(EXTERNAL), "after the new start");
    }
    // Killed in the middle of a start, too.
    process.kill9();
    for moment in ["at once", "link", "ready"] {
        process = place.spawn(gw, &[]);
        match moment {
            "at once" => {}
            "link" => wait::until_true(moment, LIMIT, || Ok(exists(gw, moment, "callgate1"))).unwrap(),
            _ => place.wait_ready(&mut process),
        }
        process.kill9();
    }
    process = place.spawn(gw, &[]);
    place.wait_ready(&mut process);
    assert!(process.stop().unwrap().success(), "{}", process.output());
    assert_untouched(&before, gw, "after three kills and a SIGTERM");
    assert_eq!(gw.run("conntrack", &["-L", "-m", "0x200000/0xffe00000"]).unwrap(), "", "no flow of ours is left");
}

#[test]
fn with_keep_everything_stays_until_a_start_without_it_ends() {
    if !can_run("with_keep_everything_stays_until_a_start_without_it_ends") {
        return;
    }
    let lab = lab();
    let _servers = Servers::start(&lab.servers[0], &[80], &[]).unwrap();
    let (gw, place) = (&lab.gw, Place::new(&lab.gw, "agent", &nat_all()));
    let before = surface::of(gw).unwrap();
    let mut process = place.spawn(gw, &["--keep"]);
    place.wait_ready(&mut process);
    assert!(process.stop().unwrap().success(), "{}", process.output());
    assert_eq!(probe::tcp(&lab.clients[0], web()).unwrap(), Seen::From(EXTERNAL), "rules stay");
    assert!(!place.ready().exists());
    process = place.spawn(gw, &[]);
    place.wait_ready(&mut process);
    assert!(process.stop().unwrap().success(), "{}", process.output());
    assert_untouched(&before, gw, "after a start without --keep");
    assert_eq!(probe::tcp(&lab.clients[0], web()).unwrap(), Seen::Nothing, "no rules are left");
}

#[test]
fn starts_that_cannot_work_say_what_to_do_and_change_nothing() {
    if !can_run("starts_that_cannot_work_say_what_to_do_and_change_nothing") {
        return;
    }
    let lab = lab();
    let (gw, place) = (&lab.gw, Place::new(&lab.gw, "agent", &nat_all()));
    let before = surface::of(gw).unwrap();
    // Somewhere that nobody may read it, wherever the build directory is.
    let copy = gw.dir.join("callgate-dataplane");
    fs::copy(program("callgate-dataplane").unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = gw.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy);
    let refused = |command: Command, what: &str| -> String {
        let mut process = gw.spawn("refused", command).unwrap();
        let status = process.wait(LIMIT).unwrap();
        assert_eq!(status.code(), Some(1), "{what}: {}", process.output());
        assert_untouched(&before, gw, what);
        assert!(!place.ready().exists(), "{what}");
        process.output()
    };
    let said = refused(place.command(command, None), "as nobody");
    fs::remove_file(&copy).unwrap();
    let expected = "callgate-dataplane: changing links, routes and nftables needs root (CAP_NET_ADMIN and CAP_NET_RAW): \
                    running as user 65534";
    assert!(said.contains(expected), "{said}");
    assert!(!place.0.join("state").exists(), "it made a state directory all the same");

    let agent = || gw.command(program("callgate-dataplane").unwrap());
    let mut nowhere = agent();
    nowhere.arg("standalone").arg("--manifests").arg(gw.dir.join("nowhere")).arg("--state-dir").arg(place.0.join("s1"));
    nowhere.arg("--api").arg(place.0.join("api.sock"));
    let said = refused(nowhere, "a directory that does not exist");
    assert!(said.contains("--manifests") && said.contains("nowhere"), "{said}");

    let mut ports = place.command(agent(), None);
    ports.args(["--external-ports", "30000-40000"]);
    let said = refused(ports, "ports of the host");
    assert!(said.contains("--external-ports 30000-40000: ") && said.contains("ip_local_port_range"), "{said}");

    let mut mark = place.command(agent(), None);
    mark.args(["--steer-mark", "0x4000"]);
    let said = refused(mark, "a mark of kube-proxy");
    assert!(said.contains("--steer-mark 0x4000/0x4000: ") && said.contains("kube-proxy"), "{said}");

    gw.ip("link add callgate0 type bridge").unwrap();
    let mut process = place.spawn(gw, &[]);
    assert_eq!(process.wait(LIMIT).unwrap().code(), Some(1));
    assert!(
        process.output().contains("callgate0") && process.output().contains("--steer-link"),
        "{}",
        process.output()
    );
    gw.ip("link del callgate0").unwrap();
    assert_untouched(&before, gw, "a foreign link of our name");
}

#[test]
fn a_second_agent_is_refused_and_the_first_lives_on() {
    if !can_run("a_second_agent_is_refused_and_the_first_lives_on") {
        return;
    }
    let lab = lab();
    let _servers = Servers::start(&lab.servers[0], &[80], &[]).unwrap();
    let gw = &lab.gw;
    let (first, second) = (Place::new(gw, "first", &nat_all()), Place::new(gw, "second", ""));
    let before = surface::of(gw).unwrap();
    let mut process = first.spawn(gw, &[]);
    first.wait_ready(&mut process);
    let running = surface::of(gw).unwrap();
    let table = [
        (Some(first.0.join("state")), "is in use by another callgate-dataplane"),
        (None, "another callgate-dataplane runs in this network namespace: stop that one"),
    ];
    for (state, expected) in table {
        let command = second.command(gw.command(program("callgate-dataplane").unwrap()), state.as_deref());
        let mut other = gw.spawn("second", command).unwrap();
        assert_eq!(other.wait(LIMIT).unwrap().code(), Some(1));
        assert!(other.output().contains(expected), "{}", other.output());
        assert_untouched(&running, gw, "the first runs as before");
        assert_eq!(probe::tcp(&lab.clients[0], web()).unwrap(), Seen::From(EXTERNAL));
        assert!(first.ready().exists() && !second.ready().exists());
    }
    assert!(process.stop().unwrap().success());
    assert_untouched(&before, gw, "after the first has ended");
}

#[test]
fn an_agent_without_power_over_files_goes_on_with_what_an_unreadable_one_held() {
    if !can_run("an_agent_without_power_over_files_goes_on_with_what_an_unreadable_one_held") {
        return;
    }
    let lab = lab();
    let _servers = Servers::start(&lab.servers[0], &[80], &[]).unwrap();
    let (gw, place) = (&lab.gw, Place::new(&lab.gw, "agent", &nat_all()));
    let before = surface::of(gw).unwrap();
    // Root, but file permissions hold for it: only what the agent needs.
    let mut command = gw.command("setpriv");
    command.args(["--bounding-set", "-all,+net_admin,+net_raw"]).arg(program("callgate-dataplane").unwrap());
    let mut process = gw.spawn("callgate", place.command(command, None)).unwrap();
    place.wait_ready(&mut process);
    let mut flow = Flow::open(&lab.clients[0], web()).unwrap().unwrap();
    let file = place.0.join("manifests/rules.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    process.wait_output("cannot be read (Permission denied", LIMIT).unwrap();
    assert!(process.output().contains("rules.yaml"), "{}", process.output());
    let new = probe::tcp(&lab.clients[0], web()).unwrap();
    assert_eq!((flow.still(), new), (Seen::From(EXTERNAL), Seen::From(EXTERNAL)));
    assert!(place.ready().exists());
    assert!(process.stop().unwrap().success(), "{}", process.output());
    assert_untouched(&before, gw, "with the two capabilities alone");
}
