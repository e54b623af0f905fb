//! Strangers who connect and say nothing, and an agent among them.

use futures::StreamExt as _;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::{Authority, Lifetimes, server_config};

const NAME: &str = "callgate-operator";
/// A test waits no longer than this for what must come; less than a handshake may take.
const SOON: Duration = Duration::from_secs(4);

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn an_agent_is_let_in_at_once_whoever_else_connects_and_says_nothing() {
    let authority = Authority::new(Timestamp::now(), Lifetimes::default()).unwrap();
    let leaf = authority.issue(&[NAME.to_owned()], Timestamp::now(), Lifetimes::default()).unwrap();
    let (_tls, config) = watch::channel(server_config(&leaf).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, counts) = (listener.local_addr().unwrap(), Arc::new(Handshakes::default()));
    let mut connections = std::pin::pin!(accept_at_most(4, listener, config, Arc::clone(&counts)));
    let mut silent = Vec::new();
    for from in ["127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.4"] {
        silent.push(connect(from, address).await);
    }

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.bundle().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let agent = connect("127.0.0.9", address).await;
    let agent = TlsConnector::from(Arc::new(client)).connect(ServerName::try_from(NAME).unwrap(), agent);
    let (agent, accepted) = tokio::time::timeout(SOON, futures::future::join(agent, connections.next())).await.unwrap();
    assert_eq!(accepted.unwrap().unwrap().peer, agent.unwrap().get_ref().0.local_addr().unwrap());
    // Of the address that has two, the older one made room.
    let gone = tokio::time::timeout(SOON, silent[1].read(&mut [0])).await.unwrap();
    assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!((count(&counts.done), count(&counts.failed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn strangers_do_not_fill_the_log_and_are_counted_all_the_same() {
    let refusals = Refusals { counts: Arc::default(), lately: Mutex::new((Instant::now(), 0)) };
    let told = |times| (0..times).filter_map(|_| refusals.tell()).collect::<Vec<_>>();
    assert_eq!(told(25), [0; 10]);
    tokio::time::advance(TOLD.1).await;
    assert_eq!(told(2), [15, 0]);
    refusals.note("10.0.0.1:1", "it did not finish in time");
    assert_eq!(refusals.counts.failed.load(Ordering::Relaxed), 1);
}
