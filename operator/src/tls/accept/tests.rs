//! Strangers who connect and say nothing, and an agent among them.

use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::peer::PROVEN_WITHIN;
use crate::tls::{Authority, Lifetimes, server_config};

const NAME: &str = "callgate-operator";
/// A test waits no longer than this for what must come; less than a handshake may take.
const SOON: Duration = Duration::from_secs(4);

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// What strangers connect to, and a client that trusts it.
struct Server {
    address: SocketAddr,
    counts: Arc<Handshakes>,
    connector: TlsConnector,
    connections: Pin<Box<dyn Stream<Item = std::io::Result<Connection>> + Send>>,
    _tls: watch::Sender<Arc<ServerConfig>>,
}

async fn server(most: usize) -> Server {
    let authority = Authority::new(Timestamp::now(), Lifetimes::default()).unwrap();
    let leaf = authority.issue(&[NAME.to_owned()], Timestamp::now(), Lifetimes::default()).unwrap();
    let (_tls, config) = watch::channel(server_config(&leaf).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, counts) = (listener.local_addr().unwrap(), Arc::new(Handshakes::default()));
    let connections = Box::pin(accept_at_most(move || most, listener, config, Arc::clone(&counts)));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.bundle().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Server { address, counts, connector: TlsConnector::from(Arc::new(client)), connections, _tls }
}

impl Server {
    /// Both ends of a connection whose handshake is done.
    async fn shake_hands(&mut self, from: &str) -> (tokio_rustls::client::TlsStream<TcpStream>, Connection) {
        let client = connect(from, self.address).await;
        let client = self.connector.connect(ServerName::try_from(NAME).unwrap(), client);
        let both = futures::future::join(client, self.connections.next());
        let (client, accepted) = tokio::time::timeout(SOON, both).await.unwrap();
        (client.unwrap(), accepted.unwrap().unwrap())
    }
}

/// Whether whoever serves it is told to end it.
async fn ends(connection: &mut Connection) -> bool {
    let read = tokio::time::timeout(SOON, connection.read(&mut [0])).await;
    matches!(read, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionAborted)
}

/// Whether it goes on, as far as can be seen at once.
fn goes_on(connection: &mut Connection) -> bool {
    connection.read(&mut [0]).now_or_never().is_none()
}

#[tokio::test]
async fn an_agent_is_let_in_at_once_whoever_else_connects_and_says_nothing() {
    let mut server = server(4).await;
    let mut silent = Vec::new();
    for from in ["127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.4"] {
        silent.push(connect(from, server.address).await);
    }
    let (agent, accepted) = server.shake_hands("127.0.0.9").await;
    assert_eq!(accepted.connect_info().address(), agent.get_ref().0.local_addr().unwrap());
    // Of the address that has two, the older one made room.
    let gone = tokio::time::timeout(SOON, silent[1].read(&mut [0])).await.unwrap();
    assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
    let wait = async {
        while server.counts.failed.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap();
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!((count(&server.counts.done), count(&server.counts.failed)), (1, 1));
}

#[tokio::test]
async fn strangers_who_shake_hands_and_then_say_nothing_make_room_and_agents_stay() {
    let mut server = server(2).await;
    let (_agent, mut attached) = server.shake_hands("127.0.0.3").await;
    let proof = attached.connect_info().prove();
    let mut strangers = vec![server.shake_hands("127.0.0.3").await, server.shake_hands("127.0.0.3").await];
    assert!(goes_on(&mut strangers[0].1), "two are not too many");
    strangers.push(server.shake_hands("127.0.0.9").await);
    assert!(ends(&mut strangers[0].1).await);
    assert!(goes_on(&mut strangers[1].1) && goes_on(&mut strangers[2].1) && goes_on(&mut attached));
    // Without its last stream it is a stranger's like any other, and there are three again.
    drop(proof);
    assert!(ends(&mut strangers[1].1).await);
    assert!(goes_on(&mut strangers[2].1) && goes_on(&mut attached));
}

#[tokio::test]
async fn whoever_shakes_hands_and_attaches_no_agent_is_closed_after_a_while() {
    let mut server = server(4).await;
    let (_stranger, mut silent) = server.shake_hands("127.0.0.2").await;
    let (_agent, mut attached) = server.shake_hands("127.0.0.9").await;
    let _proof = attached.connect_info().prove();
    assert!(goes_on(&mut silent));
    tokio::time::pause();
    tokio::time::advance(PROVEN_WITHIN).await;
    tokio::time::resume();
    assert!(ends(&mut silent).await);
    assert!(goes_on(&mut attached));
}

#[test]
fn where_there_are_many_nodes_more_may_wait_for_their_turn() {
    assert_eq!([0, 256, 257, 1_000].map(strangers), [512, 512, 514, 2_000]);
}
