//! Scripted peers on the wire, through the real agent: whatever TCP does with the messages, the other end reads the same octets.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use callgate_e2e::gateway::callgate::{CLASSIC, Callgate};
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::control::{call_reply, call_request, message, start_reply, start_request};
use callgate_e2e::lab::topology::Lab;
use callgate_e2e::traffic::manifests::put;
use callgate_e2e::wait;
use callgate_pptp::wire::control::{field12, field14};

use super::chaos;
use super::support::{can_run, server, whole_messages};

/// How long an end may wait for what it has to get.
const PATIENCE: Duration = Duration::from_secs(20);

/// A lab with Callgate and a listening socket of the server.
struct Stage {
    callgate: Callgate,
    listener: TcpListener,
    lab: Lab,
}

/// Both ends of one control connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Stage {
    fn new(extra: &[&str]) -> Self {
        let lab = Lab::new(2, 1).unwrap();
        let callgate = Callgate::start_with(&lab.gw, &CLASSIC, extra).unwrap();
        let listener = lab.servers[0].within(|| TcpListener::bind("0.0.0.0:1723")).unwrap().unwrap();
        Self { callgate, listener, lab }
    }

    fn connect(&self, client: usize) -> Pair {
        let stream = self.lab.clients[client].within(|| TcpStream::connect((server(0), 1723))).unwrap().unwrap();
        let (accepted, _) = self.listener.accept().unwrap();
        for socket in [&stream, &accepted] {
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Pair { client: stream, server: accepted }
    }

    fn counter(&self, name: &str) -> u64 {
        self.callgate.counter(&self.lab.gw, name).unwrap()
    }
}

impl Pair {
    /// One end says this in these pieces; what the other end gets.
    fn say(&mut self, by_client: bool, pieces: &[&[u8]]) -> Vec<u8> {
        let (from, to) =
            if by_client { (&mut self.client, &mut self.server) } else { (&mut self.server, &mut self.client) };
        let mut got = vec![0; pieces.iter().map(|piece| piece.len()).sum()];
        for piece in pieces {
            from.write_all(piece).unwrap();
        }
        to.read_exact(&mut got).unwrap();
        got
    }

    fn start(&mut self) {
        self.say(true, &[&start_request()]);
        self.say(false, &[&start_reply()]);
    }

    /// A call; the id the server knows.
    fn call(&mut self, pns: u16, pac: u16) -> u16 {
        let request = self.say(true, &[&call_request(pns)]);
        let id = field12(&request);
        let reply = self.say(false, &[&call_reply(pac, id)]);
        assert_eq!((field12(&reply), field14(&reply)), (pac, pns));
        id
    }

    /// Both ends hear that it is over.
    fn is_reset(&mut self) -> bool {
        [&mut self.client, &mut self.server].into_iter().all(|end| {
            let mut rest = Vec::new();
            end.read_to_end(&mut rest).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        })
    }
}

/// Puts what one end says (the client, if true) on the wire; gives what the other end got.
type Say<'a> = &'a mut dyn FnMut(&mut Pair, bool, &[u8]) -> Vec<u8>;

