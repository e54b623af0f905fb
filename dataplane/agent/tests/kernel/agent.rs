//! The whole agent in a namespace, under an operator in this process: rights, start, end, and the host afterwards.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use callgate_proto::model::{Action, NodeConfig, ObjectKey};
use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Ours;
use callgate_proto::pb::operator_message::Kind as Theirs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::configs::{ANYWHERE, Config, POD_A, tcp};
use super::fake::{self, Authority, Stream};
use super::lab::{Lab, root, sh, surface};
use super::probes::{Connection, NODE, Servers, tcp as ask};

const HEALTH: &str = "127.0.0.1:9741";
const PATIENCE: Duration = Duration::from_secs(60);

/// Only what the DaemonSet gives: no other capability, none to be had, and /proc/sys as a container sees it.
const CONFINED: &str = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \
    exec setpriv --no-new-privs --bounding-set=-all,$CAPABILITIES \"$@\"";

/// What the DaemonSet has, and what it has without the fast path.
const ALL: &str = "+net_admin,+net_raw,+bpf";
const WITHOUT_BPF: &str = "+net_admin,+net_raw";

/// A directory with what an agent needs, and the operator it finds.
pub(crate) struct Place {
    dir: TempDir,
    port: u16,
    streams: mpsc::Receiver<Stream>,
}

/// One running agent.
pub(crate) struct Agent(Child);

impl Place {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let authority = Authority::new("ca");
        let (sender, streams) = mpsc::channel(4);
        let (port, _) = fake::serve(0, &authority, sender).await;
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(dir.path().join("token"), "token").unwrap();
        Self { dir, port, streams }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(crate) fn start(&self) -> Agent {
        self.start_with(ALL, &[])
    }

    /// The same, and what it logs.
    pub(crate) fn start_logging(&self) -> (Agent, impl Fn() -> String + use<>) {
        let path = self.path("log");
        let agent = self.spawn(ALL, &[], std::fs::File::create(&path).unwrap().into());
        (agent, move || std::fs::read_to_string(&path).unwrap())
    }

    fn start_with(&self, capabilities: &str, flags: &[&str]) -> Agent {
        self.spawn(capabilities, flags, Stdio::inherit())
    }

    fn spawn(&self, capabilities: &str, flags: &[&str], log: Stdio) -> Agent {
        let mut command = Command::new("unshare");
        command.env("CAPABILITIES", capabilities);
        command.args(["--mount", "sh", "-c", CONFINED, "sh", env!("CARGO_BIN_EXE_callgate-dataplane"), "agent"]);
        command.args(["--operator", &format!("127.0.0.1:{}", self.port), "--server-name", fake::NAME]);
        command.args(["--ca-file", &self.path("ca.pem"), "--token-file", &self.path("token"), "--node-name", "node-a"]);
        command.args(["--state-dir", &self.path("state"), "--api", &self.path("api.sock"), "--health-address", HEALTH]);
        command.args(flags);
        Agent(command.stderr(log).spawn().unwrap())
    }

    /// The agent's next stream and what it said of itself.
    pub(crate) async fn attached(&mut self) -> (Stream, pb::Hello) {
        let mut stream = tokio::time::timeout(PATIENCE, self.streams.recv()).await.unwrap().unwrap();
        let Some(Ours::Hello(hello)) = stream.next().await else { panic!("no hello") };
        (stream, hello)
    }

