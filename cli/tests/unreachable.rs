//! What is said when no agent answers: which socket, why, and what to do. Exit code 3.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Answers, Finished, Place, command, serve};

fn failed(code: u8, err: &str) -> Finished {
    Finished { code, out: String::new(), err: err.into() }
}

/// Runs a command against the place's socket; its path reads `SOCKET`.
async fn at(place: &Place, line: &str) -> Finished {
    let done = command(&format!("kubectl-callgate {line} --api {}", place.socket().display())).await;
    Finished { err: place.plain(&done.err), ..done }
}

#[tokio::test]
async fn a_socket_that_does_not_exist_is_named_with_both_remedies() {
    let message = "error: no agent here: the socket SOCKET does not exist; start one with `callgate-dataplane standalone \
                   --manifests DIR --state-dir DIR`, or pass --api SOCKET if its socket is elsewhere\n";
    for line in ["status", "calls", "calls -w", "explain --from 10.0.0.1 --to 10.0.0.2/icmp"] {
        assert_eq!(at(&Place::new(), line).await, failed(3, message), "{line}");
    }
}

#[tokio::test]
async fn a_socket_that_an_agent_left_behind_is_told_from_a_missing_one() {
    let place = Place::new();
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
    let message = "error: no agent listens on SOCKET: it is gone and left its socket behind; start one with \
                   `callgate-dataplane standalone --manifests DIR --state-dir DIR`, or pass --api SOCKET if another one \
                   is meant\n";
    assert_eq!(at(&place, "status").await, failed(3, message));
}

#[test]
fn a_socket_one_may_not_use_is_for_root() {
    // As root nothing is forbidden, so the message is made from the kernel's error as it would come.
    let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let error = kubectl_callgate::error::Error::NoAgent { socket: "/run/callgate/api.sock".into(), source };
    let message = "not permitted to use /run/callgate/api.sock: the agent's API is for root alone; run this as root, or \
                   pass --api SOCKET";
    assert_eq!((error.to_string().as_str(), error.exit_code()), (message, 3));
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_reported_with_what_the_kernel_said() {
    let place = Place::new();
    std::fs::write(place.socket(), "").unwrap();
    let done = at(&place, "status").await;
    assert_eq!((done.code, done.out.as_str()), (3, ""));
    assert!(done.err.starts_with("error: no agent listens on SOCKET"), "{}", done.err);
}

#[tokio::test]
async fn something_that_hangs_up_is_no_agent() {
    let place = Place::new();
    let listener = tokio::net::UnixListener::bind(place.socket()).unwrap();
    let (done, _) = tokio::join!(at(&place, "calls"), async { drop(listener.accept().await.unwrap()) });
    assert_eq!((done.code, done.out.as_str()), (3, ""));
    assert!(done.err.starts_with("error: the agent at SOCKET does not answer: "), "{}", done.err);
}

#[tokio::test]
async fn an_agent_that_does_not_know_the_request_is_of_another_version() {
    let place = Place::new();
    let _agent = serve(&place.socket(), Answers::default());
    let message =
        "error: the agent says: this request is not known to it; agent and kubectl-callgate differ in version\n";
    assert_eq!(at(&place, "status").await, failed(4, message));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_takes_the_request_and_says_nothing_is_given_up() {
    let place = Place::new();
    let listener = tokio::net::UnixListener::bind(place.socket()).unwrap();
    let silent = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    });
    let message = "error: the agent at SOCKET does not answer: Timeout expired\n";
    assert_eq!(at(&place, "calls").await, failed(3, message));
    silent.abort();
}
