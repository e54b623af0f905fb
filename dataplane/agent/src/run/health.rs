//! /healthz and /readyz over HTTP, for probes of a container that has no shell.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::heart::Heart;
use super::report::Report;

/// Longest time for one probe, from connect to close.
const PROBE: Duration = Duration::from_secs(10);

/// Connections at once: whoever comes then waits to be accepted, and takes no descriptor that others need.
const CONNECTIONS: usize = 64;

/// Serves until the returned task is aborted.
pub(super) fn serve(listener: TcpListener, report: Arc<Report>, heart: Arc<Heart>) -> JoinHandle<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::spawn(async move {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let served = one(stream, Arc::clone(&report), Arc::clone(&heart));
                    drop(tokio::spawn(async move {
                        served.await;
                        drop(place);
                    }));
                }
                // Out of file descriptors, for instance: not a reason to spin.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    })
}

async fn one(stream: TcpStream, report: Arc<Report>, heart: Arc<Heart>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (status, text) = answer(request.uri().path(), &report, heart.stands_still(Instant::now()));
        let mut response = Response::new(text);
        *response.status_mut() = status;
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    let served = builder.timer(TokioTimer::new()).keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(PROBE, served).await;
}

/// What a probe is told; `hangs`: what does, and its remedy.
fn answer(path: &str, report: &Report, hangs: Option<String>) -> (StatusCode, String) {
    match path {
        "/healthz" => match hangs {
            None => (StatusCode::OK, "ok\n".to_owned()),
            Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")),
        },
        "/readyz" => match report.not_programmed() {
            None => (StatusCode::OK, "programmed\n".to_owned()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not programmed: {why}\n")),
        },
        other => (StatusCode::NOT_FOUND, format!("{other} is not here; /healthz and /readyz are\n")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::kernel::Options;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        format!("{} {}", &text[9..12], text.rsplit("\r\n").next().unwrap().trim_end())
    }

    #[tokio::test]
    async fn a_probe_hears_whether_everything_is_programmed_and_why_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let report = Arc::new(Report::new(Options::default(), None, Vec::new()));
        let served = serve(listener, Arc::clone(&report), Arc::default());
        assert_eq!(get(address, "/healthz").await, "200 ok");
        assert_eq!(get(address, "/readyz").await, "503 not programmed: starting");
        report.put_programmed();
        assert_eq!(get(address, "/readyz").await, "200 programmed");
        report.broken("no link".to_owned());
        assert_eq!(get(address, "/readyz").await, "503 not programmed: no link");
        assert_eq!(get(address, "/metrics").await, "404 /metrics is not here; /healthz and /readyz are");
        served.abort();
    }

    #[test]
    fn what_hangs_is_told_to_whoever_asks_whether_it_lives() {
        let report = Report::new(Options::default(), None, Vec::new());
        let told = (StatusCode::SERVICE_UNAVAILABLE, "the loop hangs\n".to_owned());
        assert_eq!(answer("/healthz", &report, Some("the loop hangs".to_owned())), told);
    }

    #[tokio::test]
    async fn so_many_at_once_and_no_more_and_the_next_one_when_somebody_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let report = Arc::new(Report::new(Options::default(), None, Vec::new()));
        let served = serve(listener, report, Arc::default());
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut asked = Box::pin(get(address, "/healthz"));
        let soon = Duration::from_millis(100);
        tokio::time::timeout(soon, &mut asked).await.expect_err("one too many was answered");
        silent.pop();
        assert_eq!(asked.await, "200 ok");
        served.abort();
    }
}
