//! A lab that is interrupted leaves nothing: no namespace, no process, no file.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use callgate_e2e::lab::process::Process;
use callgate_e2e::peers::program;
use callgate_e2e::wait;
use nix::sys::signal::Signal;

use super::support::can_run;

/// What of the labs of this process is there: namespaces and directories.
pub(crate) fn left(pid: i32) -> Vec<String> {
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut all = [names(Path::new("/run/netns")), names(&std::env::temp_dir())].concat();
    all.retain(|name| name.starts_with(&format!("cg-{pid}-")));
    all.sort();
    all
}

/// The demo as a lab of another process, up to where its namespaces are there.
fn demo(log: &Path) -> Process {
    let mut command = Command::new(program("callgate-lab").unwrap());
    command.arg("demo");
    let mut demo = Process::spawn("demo", command, log).unwrap();
    demo.wait_output("A dials", Duration::from_secs(30)).unwrap();
    assert!(left(demo.pid().as_raw()).len() > 4, "the lab is not there");
    demo
}

#[test]
fn a_lab_that_gets_sigterm_leaves_nothing() {
    if !can_run("a_lab_that_gets_sigterm_leaves_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut demo = demo(&dir.path().join("log"));
    let pid = demo.pid().as_raw();
    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.wait(Duration::from_secs(30)).unwrap().code(), Some(128 + 15));
    assert_eq!(left(pid), Vec::<String>::new());
}

#[test]
fn a_lab_that_gets_sigterm_while_it_is_built_leaves_nothing() {
    if !can_run("a_lab_that_gets_sigterm_while_it_is_built_leaves_nothing") {
        return;
    }
    // How much of it is there: its directory, and namespaces one by one.
    for there in 1..6 {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program("callgate-lab").unwrap());
        command.arg("demo");
        let mut demo = Process::spawn("demo", command, &dir.path().join("log")).unwrap();
        let pid = demo.pid().as_raw();
        wait::until_true("a lab is being built", Duration::from_secs(30), || Ok(left(pid).len() >= there)).unwrap();
        demo.signal(Signal::SIGTERM);
        let code = demo.wait(Duration::from_secs(30)).unwrap().code();
        assert_eq!((code, left(pid)), (Some(128 + 15), Vec::new()), "{there}: {}", demo.tail(20));
    }
}

#[test]
fn what_a_killed_lab_left_is_swept() {
    if !can_run("what_a_killed_lab_left_is_swept") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut demo = demo(&dir.path().join("log"));
    let pid = demo.pid().as_raw();
    demo.kill9();
    assert!(left(pid).len() > 4, "it cannot have removed them itself");
    let status = Command::new(program("callgate-lab").unwrap()).arg("sweep").status().unwrap();
    assert!(status.success());
    wait::until_true("nothing is left", Duration::from_secs(5), || Ok(left(pid).is_empty())).unwrap();
}
