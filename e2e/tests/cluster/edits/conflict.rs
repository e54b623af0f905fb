//! Two rules that match the same in the same order: the loser says who won, and takes over when the winner goes.

use std::net::{Ipv4Addr, SocketAddrV4};

use callgate_e2e::cluster::addresses;
use callgate_e2e::cluster::inside::{Inside, Opening, Shot};
use callgate_e2e::cluster::sight::Sight;
use callgate_e2e::lab::topology::server_address;

use super::super::ground::Ground;

fn rule(name: &str, action: &str) -> String {
    format!(
        "---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {{name: {name}, namespace: conflict}}
spec: {{order: 7, action: {action}, source: {{podSelector: {{matchLabels: {{app: till}}}}}}, services: [{{name: http}}]}}
"
    )
}

const GOOD: [&str; 3] = [
    "Accepted=True(Accepted) 1: Valid.",
    "Programmed=True(Programmed) 1: In force on every node that must run it.",
    "ResolvedRefs=True(ResolvedRefs) 1: Everything it names exists.",
];

fn lost(to: &str) -> [String; 3] {
    [
        format!(
            "Accepted=False(Conflicted) 1: spec.order: IpRule conflict/{to} has the same order 7 and matches exactly the same, and won: give them different orders, or delete one."
        ),
        "Programmed=False(NotAccepted) 1: See the condition Accepted.".to_owned(),
        "ResolvedRefs=True(ResolvedRefs) 1: Everything it names exists.".to_owned(),
    ]
}

/// Under whose address a new flow to port 80 leaves.
fn leaves(sight: &Sight, from: &Inside, token: u32, expected: bool) -> Option<Ipv4Addr> {
    let shot = Shot { opening: Opening::Tcp, to: SocketAddrV4::new(server_address(0), 80), token };
    from.send(shot).unwrap();
    sight.sources(&[(shot, expected)])[0]
}

#[test]
fn of_two_equal_rules_the_loser_says_who_won_and_takes_over_when_the_winner_goes() {
    let test = "of_two_equal_rules_the_loser_says_who_won_and_takes_over_when_the_winner_goes";
    let Some(ground) = Ground::get(test, "conflict") else { return };
    let pod = ground.pod("a", "n1", "till");
    let sight = Sight::start(ground.shared.cluster()).unwrap();
    let node = Some(addresses::node(0));

    ground.apply(&rule("first", "NAT"));
    ground.becomes("iprule/first", &GOOD);
    assert_eq!(leaves(&sight, &pod, 1, true), node);

    // Made in the same second it comes later by its name, made later it comes later by its time.
    ground.apply(&rule("second", "Drop"));
    let of_first = lost("first");
    let told = ground.becomes("iprule/second", &of_first.each_ref().map(String::as_str));
    assert_eq!(ground.conditions("iprule/first"), GOOD, "the winner has nothing to say");
    assert_eq!(leaves(&sight, &pod, 2, true), node);

    ground.k("delete iprule first");
    let taken = ground.becomes("iprule/second", &GOOD);
    assert_eq!(leaves(&sight, &pod, 3, false), None);

    // Younger now, although its name comes first. Times of creation have whole seconds.
    let born = ground.k("get iprule second -o jsonpath={.metadata.creationTimestamp}");
    let mut again = born.clone();
    while again == born {
        ground.apply(&rule("first", "NAT"));
        again = ground.k("get iprule first -o jsonpath={.metadata.creationTimestamp}");
        if again == born {
            ground.k("delete iprule first");
        }
    }
    let of_second = lost("second");
    ground.becomes("iprule/first", &of_second.each_ref().map(String::as_str));
    assert_eq!(leaves(&sight, &pod, 4, false), None);
    println!("the loser knew after {told:?}, and took over after {taken:?}");
    ground.end();
}
