//! Namespaces, links and packet sockets of a test.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use callgate_agent::fast::{Fast, Mode, Setup, Status};
use callgate_pptp::{CallPath, IdPair, Now};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_getcpu, sched_setaffinity, unshare};
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

pub(crate) use super::namespace::{Namespace, index, root, sh, skipped};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// A time of the engine.
pub(crate) const NOW: Now = Now(1_000_000);

/// ETH_P_IP in network byte order.
const IPV4: u16 = 0x0800_u16.to_be();

/// linux/if_packet.h.
const PACKET_HOST: u8 = 0;
const PACKET_OUTGOING: u8 = 4;

/// A packet socket: whole IPv4 packets of all links of its namespace, as the ALG's taps have them.
pub(crate) struct Tap(Socket);

impl Tap {
    /// In the calling thread's namespace.
    pub(crate) fn here() -> Self {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(IPV4)))).unwrap();
        socket.set_nonblocking(true).unwrap();
        // Room for a flood that nobody reads meanwhile.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(256 << 20)).unwrap();
        Self(socket)
    }

    /// What has come since, but what we have sent ourselves; GRE only.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        self.come().into_iter().map(|(_, packet)| packet).collect()
    }

    /// Of what has come since, how much was addressed to this machine by Ethernet, and how much was not.
    pub(crate) fn addressed(&self) -> [usize; 2] {
        let come = self.come();
        let here = come.iter().filter(|(kind, _)| *kind == PACKET_HOST).count();
        [here, come.len() - here]
    }

    fn come(&self) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        let mut buffer = [0; 70_000];
        while let Ok((length, from)) = recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
            let kind = from.map_or(PACKET_HOST, |from| packet_type(&from));
            if kind != PACKET_OUTGOING && length > 20 && buffer[9] == 47 {
                all.push((kind, buffer[..length].to_vec()));
            }
        }
        all
    }

    /// Waits until there are `count` packets.
    pub(crate) fn wait(&self, count: usize) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut all = self.take();
        while all.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} packets came: {all:x?}", all.len());
            std::thread::yield_now();
            all.extend(self.take());
        }
        all
    }
}

fn packet_type(from: &LinkAddr) -> u8 {
    // SAFETY: a LinkAddr is a sockaddr_ll (packet(7)), of which one octet is read.
    unsafe { (*std::ptr::from_ref(from).cast::<libc::sockaddr_ll>()).sll_pkttype }
}

/// Sends packets as they are, in frames to one neighbour.
pub(crate) struct Sender {
    socket: Socket,
    to: SockAddr,
}

impl Sender {
    /// By `link` of the calling thread's namespace to this MAC address.
    pub(crate) fn here(link: &str, mac: &str) -> Self {
        Self::of_type(link, mac, IPV4)
    }

    /// What is sent is of another protocol, in network byte order.
    pub(crate) fn of_type(link: &str, mac: &str, protocol: u16) -> Self {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0))).unwrap();
        socket.set_send_buffer_size(1 << 22).unwrap();
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: the storage is as large as any address, all zeroes, and sockaddr_ll is plain data.
        let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index(link) as i32;
        address.sll_halen = 6;
        for (octet, text) in address.sll_addr.iter_mut().zip(mac.split(':')) {
            *octet = u8::from_str_radix(text, 16).unwrap();
        }
        // SAFETY: the storage holds a sockaddr_ll of this length.
        let to = unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) };
        Self { socket, to }
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        self.socket.send_to(packet, &self.to).unwrap();
    }
}

/// MAC address of a link of the calling thread's namespace.
pub(crate) fn mac(link: &str) -> String {
    let text = sh(&format!("ip -o link show {link}"));
    text.split("link/ether ").nth(1).unwrap()[..17].to_owned()
}

