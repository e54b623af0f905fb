//! The API server without a process for each question: `kubectl proxy`, and as much HTTP as it takes to use it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::Cluster;
use crate::lab::node::Node;
use crate::lab::process::Process;
use crate::wait;

/// In the control plane's own network: nobody else has it.
const PORT: u16 = 8001;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way to the API server with the administrator's rights.
#[derive(Debug)]
pub struct Proxy<'a> {
    node: &'a Node,
    // Ends when dropped.
    _process: Process,
}

impl<'a> Proxy<'a> {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// If it does not.
    pub fn start(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let node = &cluster.control_plane;
        let mut command = cluster.kubectl().command("kubectl")?;
        command.args(["proxy", &format!("--port={PORT}")]);
        let proxy = Self { node, _process: node.spawn("kubectl-proxy", command)? };
        wait::until_true("kubectl proxy answers", PATIENCE, || Ok(proxy.get("/version").is_ok()))?;
        Ok(proxy)
    }

    /// An object or a list.
    ///
    /// # Errors
    /// If there is none, with what the API server said.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, "application/json", "")
    }

    /// Server-side apply of one object (JSON is YAML); the object as it is then.
    ///
    /// # Errors
    /// If it is refused, with what the API server said.
    pub fn apply(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        let path = format!("{path}?fieldManager=test&force=true");
        self.ask("PATCH", &path, "application/apply-patch+yaml", &object.to_string())
    }

    /// A merge patch; the object as it is then.
    ///
    /// # Errors
    /// If it is refused, with what the API server said.
    pub fn merge(&self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        self.ask("PATCH", path, "application/merge-patch+json", &patch.to_string())
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// If there is none, with what the API server said.
    pub fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("DELETE", path, "application/json", "")
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> anyhow::Result<Value> {
        let mut stream = self.node.within(|| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)))?.context("connect")?;
        stream.set_read_timeout(Some(PATIENCE)).context("time-out")?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).context("ask")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context("the answer")?;
        let (status, body) = parse(&answer).with_context(|| format!("{method} {path}"))?;
        let text = String::from_utf8_lossy(&body);
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| text.into_owned())
    }
}

/// Status and body of an answer that ended with its connection.
fn parse(answer: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
    let end =
        answer.windows(4).position(|window| window == b"\r\n\r\n").context("an answer without an end of its head")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a status")?;
    let mut rest = &answer[end + 4..];
    if !head.contains("transfer-encoding: chunked") {
        return Ok((status, rest.to_vec()));
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n").context("a chunk without a length")?;
        let length = usize::from_str_radix(&String::from_utf8_lossy(&rest[..line]), 16).context("length of a chunk")?;
        if length == 0 {
            return Ok((status, body));
        }
        ensure!(rest.len() >= line + 4 + length, "an answer was cut off");
        body.extend(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 4 + length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_and_in_chunks() {
        let whole = parse(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!(whole, (404, b"{}".to_vec()));
        let chunks =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\na\r\n\":1}      \r\n0\r\n\r\n");
        assert_eq!(chunks.unwrap(), (200, b"{\"a\":1}      ".to_vec()));
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30\r\n{").is_err());
    }
}
