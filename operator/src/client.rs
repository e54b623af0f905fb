//! The client of the API server: one that notices when the other end is gone without a word.
//!
//! A host that loses its power sends no RST, and a watch on which there is no news looks the same. So watches are short and begun
//! anew where they ended (nothing is listed again), and a connection on which an answer does not come is given up. Not by TCP
//! keepalive: a proxy before the API server would answer that, and so would the kernel of one that hangs.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::runtime::watcher;
use kube::{Client, Config};

/// How long a watch is asked for, seconds; the API server ends it then. One request a kind each time, and without news a bookmark.
const WATCH: u32 = 15;
/// What a watch may take longer until it is given up (kube's margin).
const MARGIN: Duration = Duration::from_secs(5);
/// A connection on which nothing has come for so long after a request is given up. Longer than a watch may be silent.
const SILENCE: Duration = Duration::from_secs(25);
/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request that is made again anyhow may take.
const REQUEST: Duration = Duration::from_secs(10);

const _: () = assert!(WATCH as u64 + MARGIN.as_secs() < SILENCE.as_secs());

/// A client of the API server that this process is told of.
///
/// # Errors
/// If it is told of none.
pub async fn connect() -> Result<Client> {
    let config = Config::infer().await.context("finding the API server")?;
    Client::try_from(attentive(config)).context("connecting to the API server")
}

/// `config`, attentive to silence.
fn attentive(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    // Counted from a request, not from when the connection was used last.
    config.reset_reader_on_write = true;
    config
}

/// A watch that is not believed in for long.
pub fn watching() -> watcher::Config {
    watcher::Config::default().timeout(WATCH)
}

/// Waits for a request, but not for ever.
///
/// # Errors
/// Its own, or that it took too long.
pub async fn in_time<T, E: Into<anyhow::Error>>(request: impl Future<Output = Result<T, E>>) -> Result<T> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => anyhow::bail!("the API server did not answer in {} s", REQUEST.as_secs()),
    }
}

#[cfg(test)]
mod tests;
