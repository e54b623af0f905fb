//! A connection to the operator: TLS that trusts the CA of now, a token of now.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use callgate_proto::pb::control_client::ControlClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Longest time for TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(10);

/// Between two pings of an idle connection, and how long the answer may take: a dead operator is noticed within 20 s. Servers of
/// gRPC take pings every 10 s of a connection with a stream as normal.
const PING: Duration = Duration::from_secs(10);

/// Largest message taken: 64 MiB are 1,000 rules for 100,000 sources many times over.
const LARGEST: usize = 64 << 20;

/// Where the operator is and what proves either side.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// HOST:PORT.
    pub(super) operator: String,
    pub(super) server_name: Option<String>,
    pub(super) ca_file: PathBuf,
    pub(super) token_file: PathBuf,
}

/// A connection, with what it was made with.
pub(super) struct Connected {
    pub(super) client: ControlClient<Channel>,
    /// `authorization` of the stream.
    pub(super) token: MetadataValue<Ascii>,
    /// The PEM text that was trusted.
    pub(super) ca: Vec<u8>,
}

impl Address {
    /// Checks what can be checked without the operator being there.
    ///
    /// # Errors
    /// Names the flag and the remedy.
    pub(super) fn check(&self) -> Result<()> {
        let port = self
            .operator
            .rsplit_once(':')
            .and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
        if port.is_none() {
            bail!(
                "--operator {}: is not HOST:PORT; write for instance callgate-operator.callgate-system.svc:9443",
                self.operator
            );
        }
        self.endpoint().map(|_| ())
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.operator));
        let endpoint = endpoint.with_context(|| format!("--operator {}: is not HOST:PORT", self.operator))?;
        Ok(endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true)
            .tcp_keepalive(Some(PING)))
    }

    /// The file of the two that is not there, if one is not: mounts of a pod may come after its start.
    pub(super) fn missing(&self) -> Option<String> {
        let files = [("--ca-file", &self.ca_file), ("--token-file", &self.token_file)];
        let absent = files.into_iter().find(|(_, path)| !path.exists());
        absent.map(|(flag, path)| format!("{flag} {}", path.display()))
    }

    /// Reads CA and token, and connects.
    ///
    /// # Errors
    /// Names the file or the address, and what to do.
    pub(super) async fn connect(&self) -> Result<Connected> {
        let ca = read(&self.ca_file, "--ca-file")?;
        let token = token(&read(&self.token_file, "--token-file")?)
            .with_context(|| format!("--token-file {}", self.token_file.display()))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca)).timeout(CONNECT);
        let tls = match &self.server_name {
            Some(name) => tls.domain_name(name),
            None => tls,
        };
        let what = || format!("--ca-file {}: needs one or more PEM certificates", self.ca_file.display());
        let endpoint = self.endpoint()?.tls_config(tls).with_context(what)?;
        let channel =
            endpoint.connect().await.with_context(|| format!("connecting to the operator at {}", self.operator))?;
        let client = ControlClient::new(channel).max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST);
        Ok(Connected { client, token, ca })
    }

    /// Whether the file holds another CA than this one. One that cannot be read says nothing.
    pub(super) fn rotated(&self, ca: &[u8]) -> bool {
        std::fs::read(&self.ca_file).is_ok_and(|now| now != ca)
    }
}

fn read(path: &Path, flag: &str) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{flag} {}: cannot be read", path.display()))
}

/// The metadata that proves who we are.
fn token(file: &[u8]) -> Result<MetadataValue<Ascii>> {
    let text = std::str::from_utf8(file).context("is not text")?.trim();
    if text.is_empty() {
        bail!("is empty: is a projected serviceAccountToken mounted there?");
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {text}").parse().context("is not a token")?;
    // Kept out of logs of the HTTP library, and of its header compression.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_without_its_newline_and_an_empty_file_is_none() {
        assert_eq!(token(b"abc.def\n").unwrap().to_str().unwrap(), "Bearer abc.def");
        assert!(token(b" \n").unwrap_err().to_string().starts_with("is empty"));
        assert!(token(b"two\nlines").is_err());
    }

    #[test]
    fn an_operator_is_a_host_and_a_port() {
        let check = |operator: &str| {
            let (ca_file, token_file) = (PathBuf::new(), PathBuf::new());
            Address { operator: operator.to_owned(), server_name: None, ca_file, token_file }.check().is_ok()
        };
        let judged =
            ["op.ns.svc:9740", "10.96.0.9:9740", "[fd00::1]:9740", "op", "op:x", ":9740", "op:99999"].map(check);
        assert_eq!(judged, [true, true, true, false, false, false, false]);
    }
}
