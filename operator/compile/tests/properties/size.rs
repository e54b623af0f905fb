//! A thousand rules and ten thousand pods.

use std::net::Ipv4Addr;

use callgate_compile::compile;
use callgate_compile::world::World;
use callgate_crds::Action;
use callgate_crds::fields::Cidr;
use callgate_proto::model::ObjectKey;

use super::worlds::{from_nets, from_pods, object, pod, rule, selector, tcp};

#[test]
fn ten_thousand_pods_under_a_thousand_rules_have_exactly_their_rules() {
    let mut world = World::standalone();
    world.services.insert(ObjectKey::new("pos", "web"), object(tcp("80")));
    // 900 rules for pods by shop, 99 for pods of every shop, each for a destination of its own, and one for networks.
    for number in 0..1000u32 {
        let source = match number {
            0..900 => from_pods(selector(&[("shop", &number.to_string())])),
            900..999 => from_pods(selector(&[("app", "till")])),
            _ => from_nets(&["10.0.0.0/9", "192.0.2.0/24"]),
        };
        let mut spec = rule(number, Action::Nat, source, &["web"]);
        spec.destination.cidrs = vec![Cidr(format!("203.{}.{}.0/24", number / 256, number % 256))];
        world.rules.insert(ObjectKey::new("pos", format!("rule-{number:04}")), object(spec));
    }
    for number in 0..10_000u32 {
        let address = Ipv4Addr::from(0x0a80_0000 + number);
        let labels = [("app", "till"), ("shop", &(number % 900).to_string()), ("pod", &number.to_string())];
        world.pods.insert(ObjectKey::new("pos", format!("till-{number:05}")), pod("here", address, &labels).into());
    }
    let compiled = compile(&world, None);
    let config = &compiled.nodes["standalone"];
    assert_eq!((config.rules.len(), config.services.len()), (1000, 1));
    // One chain a shop, and the one of the networks.
    assert_eq!((config.chains.len(), config.sources.len()), (901, 10_002));
    for block in config.sources.iter().filter(|block| block.net.prefix_len() == 32) {
        let shop = (u32::from(block.net.addr()) - 0x0a80_0000) % 900;
        let expected: Vec<u32> = std::iter::once(shop).chain(900..999).collect();
        assert_eq!(config.chains[block.chain as usize], expected);
    }
    assert!(compiled.statuses.values().all(|status| status.is_good()));
}
