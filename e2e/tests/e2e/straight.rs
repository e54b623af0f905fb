//! Much GRE without the fast path: handed straight to its neighbour, who may have another address all of a sudden.

use std::time::Duration;

use callgate_e2e::bench::bed::{Bed, Kind};
use callgate_e2e::wait;

use super::support::can_run;

/// Packets a millisecond: more than few, and a ring has room for two seconds of them.
const STEADY: usize = 2;

fn straight(bed: &Bed) -> u64 {
    bed.site().callgate.as_ref().unwrap().counter(&bed.site().gw, "tx_straight").unwrap()
}

#[test]
fn gre_of_busy_calls_goes_straight_to_its_neighbour_and_follows_it_to_another_address() {
    if !can_run("gre_of_busy_calls_goes_straight_to_its_neighbour_and_follows_it_to_another_address") {
        return;
    }
    let mut bed = Bed::build_unmeasured(Kind::Slow).unwrap();
    bed.set_up(10, 1).unwrap();
    assert_eq!((bed.steady(STEADY, Duration::from_millis(5)).unwrap().0 < 128, straight(&bed)), (true, 0));
    let (sent, arrived) = bed.steady(STEADY, Duration::from_millis(2_500)).unwrap();
    let by_neighbour = straight(&bed);
    println!("{sent} packets sent, {arrived} arrived translated, {by_neighbour} of them straight");
    assert!(sent == arrived && by_neighbour > sent / 2, "{sent} sent, {arrived} arrived, {by_neighbour} straight");
    // A neighbour that says so itself: what a link does that takes over somebody's address.
    let client = &bed.site().client;
    client.sysctl("net/ipv4/conf/eth0/arp_notify", "1").unwrap();
    client.ip("link set eth0 address 02:00:00:00:00:77").unwrap();
    let whole = wait::until("all packets arrive at the new address", Duration::from_secs(20), || {
        let (sent, arrived) = bed.steady(STEADY, Duration::from_millis(400))?;
        Ok((sent == arrived).then_some(sent))
    });
    assert!(whole.unwrap() > 128 && straight(&bed) > by_neighbour);
}
