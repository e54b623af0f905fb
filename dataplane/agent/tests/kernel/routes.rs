//! Route lookups and change notifications against the ip tool.

use std::net::Ipv4Addr;
use std::time::Duration;

use callgate_agent::netlink::{Change, Changes, Route, Routes};

use super::lab::{Lab, empty, index, root, sh};

#[test]
fn a_route_is_what_the_kernel_would_take() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let routes = Routes::open().unwrap();
    let out = |gateway: Option<[u8; 4]>, mtu| Route {
        source: Ipv4Addr::new(192, 0, 2, 1),
        ifindex: index("cg-out"),
        interface: "cg-out".into(),
        gateway: gateway.map(Ipv4Addr::from),
        mtu,
    };
    let to = |address: [u8; 4], mark| routes.route_to(Ipv4Addr::from(address), mark).unwrap();
    assert_eq!(to([192, 0, 2, 10], 0), Some(out(None, 1500)));
    assert_eq!(to([198, 51, 100, 10], 0), Some(out(Some([192, 0, 2, 10]), 1500)));
    sh("ip route add 203.0.113.0/24 via 192.0.2.10 mtu 1300 && ip route add blackhole 203.0.113.1");
    sh("ip route add unreachable 203.0.113.2 && ip route add prohibit 203.0.113.3");
    assert_eq!(to([203, 0, 113, 9], 0), Some(out(Some([192, 0, 2, 10]), 1300)));
    let nowhere =
        [[203, 0, 113, 1], [203, 0, 113, 2], [203, 0, 113, 3], [192, 0, 2, 1], [127, 0, 0, 1], [192, 0, 2, 255]];
    assert_eq!(nowhere.map(|address| to(address, 0)), [const { None }; 6]);
    // Policy routing by our mark is followed.
    sh("ip rule add fwmark 0x400000/0x400000 lookup 99 && ip route add default via 10.244.1.2 dev cg-a table 99");
    let by_mark = to([198, 51, 100, 10], 0x40_0000).unwrap();
    assert_eq!((by_mark.interface.as_str(), by_mark.source), ("cg-a", Ipv4Addr::new(10, 244, 1, 1)));
    sh("ip route del default");
    assert_eq!(to([198, 51, 100, 10], 0), None);
    drop(lab);
}

#[test]
fn what_comes_for_an_address_ends_here_where_the_host_has_it_or_a_blackhole_for_it_and_not_where_the_sender_is_told() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    let routes = Routes::open().unwrap();
    sh(
        "ip route add blackhole 203.0.113.1 && ip route add unreachable 203.0.113.2 && ip route add prohibit 203.0.113.3",
    );
    let ends = |address: [u8; 4]| routes.ends_here(Ipv4Addr::from(address)).unwrap();
    let known = [[192, 0, 2, 1], [203, 0, 113, 1], [203, 0, 113, 2], [203, 0, 113, 3], [198, 51, 100, 10]].map(ends);
    assert_eq!(known, [true, true, false, false, false]);
    sh("ip route del default");
    assert!(!ends([198, 51, 100, 10]));
}

#[test]
fn a_route_with_several_next_hops_has_a_link_for_each() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    let routes = Routes::open().unwrap();
    let links = |address: [u8; 4], mark| routes.next_hops_to(Ipv4Addr::from(address), mark).unwrap();
    assert_eq!(links([198, 51, 100, 10], 0), Vec::<u32>::new());
    sh("ip route replace default nexthop via 192.0.2.10 nexthop via 10.244.1.2 dev cg-a");
    sh("ip route add 203.0.113.0/24 via 192.0.2.10 && ip route add blackhole 203.0.113.1");
    let both = [index("cg-out"), index("cg-a")];
    assert_eq!(links([198, 51, 100, 10], 0), both);
    assert_eq!(
        [[203, 0, 113, 9], [203, 0, 113, 1], [127, 0, 0, 1]].map(|address| links(address, 0)),
        [const { Vec::<u32>::new() }; 3]
    );
    // Nexthop objects are shown in the same form, as long as nobody has switched that off.
    sh("ip nexthop add id 1 via 10.244.1.2 dev cg-a && ip nexthop add id 2 via 192.0.2.10 dev cg-out");
    sh(
        "ip nexthop add id 3 group 1/2 && ip rule add fwmark 0x400000/0x400000 lookup 99 && ip route add default nhid 3 table 99",
    );
    let mut by_mark = links([203, 0, 113, 9], 0x40_0000);
    by_mark.sort_unstable();
    assert_eq!(by_mark, {
        let mut both = both;
        both.sort_unstable();
        both
    });
    sh("ip route del default");
    assert_eq!(links([198, 51, 100, 10], 0), Vec::<u32>::new());
}

#[test]
fn changes_are_told_by_kind() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut changes = Changes::open().unwrap();
        let table = [
            // Each kind before one that brings it along: a later row could else be met by what an earlier one left.
            ("ip rule add fwmark 7 lookup 99", Change { routes: true, ..Change::default() }),
            ("ip route add 203.0.113.0/24 via 192.0.2.10", Change { routes: true, ..Change::default() }),
            ("ip addr add 192.0.2.77/32 dev cg-out", Change { addresses: true, ..Change::default() }),
            ("ip link set cg-b mtu 1400", Change { links: true, ..Change::default() }),
        ];
        for (command, wanted) in table {
            sh(command);
            // The kernel may tell more about one command (a local route beside an address): until what is wanted comes.
            let told = async {
                loop {
                    let change = changes.next().await.unwrap();
                    let has = (wanted.links && change.links)
                        || (wanted.addresses && change.addresses)
                        || (wanted.routes && change.routes);
                    if has {
                        return;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(10), told).await.unwrap_or_else(|_| panic!("{command}"));
        }
    });
}

#[test]
fn a_connection_stays_in_the_namespace_it_was_opened_in() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let routes = lab.a.run(|| Routes::open().unwrap());
    let route = routes.route_to(Ipv4Addr::new(198, 51, 100, 10), 0).unwrap().unwrap();
    assert_eq!((route.interface.as_str(), route.source), ("eth0", Ipv4Addr::new(10, 244, 1, 2)));
}

#[test]
fn lost_notifications_are_told_and_later_ones_still_come() {
    if !root() {
        return;
    }
    empty();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut changes = Changes::open().unwrap();
        // Nobody reads meanwhile, and the socket does not hold that many.
        sh("for n in $(seq 2000); do echo \"route add blackhole 203.0.$((n / 250)).$((n % 250))\"; done | ip -batch -");
        let told = async {
            while !changes.next().await.unwrap().lost {}
            // Until what waited is read, the kernel drops more without a word. No link has changed before.
            for mtu in 1400.. {
                sh(&format!("ip link set lo mtu {mtu}"));
                match tokio::time::timeout(Duration::from_millis(100), changes.next()).await {
                    Ok(change) if change.clone().unwrap().links => return,
                    Ok(_) | Err(_) => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    });
}
