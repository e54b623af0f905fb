//! The demo: what an ordinary NAT does to two PPTP clients of one server, and what Callgate does.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;

use crate::gateway::baseline;
use crate::gateway::callgate::{CLASSIC, Callgate};
use crate::lab::ping::{self, Pinged};
use crate::lab::topology::{EXTERNAL, Lab, client_address, server_address};
use crate::peers::pptp_client::{Link, PptpClient};
use crate::peers::pptpd::Pptpd;

/// Pings of each look: five a second.
const LOOK: Duration = Duration::from_secs(4);
/// How long a tunnel may take to come up.
const UP: Duration = Duration::from_secs(20);
/// The Call ID that A picks.
const CALL_ID: u16 = 4711;

/// Tells the story; whether it went as it should.
///
/// # Errors
/// If the lab cannot be built or a program does not start.
pub fn run() -> anyhow::Result<bool> {
    println!(
        "Callgate: two machines behind one address call the same PPTP server
====================================================================
PPTP is an old kind of VPN that tills, meters and plants still use. It first agrees on a call over TCP
(port 1723), then sends the data in GRE packets. GRE has no ports. All that tells two calls apart is a
number, the Call ID, and each client picks its own.

  A {} ──┐
                ├── gateway, outside as {EXTERNAL} ──── internet ──── server C {}
  B {} ──┘

All of it is real: pptp-linux, pptpd, this kernel. It lives in network namespaces made for the demo.
",
        client_address(0),
        server_address(0),
        client_address(1),
    );
    let lab = Lab::new(2, 1).context("building the lab")?;
    let server = Pptpd::start(&lab.servers[0], 0)?;
    for (index, node) in lab.clients.iter().enumerate() {
        node.force_call_id(CALL_ID + index as u16)?;
    }
    let without = ordinary_nat(&lab)?;
    server.stop(&lab.servers[0])?;
    baseline::clear(&lab.gw)?;
    let server = Pptpd::start(&lab.servers[0], 0)?;
    let with = callgate(&lab)?;
    drop(server);
    drop(lab);
    println!();
    match (without, with) {
        (true, true) => {
            println!(
                "Without Callgate the second tunnel killed the first. With Callgate both live. All is removed again."
            );
        }
        (false, _) => println!("Unexpected: the ordinary NAT did not fail as it should; see above."),
        (true, false) => println!("Unexpected: a tunnel through Callgate lost packets; see above."),
    }
    Ok(without && with)
}

/// Act 1. Whether it fails as such NATs do.
fn ordinary_nat(lab: &Lab) -> anyhow::Result<bool> {
    println!("1. An ordinary NAT, which knows GRE by address only");
    println!("   (the kernel's plain masquerade is worse still: it carries no PPTP at all)\n");
    baseline::gre_by_address(&lab.gw)?;
    let mut dialled: Vec<(PptpClient, Link)> = Vec::new();
    let mut last = Vec::new();
    for (index, node) in lab.clients.iter().enumerate() {
        baseline::gre_goes_to(&lab.gw, server_address(0), client_address(index))?;
        let client = dial(lab, index)?;
        let link = client.wait_up(node, UP)?;
        dialled.push((client, link));
        last = look(lab, dialled.iter().map(|(_, link)| link.remote))?;
    }
    println!("   The server's packets to {EXTERNAL} all go to whoever called last. A was cut off by B.\n");
    for (client, _) in &mut dialled {
        client.hang_up()?;
    }
    Ok(last.iter().map(Pinged::loss_percent).collect::<Vec<_>>() == [100, 0])
}

/// Act 2. Whether both live.
fn callgate(lab: &Lab) -> anyhow::Result<bool> {
    println!("2. Callgate, with these three objects. To make it harder, A and B now both pick Call ID {CALL_ID}\n");
    for node in &lab.clients {
        node.force_call_id(CALL_ID)?;
    }
    for line in CLASSIC.trim().lines() {
        println!("   {line}");
    }
    println!();
    let mut callgate = Callgate::start(&lab.gw, &CLASSIC)?;
    let mut dialled: Vec<(PptpClient, Link)> = Vec::new();
    let mut last = Vec::new();
    for (index, node) in lab.clients.iter().enumerate() {
        let client = dial(lab, index)?;
        let link = client.wait_up(node, UP)?;
        dialled.push((client, link));
        last = look(lab, dialled.iter().map(|(_, link)| link.remote))?;
    }
    println!("\n   $ kubectl-callgate calls");
    for line in callgate.kubectl(&lab.gw, &["calls"])?.lines() {
        println!("   {line}");
    }
    println!(
        "\n   Both clients still call themselves {CALL_ID}. Towards the server each has a number of its own, and Callgate\n   rewrites it in the conversation and in every packet."
    );
    println!("\n   Now Callgate itself is killed (kill -9) and started again, while A and B go on:\n");
    callgate.kill9();
    callgate.run(&lab.gw)?;
    let after = look(lab, dialled.iter().map(|(_, link)| link.remote))?;
    for (client, _) in &mut dialled {
        client.hang_up()?;
    }
    callgate.stop()?;
    last.extend(after);
    Ok(last.len() == 4 && last.iter().all(|pinged| pinged.loss_percent() == 0))
}

fn dial(lab: &Lab, index: usize) -> anyhow::Result<PptpClient> {
    println!("   {} dials", letter(index));
    PptpClient::dial(&lab.clients[index], server_address(0))
}

/// Pings the server through each tunnel at the same time, and says what came back.
fn look(lab: &Lab, remotes: impl Iterator<Item = Ipv4Addr>) -> anyhow::Result<Vec<Pinged>> {
    let pinged = ping::all(lab.clients.iter().zip(remotes), LOOK)?;
    for (index, Pinged { sent, received }) in pinged.iter().enumerate() {
        let verdict = match (*received, *sent) {
            (0, _) => "dead",
            (received, sent) if received == sent => "live",
            _ => "losing packets",
        };
        println!("     {} pings through its tunnel: {received:>2} of {sent} came back   {verdict}", letter(index));
    }
    Ok(pinged)
}

fn letter(index: usize) -> char {
    char::from(b'A' + index as u8)
}