/// A whole session in which every translated message occurs; `say` puts one utterance on the wire and gives what arrived. The
/// translated ids are replaced by 0 in what is returned, since they differ from run to run.
fn session(pair: &mut Pair, say: Say<'_>) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    let mut hear = |mut bytes: Vec<u8>, hidden: Option<usize>| {
        let id = hidden.map_or(0, |at| u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        if let Some(at) = hidden {
            bytes[at..at + 2].fill(0);
        }
        heard.push(bytes);
        id
    };
    hear(say(pair, true, &message(1, 156, &[(12, &[1, 0]), (28, b"till")])), None);
    hear(say(pair, false, &message(2, 156, &[(12, &[1, 0, 1]), (28, b"office")])), None);
    let id = hear(say(pair, true, &message(7, 168, &[(12, &[0, 7]), (40, b"phone")])), Some(12)).to_be_bytes();
    hear(say(pair, false, &message(8, 32, &[(12, &[0, 70]), (14, &id), (16, &[1])])), None);
    hear(say(pair, true, &message(15, 24, &[(12, &[0, 70]), (16, &[0xff; 8])])), None);
    hear(say(pair, false, &message(14, 40, &[(12, &id)])), None);
    hear(say(pair, false, &message(9, 220, &[(12, &[0, 71])])), None);
    let second =
        hear(say(pair, true, &message(10, 24, &[(12, &[0, 8]), (14, &[0, 71]), (16, &[1])])), Some(12)).to_be_bytes();
    hear(say(pair, false, &message(11, 28, &[(12, &second)])), None);
    hear(say(pair, true, &message(5, 16, &[(12, b"ping")])), None);
    hear(say(pair, false, &message(6, 20, &[(12, b"ping"), (16, &[1])])), None);
    hear(say(pair, true, &message(12, 16, &[(12, &[0, 7])])), Some(12));
    hear(say(pair, false, &message(13, 148, &[(12, &[0, 70]), (14, &[4])])), None);
    hear(say(pair, true, &message(3, 16, &[(12, &[1])])), None);
    hear(say(pair, false, &message(4, 16, &[(12, &[1])])), None);
    heard
}

#[test]
fn messages_split_at_every_octet_arrive_the_same_one_a_segment() {
    if !can_run("messages_split_at_every_octet_arrive_the_same_one_a_segment") {
        return;
    }
    let stage = Stage::new(&[]);
    let whole = session(&mut stage.connect(0), &mut |pair, by_client, bytes| pair.say(by_client, &[bytes]));
    let at_server = Capture::start(&stage.lab.servers[0], "eth0").unwrap();
    let mut said_by_clients = 0;
    for at in 1..220 {
        let split = session(&mut stage.connect(0), &mut |pair, by_client, bytes| {
            said_by_clients += usize::from(by_client);
            let at = at.min(bytes.len() - 1);
            pair.say(by_client, &[&bytes[..at], &bytes[at..]])
        });
        assert_eq!(split, whole, "split at {at}");
    }
    let octets = session(&mut stage.connect(0), &mut |pair, by_client, bytes| {
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        pair.say(by_client, &pieces)
    });
    assert_eq!(octets, whole);
    let messages = whole_messages(&at_server.stop().unwrap(), server(0));
    assert!(messages >= said_by_clients && said_by_clients > 219, "{messages} messages seen, {said_by_clients} said");
}

#[test]
fn a_client_that_waits_for_acknowledgements_is_not_stuck() {
    if !can_run("a_client_that_waits_for_acknowledgements_is_not_stuck") {
        return;
    }
    let stage = Stage::new(&[]);
    let mut pair = stage.connect(0);
    // Nagle: the second piece leaves only when the first is acknowledged.
    pair.client.set_nodelay(false).unwrap();
    pair.server.set_nodelay(false).unwrap();
    let whole = session(&mut pair, &mut |pair, by_client, bytes| {
        pair.say(by_client, &[&bytes[..5], &bytes[5..13], &bytes[13..]])
    });
    assert_eq!(whole.len(), 15);
    assert!(stage.counter("tcp_custody_acks") > 0);
}

#[test]
fn messages_glued_together_arrive_one_by_one() {
    if !can_run("messages_glued_together_arrive_one_by_one") {
        return;
    }
    let stage = Stage::new(&[]);
    let mut pair = stage.connect(0);
    let glued = [start_request(), call_request(7), message(5, 16, &[])].concat();
    let got = pair.say(true, &[&glued]);
    let id = field12(&got[156..]);
    let glued = [start_reply(), call_reply(70, id), message(6, 20, &[(16, &[1])])].concat();
    let got = pair.say(false, &[&glued]);
    assert_eq!(field14(&got[156..]), 7);
    assert_eq!(stage.callgate.wait_calls(&stage.lab.gw, 1).unwrap()[0].pac_call_id, Some(70));
}

