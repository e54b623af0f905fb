//! A certificate and its key to what a TLS server needs.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Error, Pair};

/// A server's configuration: HTTP/2 only (gRPC), clients prove themselves by token and not by certificate.
pub fn server_config(leaf: &Pair) -> Result<Arc<ServerConfig>, Error> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(leaf.cert.as_bytes()).collect();
    let certs = certs.map_err(|_| Error::Stored("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).map_err(|_| Error::Stored("tls.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
