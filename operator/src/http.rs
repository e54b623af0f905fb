//! `/healthz`, `/readyz` and `/metrics` over plain HTTP.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::control::Hub;
use crate::metrics::of_nodes;
use crate::strangers::{Closing, Crowd};

/// How far the operator is, for probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It can neither lead nor stand by yet, and why.
    Waiting(String),
    /// Another one leads, and this one would take over.
    Standby,
    /// It leads and serves.
    Serving,
    /// It is about to end.
    Stopping,
}

/// Shared between whoever knows the phase and the probes.
#[derive(Debug, Clone)]
pub struct Health(Arc<RwLock<Phase>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Phase::Waiting("starting".to_owned()))))
    }
}

impl Health {
    /// From now on.
    pub fn set(&self, phase: Phase) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Now.
    pub fn get(&self) -> Phase {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client that does not send its request in this time is dropped.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection, which is for one request, takes no longer than this.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// Most connections: the kubelet's, Prometheus's, and of whoever likes to know.
const CONNECTIONS: usize = 64;
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves for ever. Who asks is not asked who he is, so whoever has most connections makes room for others.
pub async fn serve(listener: TcpListener, health: Health, hub: Arc<Hub>) {
    serve_at_most(CONNECTIONS, listener, health, hub).await;
}

async fn serve_at_most(most: usize, listener: TcpListener, health: Health, hub: Arc<Hub>) {
    let crowd = Crowd::new("a connection to the probes' port was", most);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            crowd.evict("others cannot be taken, and most of them are from this address");
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let closing = Arc::new(Closing::default());
        let place = crowd.enter(peer.ip(), &closing, CONNECTION_TIMEOUT);
        let (health, hub) = (health.clone(), Arc::clone(&hub));
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), &health.get(), &hub);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
            let served = server.serve_connection(TokioIo::new(stream), service);
            // A client that goes away is no news.
            tokio::select! {
                _ = tokio::time::timeout(CONNECTION_TIMEOUT, served) => {}
                () = closing.wait() => {}
            }
            drop(place);
        });
    }
}

/// What Prometheus reads. Encoded when nobody waits for the fleet any more.
fn told(hub: &Hub) -> String {
    let (wanted, now) = (hub.board.latest(), tokio::time::Instant::now());
    hub.metrics.text(&hub.with_fleet(|fleet| of_nodes(fleet, &wanted, now)))
}

fn answer(method: &Method, path: &str, phase: &Phase, hub: &Hub) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => match phase {
            Phase::Serving => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            Phase::Standby => (StatusCode::OK, "text/plain", "ok: another operator leads\n".to_owned()),
            Phase::Waiting(why) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{why}\n")),
            Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "stopping\n".to_owned()),
        },
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", told(hub))
        }
        (_, "/healthz" | "/readyz" | "/metrics") => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned())
        }
        (_, _) => (StatusCode::NOT_FOUND, "text/plain", "there are /healthz, /readyz and /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpSocket, TcpStream};

    use super::*;

    async fn connect(from: &str, to: std::net::SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }

    #[tokio::test]
    async fn a_probe_is_answered_whoever_else_connects_and_says_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = serve_at_most(2, listener, Health::default(), Arc::new(Hub::new(Arc::default())));
        let server = tokio::spawn(server);
        let mut silent = [connect("127.0.0.2", address).await, connect("127.0.0.2", address).await];
        let mut kubelet = connect("127.0.0.9", address).await;
        kubelet.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let (mut told, soon) = (String::new(), HEADER_TIMEOUT - Duration::from_secs(1));
        tokio::time::timeout(soon, kubelet.read_to_string(&mut told)).await.unwrap().unwrap();
        assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.ends_with("ok\n"), "{told}");
        // The older one has made room.
        let gone = tokio::time::timeout(soon, silent[0].read(&mut [0])).await.unwrap();
        assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
        server.abort();
    }

    #[test]
    fn it_is_alive_from_the_start_and_ready_while_it_serves_or_stands_by() {
        let hub = Hub::new(Arc::default());
        let status = |path: &str, phase: &Phase| answer(&Method::GET, path, phase, &hub).status().as_u16();
        let waiting = Phase::Waiting("starting".to_owned());
        let phases = [&waiting, &Phase::Standby, &Phase::Serving, &Phase::Stopping];
        let told = phases.map(|phase| (status("/healthz", phase), status("/readyz", phase)));
        assert_eq!(told, [(200, 503), (200, 200), (200, 200), (200, 503)]);
        assert_eq!(answer(&Method::POST, "/metrics", &waiting, &hub).status().as_u16(), 405);
        assert_eq!(status("/", &waiting), 404);
    }

    #[test]
    fn metrics_have_names_and_refusals_by_reason() {
        let hub = Hub::new(Arc::default());
        hub.metrics.refused("no_token");
        let text = told(&hub);
        assert!(text.contains("callgate_operator_agent_refusals_total{reason=\"no_token\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
