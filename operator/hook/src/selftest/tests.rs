//! What is told, and taken away, when the test fails half-way.

use std::net::{Ipv4Addr, SocketAddr};

use http::{Request, Response};
use kube::client::Body;
use serde_json::json;
use tower_test::mock::pair;

use super::*;

/// The test of a pod at whose target somebody accepts, with an API server that answers so: the error, and what was asked.
async fn failed(answers: &[(u16, &str)]) -> (String, Vec<String>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
    let SocketAddr::V4(target) = listener.local_addr().expect("address") else { panic!("not IPv4") };
    let (service, mut server) = pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "callgate-system");
    let args = Args { pod: "selftest".to_owned(), pod_uid: "u".to_owned(), target };
    let work = tokio::spawn(async move { run(client, "callgate-system", &args, Duration::from_secs(60)).await });
    let mut asked = Vec::new();
    for (code, reason) in answers {
        let (request, send) = server.next_request().await.expect("a request");
        let path = request.uri().path().trim_start_matches("/apis/callgate.io/v1alpha1/namespaces/callgate-system/");
        asked.push(format!("{} {path}", request.method()));
        let made = json!({ "metadata": { "name": objects::NAME }, "spec": { "protocol": "TCP" } });
        let status =
            json!({ "kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code });
        let body = if *code == 200 { made } else { status };
        let response = Response::builder().status(*code).header("content-type", "application/json");
        send.send_response(response.body(Body::from(body.to_string().into_bytes())).expect("response"));
    }
    (format!("{:#}", work.await.expect("no panic").expect_err("it passed")), asked)
}

const ASKED: [&str; 4] = [
    "PATCH ipservices/callgate-selftest",
    "PATCH iprules/callgate-selftest",
    "DELETE iprules/callgate-selftest",
    "DELETE ipservices/callgate-selftest",
];

#[tokio::test]
async fn a_rule_that_cannot_be_made_is_what_is_told_and_the_service_goes_too() {
    let (told, asked) = failed(&[(200, ""), (403, "Forbidden"), (404, "NotFound"), (200, "")]).await;
    assert!(told.starts_with("make the rule: ") && told.contains("Forbidden"), "{told}");
    assert_eq!(asked, ASKED);
}

#[tokio::test]
async fn what_was_found_comes_before_what_cannot_be_taken_away() {
    let (told, asked) = failed(&[(200, ""), (403, "Forbidden"), (500, "Down"), (500, "Down")]).await;
    assert!(told.starts_with("make the rule: "), "{told}");
    assert_eq!(asked, ASKED);
}
