//! Wrong files in the directory of a running agent: nothing that runs is harmed, and what is wrong is said, with the remedy.

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use callgate_e2e::gateway::callgate::Callgate;
use callgate_e2e::lab::topology::{EXTERNAL, Lab, client_address, server_address};
use callgate_e2e::peers::program;
use callgate_e2e::traffic::manifests::{LIMIT, Status, change, put, remove};
use callgate_e2e::traffic::probe::{self, Flow, Seen};
use callgate_e2e::traffic::servers::Servers;
use callgate_e2e::wait;

use super::support::can_run;

/// Valid, but not what somebody can have meant: told as a note, exit code 0.
const NOTES: [&str; 11] = [
    "echo-timeout-of-a-minute.yaml",
    "host-without-pods.yaml",
    "icmp-errors-beside-an-alg.yaml",
    "idle-timeout-of-a-second.yaml",
    "no-pod-selected.yaml",
    "only-host-network.yaml",
    "only-ipv6-pod.yaml",
    "pptp-without-its-alg.yaml",
    "shadowed.yaml",
    "timeouts-beside-an-alg.yaml",
    "timeouts-of-a-protocol-without.yaml",
];

/// Under this name: one of them is told about itself.
const FILE: &str = "objects.yaml";

/// In a namespace of its own, which no wrong manifest names.
fn good() -> String {
    format!(
        "apiVersion: callgate.io/v1alpha1\nkind: IpRule\nmetadata: {{name: web, namespace: live}}\nspec: {{order: 0, action: NAT, source: {{cidrs: [{}/32]}}, services: [{{name: http}}]}}\n",
        client_address(0)
    )
}

/// Every wrong manifest, with what has to be said about it.
fn wrong() -> Vec<(PathBuf, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for dir in ["crds/tests/bad", "operator/compile/tests/bad"] {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let expected = text.lines().map_while(|line| line.strip_prefix("# expect: ")).map(str::to_owned).collect();
            files.push((path, expected));
        }
    }
    files.sort();
    files
}

struct Scene {
    flow: Flow,
    callgate: Callgate,
    lab: Lab,
    _servers: Servers,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new(1, 1).unwrap();
        let servers = Servers::start(&lab.servers[0], &[80], &[]).unwrap();
        let callgate = Callgate::start(&lab.gw, &good()).unwrap();
        let flow = Flow::open(&lab.clients[0], web()).unwrap().unwrap();
        let mut scene = Self { flow, callgate, lab, _servers: servers };
        scene.lives("at the start");
        scene
    }

    /// The old flow lives, a new one gets the same, and the rule is in force.
    fn lives(&mut self, when: &str) {
        let new = probe::tcp(&self.lab.clients[0], web()).unwrap();
        let nat = Seen::From(EXTERNAL);
        assert_eq!((self.flow.still(), new), (nat, nat), "{when}");
        let rule = self.status().reason(("IpRule", "live", "web"), "Programmed");
        assert_eq!(rule.as_deref(), Some("Programmed"), "{when}");
        assert!(self.callgate.manifests.parent().unwrap().join("ready").exists(), "{when}: no ready file");
    }

    fn status(&self) -> Status {
        Status::of(&self.callgate, &self.lab.gw).unwrap()
    }

    /// Does something in the directory; what the agent says then.
    fn change(&self, work: impl FnOnce(&Path) -> std::io::Result<()>) -> Vec<String> {
        change(&self.callgate, &self.lab.gw, work).unwrap().says()
    }
}

impl Scene {
    /// Waits until what the agent says is right.
    fn wait(&self, what: &str, right: impl Fn(&[String]) -> bool) {
        wait::until_true(what, LIMIT, || Ok(right(&self.status().says()))).unwrap();
    }
}

fn web() -> SocketAddrV4 {
    SocketAddrV4::new(server_address(0), 80)
}

/// Exit code of `kubectl-callgate check`, and what it says: `FILE: FIELD: MESSAGE` a line.
fn check(dir: &Path) -> (Option<i32>, Vec<String>) {
    let mut command = std::process::Command::new(program("kubectl-callgate").unwrap());
    let output = command.args(["check", "-o", "json", "-f"]).arg(dir).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = ["problems", "notes"].into_iter().flat_map(|list| told[list].as_array().unwrap());
    let text = |entry: &serde_json::Value, field: &str| entry[field].as_str().unwrap().to_owned();
    let line = |entry| format!("{}: {}: {}", text(entry, "file"), text(entry, "field"), text(entry, "message"));
    (output.status.code(), told.map(line).collect())
}

#[test]
fn every_wrong_manifest_is_told_with_its_remedy_and_harms_nothing_that_runs() {
    if !can_run("every_wrong_manifest_is_told_with_its_remedy_and_harms_nothing_that_runs") {
        return;
    }
    let mut scene = Scene::new();
    let clean = scene.status().says();
    let files = wrong();
    assert!(files.len() >= 40, "{}", files.len());
    for (path, expected) in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let said = put(&scene.callgate, &scene.lab.gw, FILE, &text).unwrap().says();
        for expected in &expected {
            let found = said.iter().any(|line| line.contains(expected.as_str()));
            assert!(found, "{name}: {expected:?} is not said: {said:#?}");
        }
        scene.lives(name);
        let (code, told) = check(&scene.callgate.manifests);
        assert_eq!(code, Some(if NOTES.contains(&name) { 0 } else { 1 }), "{name}: {told:#?}");
        // A reason (one word) is for status only.
        for expected in expected.iter().filter(|expected| expected.contains(' ')) {
            let found = told.iter().any(|line| line.contains(expected.as_str()) && line.starts_with(FILE));
            assert!(found, "{name}: check does not say {expected:?}: {told:#?}");
        }
        let said = remove(&scene.callgate, &scene.lab.gw, FILE).unwrap().says();
        assert_eq!(said, clean, "{name} is gone and so is what was said about it");
    }
    scene.lives("at the end");
    assert_eq!(check(&scene.callgate.manifests).0, Some(0));
    scene.callgate.stop().unwrap();
}

