//! An API server of scripted answers, for tests: the HTTP is mocked, the client is the real one.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Bytes;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock;

/// What was asked: `GET /api/…`, and the body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// Method, path and query.
    pub(crate) what: String,
    /// Null where there was none.
    pub(crate) body: Value,
}

/// Everything that was asked so far.
pub(crate) type Log = Arc<Mutex<Vec<Asked>>>;

/// The code of a request that is never answered, such as a watch without news.
pub(crate) const NEVER: u16 = 0;

/// The code of a request that is answered with a body that never comes: a watch that has begun.
pub(crate) const SILENT: u16 = 1;

/// A client whose requests `answer` answers: with a code and a body.
pub(crate) fn api_server(mut answer: impl FnMut(&Asked) -> (u16, Value) + Send + 'static) -> (Client, Log) {
    let (service, handle) = mock::pair::<Request<Body>, Response<UnsyncBoxBody<Bytes, Infallible>>>();
    let log: Log = Log::default();
    let written = Arc::clone(&log);
    tokio::spawn(async move {
        let mut handle = pin!(handle);
        let mut held = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let what = format!("{} {}", request.method(), request.uri());
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
            let asked = Asked { what, body };
            let (code, body) = answer(&asked);
            written.lock().unwrap().push(asked);
            if code == NEVER {
                held.push(send);
                continue;
            }
            let (code, body) = match code {
                SILENT => (200, StreamBody::new(futures::stream::pending()).boxed_unsync()),
                _ => (code, Full::from(serde_json::to_vec(&body).unwrap()).boxed_unsync()),
            };
            send.send_response(Response::builder().status(code).body(body).unwrap());
        }
    });
    (Client::new(service, "default"), log)
}

/// An error as the API server writes it.
pub(crate) fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": code,
    });
    (code, status)
}