#[test]
fn segments_repeated_late_and_overlapping_change_nothing() {
    if !can_run("segments_repeated_late_and_overlapping_change_nothing") {
        return;
    }
    let stage = Stage::new(&[]);
    let whole = session(&mut stage.connect(0), &mut |pair, by_client, bytes| pair.say(by_client, &[bytes]));
    let echoes = [&stage.lab.clients[0], &stage.lab.servers[0]].map(|node| chaos::Echo::start(node, "eth0").unwrap());
    for round in 0..20 {
        let bad = session(&mut stage.connect(0), &mut |pair, by_client, bytes| {
            let third = (bytes.len() / 3).max(round % 7 + 1);
            pair.say(by_client, &[&bytes[..third], &bytes[third..]])
        });
        assert_eq!(bad, whole, "round {round}");
    }
    assert!(echoes.into_iter().map(|echo| echo.stop().unwrap()).sum::<u64>() > 1_000);
    assert!(stage.counter("tcp_duplicates") > 100);
}

#[test]
fn a_malformed_message_resets_both_ends_and_nobody_else() {
    if !can_run("a_malformed_message_resets_both_ends_and_nobody_else") {
        return;
    }
    let stage = Stage::new(&[]);
    let mut other = stage.connect(1);
    other.start();
    other.call(7, 1);
    let mut cookie = message(5, 16, &[]);
    cookie[4] = 0;
    let mut length = message(5, 16, &[]);
    length[1] = 15;
    let wrong_type = message(99, 16, &[]);
    let direction = call_reply(1, 1);
    for bad in [cookie, length, wrong_type, direction] {
        let mut pair = stage.connect(0);
        pair.start();
        pair.client.write_all(&bad).unwrap();
        assert!(pair.is_reset(), "{bad:?}");
    }
    let mut truncated = stage.connect(0);
    truncated.start();
    truncated.client.write_all(&message(5, 16, &[])[..9]).unwrap();
    truncated.client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(truncated.is_reset());
    assert_eq!(stage.counter("messages_malformed"), 5);
    assert_eq!(other.say(true, &[&message(5, 16, &[])]), message(5, 16, &[]));
}

#[test]
fn a_server_that_gives_one_call_id_to_two_clients_has_the_second_call_refused() {
    if !can_run("a_server_that_gives_one_call_id_to_two_clients_has_the_second_call_refused") {
        return;
    }
    let stage = Stage::new(&[]);
    let (mut first, mut second) = (stage.connect(0), stage.connect(1));
    first.start();
    second.start();
    let live = first.call(7, 128);
    let asked = field12(&second.say(true, &[&call_request(7)]));
    second.server.write_all(&call_reply(128, asked)).unwrap();
    let (mut reply, mut clear) = ([0; 32], [0; 16]);
    second.client.read_exact(&mut reply).unwrap();
    second.server.read_exact(&mut clear).unwrap();
    assert_eq!(reply[..], message(8, 32, &[(14, &[0, 7]), (16, &[2, 4])]));
    assert_eq!(clear[..], message(12, 16, &[(12, &asked.to_be_bytes())]));
    assert_eq!(stage.counter("calls_pac_id_taken"), 1);
    let calls = stage.callgate.wait_calls(&stage.lab.gw, 1).unwrap();
    assert_eq!((calls[0].pns_call_id_outside, calls[0].pac_call_id), (Some(live), Some(128)));
    wait::until_true("the log names the server and the id", PATIENCE, || {
        let log = stage.callgate.log();
        Ok(log.lines().any(|line| line.contains(&format!("{}", server(0))) && line.contains("gave it Call ID 128")))
    })
    .unwrap();
    // The connection goes on: under another id the call comes about.
    second.call(7, 256);
    stage.callgate.wait_calls(&stage.lab.gw, 2).unwrap();
}