    /// Puts the host back; what it warns of, or why it does not.
    pub(crate) fn cleanup(&self) -> Result<String, String> {
        let output = Command::new(env!("CARGO_BIN_EXE_callgate-dataplane"))
            .args(["cleanup", "--state-dir", &self.path("state"), "--api", &self.path("api.sock")])
            .args(["--ready-file", &self.path("ready")])
            .env("RUST_LOG", "warn")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}

impl Agent {
    pub(crate) fn end(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
        let status = self.0.wait().unwrap();
        assert_eq!(status.success(), signal == Signal::SIGTERM, "{status}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn config() -> NodeConfig {
    let config = Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp("http", "80")]).build();
    NodeConfig { node: "node-a".into(), algs: Vec::new(), ..config }
}

pub(crate) fn snapshot(config: &NodeConfig, uid: &str) -> Theirs {
    snapshot_of(config, uid, 0)
}

/// Pod A has this uid, and its containers have been started anew so often.
pub(crate) fn snapshot_of(config: &NodeConfig, uid: &str, restarts: u32) -> Theirs {
    let address = Ipv4Addr::new(10, 244, 1, 2).into();
    Theirs::Snapshot(pb::Snapshot {
        config: Some(config.into()),
        hash: config.content_hash(),
        holders: vec![pb::Holder {
            address,
            pod: ObjectKey::new("pos", "till").to_string(),
            uid: uid.into(),
            restarts,
        }],
        sequence: 0,
    })
}

pub(crate) async fn acknowledged(stream: &mut Stream, config: &NodeConfig) {
    let expected = Ours::Outcome(pb::Outcome { hash: config.content_hash(), failure: None, sequence: 0 });
    assert_eq!(stream.next_but_reports().await, Some(expected));
}

/// The first line of an answer to a probe.
fn probe(path: &str) -> String {
    let shell = format!(
        "exec 3<>/dev/tcp/{}; printf 'GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; head -1 <&3",
        HEALTH.replace(':', "/")
    );
    let output = Command::new("bash").args(["-c", &shell]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits until `what` holds; the agent acts on notifications of the kernel.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::yield_now();
    }
}

/// Runs a test with a runtime that keeps to the calling thread, and so to its namespace.
pub(crate) fn here<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn with_three_capabilities_and_a_read_only_proc_sys_an_agent_does_all_its_work() {
    if !root() {
        return;
    }
    does_its_work(ALL, &[], &[]);
}

#[test]
fn with_the_same_three_capabilities_it_has_xdp() {
    if !root() {
        return;
    }
    let told = does_its_work(ALL, &["--fast-path", "xdp"], &[]);
    // Loaded without CAP_PERFMON; there is no call yet.
    let path = told.iter().find(|feature| feature.name == "GRE path").unwrap();
    let lacks = "no XDP: this kernel does not say what drivers can";
    assert!(!path.detail.contains("no XDP") || path.detail.contains(lacks), "{path:?}");
}

#[test]
fn without_cap_bpf_it_does_the_same_and_says_that_gre_goes_through_user_space() {
    if !root() {
        return;
    }
    let detail = "AF_PACKET: CAP_BPF is missing, or this kernel lets nobody load eBPF; what it costs: each GRE packet goes \
                  through user space";
    does_its_work(
        WITHOUT_BPF,
        &[],
        &[pb::Feature { name: "GRE path".into(), available: false, detail: detail.into() }],
    );
}

/// What it says of its host.
fn does_its_work(capabilities: &str, flags: &[&str], missing: &[pb::Feature]) -> Vec<pb::Feature> {
    let lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    let before = surface();
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let told = here(async {
        let mut place = Place::new().await;
        let mut agent = place.start_with(capabilities, flags);
        let (mut stream, hello) = place.attached().await;
        assert_eq!((hello.node.as_str(), hello.config_hash.as_str()), ("node-a", ""));
        let lacks: Vec<_> = hello.features.iter().filter(|feature| !feature.available).cloned().collect();
        assert_eq!(lacks, missing);
        assert_eq!(probe("/readyz"), "HTTP/1.1 503 Service Unavailable");
        stream.tell(snapshot(&config(), "u1")).await;
        acknowledged(&mut stream, &config()).await;
        assert_eq!((probe("/readyz"), ask(&lab.a, "192.0.2.10:80")), ("HTTP/1.1 200 OK".to_owned(), NODE));
        // Nothing of what it looks after does it touch again while all is well.
        let told = sh("timeout 1 ip monitor link rule route || true");
        assert!(!told.contains("callgate") && !told.contains("7411"), "{told}");
        agent.end(Signal::SIGTERM);
        assert_eq!(place.cleanup().unwrap(), "", "there is nothing to warn of");
        assert!(!place.dir.path().join("state").exists());
        hello.features
    });
    assert_eq!(surface(), before);
    told
}

#[test]
fn a_rollout_keeps_flows_and_the_next_agent_runs_the_last_snapshot_before_it_reaches_anybody() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    here(async {
        let mut place = Place::new().await;
        let mut agent = place.start();
        let (mut stream, _) = place.attached().await;
        stream.tell(snapshot(&config(), "u1")).await;
        acknowledged(&mut stream, &config()).await;
        let mut flow = Connection::open(&lab.a, "192.0.2.10:80", None).unwrap_or_else(|seen| panic!("{seen:?}"));
        assert_eq!(flow.still(), NODE);
        let running = surface();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            agent.end(signal);
            assert_eq!((surface(), flow.still()), (running.clone(), NODE), "{signal}");
            agent = place.start();
            let (_stream, hello) = place.attached().await;
            assert_eq!((hello.config_hash, probe("/readyz")), (config().content_hash(), "HTTP/1.1 200 OK".to_owned()));
            assert_eq!((surface(), flow.still()), (running.clone(), NODE), "{signal}");
        }
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}

#[test]
fn an_address_that_changes_hands_keeps_no_flow_of_the_pod_before() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    here(async {
        let mut place = Place::new().await;
        let mut agent = place.start();
        let (mut stream, _) = place.attached().await;
        let tracked = || sh("conntrack -L -p tcp --orig-src 10.244.1.2 2>/dev/null").matches("dport=80 ").count();
        for (uid, flows) in [("u1", 1), ("u1", 1), ("u2", 0)] {
            stream.tell(snapshot(&config(), uid)).await;
            acknowledged(&mut stream, &config()).await;
            if tracked() == 0 && flows == 1 {
                assert_eq!(ask(&lab.a, "192.0.2.10:80"), NODE);
            }
            assert_eq!(tracked(), flows, "{uid}");
        }
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}

#[test]
fn what_others_take_away_while_the_agent_runs_is_put_back() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    here(async {
        let mut place = Place::new().await;
        let mut agent = place.start();
        let (mut stream, _) = place.attached().await;
        let config = NodeConfig { node: "node-a".into(), ..super::steering::config() };
        stream.tell(snapshot(&config, "u1")).await;
        acknowledged(&mut stream, &config).await;
        let way = || sh("ip rule; ip route show table 7411; ip -o link show callgate0 | cut -d: -f2- | cut -d'>' -f1");
        let whole = way();
        for damage in super::mending::DAMAGES {
            sh(damage);
            until(damage, || {
                Command::new("ip").args(["link", "show", "callgate0"]).output().unwrap().status.success()
                    && way() == whole
            });
        }
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}

#[test]
fn what_runs_and_cannot_be_kept_whole_is_refused_until_it_is_whole_again() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    let forward = |value: u8| sh(&format!("sysctl -qw net.ipv4.ip_forward={value}"));
    forward(1);
    here(async {
        let mut place = Place::new().await;
        let mut agent = place.start();
        let (mut stream, _) = place.attached().await;
        let config = NodeConfig { node: "node-a".into(), ..super::steering::config() };
        stream.tell(snapshot(&config, "u1")).await;
        acknowledged(&mut stream, &config).await;
        // The agent may not write it.
        forward(0);
        let Some(Ours::Outcome(told)) = stream.next_but_reports().await else { panic!("no outcome") };
        let failure = told.failure.expect("a failure");
        assert_eq!((told.hash, failure.broken), (config.content_hash(), true), "{failure:?}");
        assert!(failure.message.contains("ip_forward"), "{failure:?}");
        // Of another it is not the configuration's fault either.
        let other = self::config();
        stream.tell(snapshot(&other, "u1")).await;
        let Some(Ours::Outcome(told)) = stream.next_but_reports().await else { panic!("no outcome") };
        assert_eq!((told.hash, told.failure.map(|failure| failure.broken)), (other.content_hash(), Some(true)));
        drop(stream);
        let (mut stream, hello) = place.attached().await;
        assert_eq!(hello.config_hash, "");
        forward(1);
        stream.tell(snapshot(&other, "u1")).await;
        loop {
            match stream.next_but_reports().await {
                // It came before the agent looked.
                Some(Ours::Outcome(pb::Outcome { failure: Some(_), .. })) => {}
                said => {
                    let in_force = pb::Outcome { hash: other.content_hash(), failure: None, sequence: 0 };
                    assert_eq!(said, Some(Ours::Outcome(in_force)));
                    break;
                }
            }
        }
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}

#[test]
fn an_external_address_that_the_host_does_not_have_is_told_of_until_it_has_it() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    here(async {
        let mut place = Place::new().await;
        let mut agent = place.start_with(ALL, &["--external-address", "203.0.113.9"]);
        let (stream, hello) = place.attached().await;
        let told = |hello: pb::Hello| {
            let feature = hello.features.into_iter().find(|feature| feature.name == "external address").unwrap();
            (feature.available, feature.detail)
        };
        let (available, detail) = told(hello);
        assert!(
            !available && detail.starts_with("--external-address 203.0.113.9 is no address of this host"),
            "{detail}"
        );
        sh("ip addr add 203.0.113.9/32 dev lo");
        // The agent hears of it a moment later, and says so when it attaches the next time.
        let mut stream = Some(stream);
        loop {
            drop(stream.take());
            let (next, hello) = place.attached().await;
            if told(hello) == (true, "203.0.113.9 (--external-address)".into()) {
                break;
            }
            stream = Some(next);
        }
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}

#[test]
fn a_host_without_an_agent_needs_no_cleaning_and_a_running_agent_is_not_pulled_away() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    let before = surface();
    here(async {
        let mut place = Place::new().await;
        // Twice: the second finds what the first left, which is nothing.
        for _ in 0..2 {
            let warned = place.cleanup().unwrap();
            let missing = format!("--state-dir {} says of no agent that ran on this host", place.path("state"));
            assert!(warned.contains(&missing) && warned.contains("net.ipv4.ip_forward"), "{warned}");
        }
        assert_eq!(surface(), before);
        let mut agent = place.start_with(ALL, &["--ready-file", &place.path("ready")]);
        let (mut stream, _) = place.attached().await;
        stream.tell(snapshot(&config(), "u1")).await;
        acknowledged(&mut stream, &config()).await;
        let running = surface();
        let is_ready = || std::path::Path::new(&place.path("ready")).exists();
        let refused = place.cleanup().unwrap_err();
        assert!(refused.contains(" is in use by another callgate-dataplane (process "), "{refused}");
        assert_eq!(surface(), running);
        // Killed, so that it could put nothing back, and its state lost: the names alone are enough.
        agent.end(Signal::SIGKILL);
        std::fs::remove_file(place.path("state/kernel.json")).unwrap();
        assert!(is_ready(), "nobody was there to take it away");
        place.cleanup().unwrap();
        assert!(!is_ready());
    });
    assert_eq!(surface(), before);
}