/// Client, gateway (the calling thread) and server, each with a tap.
pub(crate) struct Lab {
    pub(crate) client: Namespace,
    pub(crate) server: Namespace,
    pub(crate) at_client: Tap,
    pub(crate) at_gateway: Tap,
    pub(crate) at_server: Tap,
    /// A bpf file system of the calling thread's own.
    pub(crate) root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Lab {
    /// With a fast path that has `call(1)`.
    pub(crate) fn with_call(mode: Mode) -> (Self, Fast, Status) {
        let lab = Self::new();
        let (mut fast, status) = lab.start(mode, &[]);
        assert!(opened(&mut fast, call(1)), "{:?}", status.get());
        (lab, fast, status)
    }

    /// Moves the calling thread into a fresh gateway with everything around it.
    pub(crate) fn new() -> Self {
        // Packets then go from end to end on this CPU, one after the other.
        let mut cpu = CpuSet::new();
        cpu.set(sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpu).unwrap();
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount(Some("bpf"), dir.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
        sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 && ip link set lo up");
        let (client, server) = (Namespace::fresh(), Namespace::fresh());
        for (link, namespace) in [("cg-in", &client), ("cg-out", &server)] {
            namespace.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
            // Nobody here has PPTP: the kernel must not answer what it sees of it.
            namespace.sh("nft 'add table ip x; add chain ip x in { type filter hook input priority 0; policy drop; }'");
            sh(&format!("ip link add {link} type veth peer name eth0 netns {}", namespace.path()));
            namespace.sh("ip link set lo up && ip link set eth0 up");
        }
        sh("ip addr add 10.0.0.1/24 dev cg-in && ip link set cg-in up");
        sh("ip addr add 192.0.2.1/24 dev cg-out && ip link set cg-out up && ip route add default via 192.0.2.10");
        let (at_client, at_gateway, at_server) = (client.run(Tap::here), Tap::here(), server.run(Tap::here));
        let root = dir.path().to_owned();
        let lab = Self { client, server, at_client, at_gateway, at_server, root, _dir: dir };
        lab.neighbours("cg-in");
        lab
    }

    /// MAC addresses are known beforehand; `inside` leads to the client.
    pub(crate) fn neighbours(&self, inside: &str) {
        sh(&format!("ip neigh replace {CLIENT} lladdr {} dev {inside} nud permanent", self.client.run(|| mac("eth0"))));
        sh(&format!("ip neigh replace 192.0.2.10 lladdr {} dev cg-out nud permanent", self.server.run(|| mac("eth0"))));
    }

    /// The fast path of this gateway with these calls.
    pub(crate) fn start(&self, mode: Mode, live: &[CallPath]) -> (Fast, Status) {
        self.start_with(Setup { mode, ..self.setup() }, live)
    }

    pub(crate) fn setup(&self) -> Setup {
        Setup { root: self.root.clone(), table: "callgate".into(), entries: 4_096, ..Setup::default() }
    }

    pub(crate) fn start_with(&self, setup: Setup, live: &[CallPath]) -> (Fast, Status) {
        if setup.mode == Mode::Xdp {
            self.frames_are_taken(true);
        }
        let status = setup.status.clone();
        let mut fast = Fast::start(setup, &live.iter().copied().collect(), NOW);
        settle(&mut fast);
        (fast, status)
    }

    /// Whether both ends take frames that leave by XDP. The kernel names a neighbour for XDP on links only that forward; what is not
    /// passed on is dropped there all the same.
    pub(crate) fn frames_are_taken(&self, taken: bool) {
        let gro = if taken { "on" } else { "off" };
        for end in [&self.client, &self.server] {
            end.sh(&format!("ethtool -K eth0 gro {gro}"));
        }
        sh("nft 'add table ip x; add chain ip x f { type filter hook forward priority 0; policy drop; }'");
        sh("sysctl -qw net.ipv4.conf.cg-in.forwarding=1 net.ipv4.conf.cg-out.forwarding=1");
    }

    pub(crate) fn client_sends(&self) -> Sender {
        self.through("cg-in")
    }

    /// From the client by another link of the gateway.
    pub(crate) fn through(&self, inside: &str) -> Sender {
        let mac = mac(inside);
        self.client.run(move || Sender::here("eth0", &mac))
    }

    pub(crate) fn server_sends(&self) -> Sender {
        let mac = mac("cg-out");
        self.server.run(move || Sender::here("eth0", &mac))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Or the directory, which is removed next, is busy.
        let _ = umount2(&self.root, MntFlags::MNT_DETACH);
    }
}

/// All ways of a fast path that this kernel has.
pub(crate) fn modes() -> Vec<Mode> {
    let xdp = Some(Mode::Xdp).filter(|_| has_xdp());
    [Mode::Auto, Mode::Clsact].into_iter().chain(xdp).collect()
}

/// Whether the kernel says what drivers can do with XDP: since Linux 6.3.
pub(crate) fn has_xdp() -> bool {
    kernel_is((6, 3))
}

/// Whether the kernel is of this version or a later one.
pub(crate) fn kernel_is(version: (u32, u32)) -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

/// Until nothing is under way; calls that pass beside the ALG since, or do not any more.
pub(crate) fn settle(fast: &mut Fast) -> Vec<(CallPath, bool)> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut changed = fast.work(NOW);
    while !fast.is_settled() {
        assert!(Instant::now() < deadline, "links do not get the program");
        std::thread::yield_now();
        changed.extend(fast.work(NOW));
    }
    // What XDP's thread has done since is told with the next turn.
    changed.extend(fast.work(NOW));
    changed
}

/// Opens a call; whether it passes beside the ALG once its links have the program.
pub(crate) fn opened(fast: &mut Fast, path: CallPath) -> bool {
    fast.open(path, NOW);
    settle(fast);
    fast.placed().any(|placed| placed == path)
}

/// A call whose ids differ everywhere.
pub(crate) fn call(number: u16) -> CallPath {
    CallPath {
        client: CLIENT,
        external: EXTERNAL,
        server: SERVER,
        pns: IdPair { client: 100 + number, server: 40_000 + number },
        pac: IdPair { client: 2_000 + number, server: 3_000 + number },
    }
}
