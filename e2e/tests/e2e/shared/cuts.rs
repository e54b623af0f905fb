//! The client leg's messages split at every octet and glued in pairs: the same calls, and whole messages towards the server.

use std::io::Write as _;

use callgate_e2e::gateway::callgate::Callgate;
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::control::{call_request, message, start_request};
use callgate_e2e::lab::topology::Lab;
use callgate_pptp::wire::control::{field12, field14};

use super::super::support::{can_run, server, whole_messages};
use super::client::{Client, give_addresses};
use super::manifests;
use super::server::{Second, Server, read_message};

/// A session in which each message of a client occurs once or more. The client writes `cut(message)` pieces; what it hears,
/// with the PAC's ids by their order.
fn session(lab: &Lab, mut write: impl FnMut(&mut Client, &[u8])) -> Vec<(u8, u16, u8)> {
    let mut client = Client::connect(&lab.clients[0], 0).unwrap();
    let mut heard = Vec::new();
    let mut hear = |client: &mut Client| {
        let said = read_message(&mut client.stream).unwrap();
        let pac = field12(&said);
        let about = if said[9] == 8 { field14(&said) } else { 0 };
        heard.push((said[9], about, if said.len() > 16 { said[16] } else { 0 }));
        pac
    };
    write(&mut client, &start_request());
    hear(&mut client);
    write(&mut client, &call_request(7));
    let pac = hear(&mut client).to_be_bytes();
    write(&mut client, &message(15, 24, &[(12, &pac), (16, &[0xff; 8])]));
    write(&mut client, &message(5, 16, &[(12, b"ping")]));
    hear(&mut client);
    write(&mut client, &call_request(8));
    hear(&mut client);
    write(&mut client, &message(12, 16, &[(12, &[0, 7])]));
    hear(&mut client);
    write(&mut client, &message(3, 16, &[(12, &[1])]));
    hear(&mut client);
    heard
}

#[test]
fn clients_messages_split_at_every_octet_or_glued_give_the_same_calls_and_whole_messages_to_the_server() {
    let name = "clients_messages_split_at_every_octet_or_glued_give_the_same_calls_and_whole_messages_to_the_server";
    if !can_run(name) {
        return;
    }
    let lab = Lab::new(1, 1).unwrap();
    give_addresses(&lab.clients[0], 1);
    let callgate = Callgate::start(&lab.gw, &manifests("Shared")).unwrap();
    let scripted = Server::start(&lab.servers[0], 65_535, Second::Serve);
    let at_server = Capture::start(&lab.servers[0], "eth0").unwrap();
    let whole = session(&lab, |client, bytes| client.stream.write_all(bytes).unwrap());
    assert_eq!(whole.iter().map(|heard| heard.0).collect::<Vec<_>>(), [2, 8, 6, 8, 13, 4]);
    for at in 1..168 {
        let split = session(&lab, |client, bytes| {
            let at = at.min(bytes.len() - 1);
            client.stream.write_all(&bytes[..at]).unwrap();
            client.stream.write_all(&bytes[at..]).unwrap();
        });
        assert_eq!(split, whole, "split at {at}");
    }
    let octets = session(&lab, |client, bytes| {
        bytes.chunks(1).for_each(|octet| client.stream.write_all(octet).unwrap());
    });
    assert_eq!(octets, whole);
    // Every pair of what may follow one another without an answer in between.
    let clear = |pns: u8| message(12, 16, &[(12, &[0, pns])]);
    let echo = message(5, 16, &[(12, b"ping")]);
    let pairs = [
        (start_request(), call_request(1)),
        (start_request(), echo.clone()),
        (call_request(1), call_request(2)),
        (call_request(1), echo.clone()),
        (echo.clone(), call_request(1)),
        (call_request(1), clear(1)),
        (clear(1), call_request(1)),
        (clear(1), message(3, 16, &[(12, &[1])])),
        (call_request(1), message(3, 16, &[(12, &[1])])),
    ];
    for (first, second) in pairs {
        let outcome = |glued: bool| {
            let mut client = Client::connect(&lab.clients[0], 0).unwrap();
            if first[9] != 1 {
                assert_eq!(client.start().unwrap(), 1);
            }
            if first[9] == 12 {
                client.call(1).unwrap();
            }
            if glued {
                client.stream.write_all(&[&first[..], &second[..]].concat()).unwrap();
            } else {
                client.stream.write_all(&first).unwrap();
                client.stream.write_all(&second).unwrap();
            }
            let mut kinds = Vec::new();
            // The last word of each: what comes before Stop-Control-Connection-Reply, or the answer to an Echo-Request.
            client.stream.write_all(&message(5, 16, &[(12, b"last")])).unwrap();
            while let Ok(said) = read_message(&mut client.stream) {
                if said[9] == 6 && said[12..16] == *b"last" {
                    break;
                }
                kinds.push(said[9]);
            }
            kinds.sort_unstable();
            kinds.retain(|kind| *kind == 2 || *kind == 4 || *kind == 6);
            kinds
        };
        assert_eq!(outcome(true), outcome(false), "{} and {}", first[9], second[9]);
    }
    let messages = whole_messages(&at_server.stop().unwrap(), server(0));
    assert_eq!(scripted.connections().0, 1);
    assert!(messages > 168 * 3, "{messages} messages");
    drop(callgate);
}
