//! A kernel without parts of nftables (`--without`): everything that does not need them works, and what does says what it lacks.

use std::net::SocketAddrV4;

use callgate_e2e::lab::topology::{EXTERNAL, client_address, server_address};
use callgate_e2e::traffic::manifests::{Status, document, put, rule};
use callgate_e2e::traffic::probe::{self, Seen};
use callgate_e2e::traffic::servers::Servers;

use super::shared;
use super::support::{LOOK, Scene, can_run};

const LACKS: &str = "connection-limits,logging,sockets,timeouts";

/// What needs something beside what needs nothing.
fn objects() -> String {
    let from = format!("{}/32", client_address(0));
    shared::manifests("Shared")
        + &document(
            "Service",
            "limited",
            "protocol: TCP, destinationPorts: \"80\", maxSessions: 1, timeouts: {established: 60s}",
        )
        + &document("Service", "plain", "protocol: TCP, destinationPorts: \"81\", maxSessions: 0")
        + &rule("limited", 10, "NAT", &from, "cidrs: [0.0.0.0/0]", &["limited"])
        + &rule("plain", 20, "NAT", &from, "cidrs: [0.0.0.0/0]", &["plain"])
}

/// What needs something, what needs nothing, and what goes by the ALG.
const OBJECTS: [(&str, &str); 6] = [
    ("IpRule", "limited"),
    ("Service", "limited"),
    ("IpRule", "plain"),
    ("Service", "plain"),
    ("IpRule", "tills-to-head-office"),
    ("PptpAlg", "pptp"),
];

/// Condition `Programmed` of each of `OBJECTS`.
fn programmed(scene: &Scene) -> [String; 6] {
    let status = Status::of(&scene.callgate, &scene.lab.gw).unwrap();
    OBJECTS.map(|(kind, name)| status.reason((kind, "pos", name), "Programmed").unwrap_or_default())
}

#[test]
fn on_a_kernel_that_lacks_parts_of_nftables_everything_else_works_and_objects_say_what_they_lack() {
    if !can_run("on_a_kernel_that_lacks_parts_of_nftables_everything_else_works_and_objects_say_what_they_lack") {
        return;
    }
    let mut scene = Scene::with_flags(2, 1, &objects(), &["--without", LACKS]);
    let _web = Servers::start(&scene.lab.servers[0], &[80, 81], &[]).unwrap();
    let (whole, short) = ("Programmed", "ApplyFailed");
    assert_eq!(programmed(&scene), [short, short, whole, whole, short, short]);
    let said = Status::of(&scene.callgate, &scene.lab.gw).unwrap().says();
    let lacks = "PptpAlg/pos/pptp: ApplyFailed: in force, but not all of it, as this kernel lacks something: controlConnection Shared and \
                 Auto are carried out as PerClient (load modules nft_socket and nft_tproxy); the agent finds what was loaded when it starts anew";
    assert!(said.iter().any(|line| line == lacks), "{said:#?}");
    let table = scene.lab.gw.run("nft", &["list", "table", "ip", "callgate"]).unwrap();
    for part in ["ct count", "log prefix", "ct timeout", "tproxy"] {
        assert!(!table.contains(part), "{part} in\n{table}");
    }
    // Two at once, of one that is allowed: the limit is what is missing, not the rule.
    for port in [80, 80, 81] {
        let to = SocketAddrV4::new(server_address(0), port);
        assert_eq!(probe::tcp(&scene.lab.clients[0], to).unwrap(), Seen::From(EXTERNAL), "{port}");
    }
    // Each client has a control connection of its own.
    let links = scene.dial_all();
    scene.all_live(&links, LOOK);
    assert_eq!(scene.callgate.connections(&scene.lab.gw).unwrap(), 2);
    // Later edits take effect, also where they need what is missing.
    let logged = objects().replace("order: 20,", "order: 20, log: true,");
    assert_ne!(logged, objects());
    put(&scene.callgate, &scene.lab.gw, "rules.yaml", &logged).unwrap();
    assert_eq!(programmed(&scene), [short, short, short, whole, short, short]);
    scene.all_live(&links, LOOK);
    // The modules are there, and the agent starts anew.
    scene.callgate.kill9();
    scene.callgate.replace_flags(&[]);
    scene.callgate.run(&scene.lab.gw).unwrap();
    assert_eq!(programmed(&scene), [whole; 6]);
    scene.callgate.stop().unwrap();
}
