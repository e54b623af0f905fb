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

/// Serves for ever.
pub async fn serve(listener: TcpListener, health: Health, hub: Arc<Hub>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (health, hub) = (health.clone(), Arc::clone(&hub));
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), &health.get(), &hub);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A client that goes away is no news.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
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
    use super::*;

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