#[test]
fn a_slow_first_message_never_reaches_the_server_and_such_connections_are_limited() {
    if !can_run("a_slow_first_message_never_reaches_the_server_and_such_connections_are_limited") {
        return;
    }
    let stage = Stage::new(&["--half-open-per-client", "2", "--half-open-per-server", "3"]);
    let mut slow = stage.connect(0);
    slow.client.write_all(&start_request()[..155]).unwrap();
    let _second = stage.connect(0);
    let refused = |client: usize| {
        let connect = stage.lab.clients[client].within(|| TcpStream::connect((server(0), 1723))).unwrap();
        connect.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    assert!(refused(0), "a third of one client");
    let _third = stage.connect(1);
    assert!(refused(1), "a fourth of one server");
    let mut got = Vec::new();
    let error = slow.server.read_to_end(&mut got).unwrap_err();
    assert_eq!((error.kind(), got), (std::io::ErrorKind::ConnectionReset, vec![]));
    assert!(stage.counter("first_message_timeouts") >= 1);
    assert_eq!(stage.counter("connections_refused"), 2);
    wait::until_true("there is room again", PATIENCE, || Ok(!refused(1))).unwrap();
}

#[test]
fn several_calls_on_one_connection_incoming_ones_and_call_id_zero_work() {
    if !can_run("several_calls_on_one_connection_incoming_ones_and_call_id_zero_work") {
        return;
    }
    let stage = Stage::new(&[]);
    let mut pair = stage.connect(0);
    pair.start();
    let ids: Vec<u16> = [(0, 0), (1, 1), (2, 2)].map(|(pns, pac)| pair.call(pns, pac)).to_vec();
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    // The PAC's own id, and the PNS's as accel-ppp sends it.
    let notify = |id: u16| message(13, 148, &[(12, &id.to_be_bytes()), (14, &[4])]);
    assert_eq!(field12(&pair.say(false, &[&notify(1)])), 1);
    let by_pns = ids[2];
    let expected = if by_pns == 0 { 0 } else { 2 };
    assert_eq!(field12(&pair.say(false, &[&notify(by_pns)])), expected);
    // The same request again before its reply keeps its id; the PAC may reuse a live id of its own.
    let request = call_request(9);
    let (first, second) = (field12(&pair.say(true, &[&request])), field12(&pair.say(true, &[&request])));
    assert_eq!(first, second);
    pair.say(false, &[&call_reply(0, first)]);
    let calls = stage.callgate.wait_calls(&stage.lab.gw, 1).unwrap();
    assert_eq!((calls[0].pns_call_id, calls[0].pac_call_id), (Some(9), Some(0)));
    pair.say(false, &[&message(9, 220, &[(12, &[0, 50])])]);
    let answer = pair.say(true, &[&message(10, 24, &[(12, &[0, 10]), (14, &[0, 50]), (16, &[1])])]);
    pair.say(false, &[&message(11, 28, &[(12, &answer[12..14])])]);
    let calls = stage.callgate.wait_calls(&stage.lab.gw, 2).unwrap();
    assert!(calls.iter().any(|call| call.pac_call_id == Some(50) && call.pns_call_id == Some(10)), "{calls:?}");
}

#[test]
fn a_call_beyond_the_limit_is_refused_with_a_reply() {
    if !can_run("a_call_beyond_the_limit_is_refused_with_a_reply") {
        return;
    }
    let stage = Stage::new(&[]);
    let limited = CLASSIC.replace("echoTimeout: 180s,", "echoTimeout: 180s, maxCalls: 1,");
    put(&stage.callgate, &stage.lab.gw, "rules.yaml", &limited).unwrap();
    let mut pair = stage.connect(0);
    pair.start();
    pair.call(7, 1);
    pair.client.write_all(&call_request(8)).unwrap();
    let mut refusal = [0; 32];
    pair.client.read_exact(&mut refusal).unwrap();
    assert_eq!((field14(&refusal), refusal[9], refusal[16], refusal[17]), (8, 8, 7, 4));
    // The connection goes on, numbers shifted both ways.
    assert_eq!(pair.say(true, &[&message(5, 16, &[])]), message(5, 16, &[]));
    assert_eq!(pair.say(false, &[&message(6, 20, &[])]), message(6, 20, &[]));
}