#[test]
fn files_that_cannot_be_read_leave_what_they_held_in_force() {
    if !can_run("files_that_cannot_be_read_leave_what_they_held_in_force") {
        return;
    }
    let mut scene = Scene::new();
    let clean = scene.status().says();
    let rules = "rules.yaml";
    let has = |said: &[String], what: &str| {
        assert!(said.iter().any(|line| line.contains(what)), "{what:?} is not said: {said:#?}");
    };

    // Broken in the middle of an edit.
    let said = scene.change(|dir| fs::write(dir.join(rules), good() + "---\nkind: [\n"));
    has(&said, "rules.yaml:");
    has(&said, "is not YAML");
    scene.lives("the file is half an edit");
    let said = scene.change(|dir| fs::write(dir.join(rules), [0xff, 0xfe, 0x00]));
    has(&said, "rules.yaml: ");
    has(&said, "is not UTF-8 text");
    scene.lives("the file is no text");
    let said = scene.change(|dir| fs::write(dir.join(rules), ""));
    has(&said, "rules.yaml: ");
    has(&said, "is empty: remove the file to remove its objects");
    scene.lives("the file is empty, as if its command wrote later");
    assert_eq!(scene.change(|dir| fs::write(dir.join(rules), good())), clean);

    // Refused by its shape: the object goes on as it was.
    let said = scene.change(|dir| fs::write(dir.join(rules), good().replace("order: 0", "order: first")));
    has(&said, "spec.order");
    scene.lives("the object is refused");
    assert_eq!(scene.change(|dir| fs::write(dir.join(rules), good())), clean);

    // Things that are no manifests.
    let said = scene.change(|dir| fs::write(dir.join("empty.yaml"), ""));
    assert_eq!(said, clean, "an empty file says nothing");
    let said = scene.change(|dir| fs::create_dir(dir.join("directory.yaml")));
    assert_eq!(said, clean, "a directory is not looked into");
    let said = scene.change(|dir| std::os::unix::fs::symlink("nowhere", dir.join("dangling.yaml")));
    has(&said, "dangling.yaml: ");
    has(&said, "cannot be read");
    scene.lives("with an empty file, a directory and a dangling link");
    scene.change(|dir| {
        fs::remove_file(dir.join("empty.yaml"))?;
        fs::remove_dir(dir.join("directory.yaml"))?;
        fs::remove_file(dir.join("dangling.yaml"))
    });
    scene.wait("nothing is said any more", |said| said == clean);

    // Root reads everything; so the permissions of a file only matter to one who has given that up. A directory that has
    // gone is the same for everybody.
    let dir = scene.callgate.manifests.clone();
    fs::set_permissions(dir.join(rules), fs::Permissions::from_mode(0o0)).unwrap();
    scene.lives("a file without permissions");
    let unreadable =
        |said: &[String]| said.iter().any(|line| line.contains("manifests: ") && line.contains("cannot be read"));
    let away = dir.with_extension("away");
    fs::rename(&dir, &away).unwrap();
    scene.wait("the directory is away", unreadable);
    scene.lives("the directory is away");
    fs::rename(&away, &dir).unwrap();
    scene.wait("the directory is back", |said| said == clean);
    scene.lives("the directory is back");

    // Made anew, it is still looked at.
    fs::remove_dir_all(&dir).unwrap();
    scene.wait("the directory is removed", unreadable);
    scene.lives("the directory is removed");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(rules), good()).unwrap();
    scene.wait("the directory is made anew", |said| said == clean);
    fs::write(dir.join("broken.yaml"), "kind: [\n").unwrap();
    scene.wait("a file in a new directory", |said| said.iter().any(|line| line.starts_with("broken.yaml: ")));
    scene.lives("in a new directory");
    scene.callgate.stop().unwrap();
}

#[test]
fn a_start_with_a_wrong_file_runs_what_is_right_and_says_what_is_not() {
    if !can_run("a_start_with_a_wrong_file_runs_what_is_right_and_says_what_is_not") {
        return;
    }
    let mut scene = Scene::new();
    scene.callgate.stop().unwrap();
    fs::write(scene.callgate.manifests.join("broken.yaml"), "kind: [\n").unwrap();
    scene.callgate.run(&scene.lab.gw).unwrap();
    scene.flow = Flow::open(&scene.lab.clients[0], web()).unwrap().unwrap();
    scene.lives("with a broken file beside it");
    let said = scene.status().says();
    assert!(said.iter().any(|line| line.starts_with("broken.yaml: ") && line.contains("is not YAML")), "{said:#?}");
    scene.callgate.stop().unwrap();
}
