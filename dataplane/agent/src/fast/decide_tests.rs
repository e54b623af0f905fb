//! Decisions about the fast path, as whole values.

use callgate_pptp::IdPair;

use super::super::layout::Meter;
use super::*;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const INSIDE: Way = Way { link: 5, next_hop: CLIENT, mtu: 1_450 };
const OUTSIDE: Way = Way { link: 2, next_hop: ROUTER, mtu: 1_500 };

fn path(pns: u16) -> CallPath {
    CallPath {
        client: CLIENT,
        external: EXTERNAL,
        server: SERVER,
        pns: IdPair { client: pns, server: 40_000 + pns },
        pac: IdPair { client: 300 + pns, server: 900 + pns },
    }
}

fn entry(rule: Rule, packets: u64) -> Entry {
    Entry { rule, meter: Meter { packets, ..Meter::default() } }
}

fn found(paths: &[CallPath]) -> BTreeMap<Key, Entry> {
    paths.iter().flat_map(|path| rules(path, &INSIDE, &OUTSIDE)).map(|(key, rule)| (key, entry(rule, 7))).collect()
}

#[test]
fn each_direction_is_keyed_by_what_comes_in_and_says_what_goes_out() {
    let (source, destination) = (Replaced::Source(EXTERNAL), Replaced::Destination(CLIENT));
    let up = Rule { from_link: 5, to_link: 2, address: source, call_id: 907, next_hop: ROUTER, mtu: u16::MAX };
    let down = Rule { from_link: 2, to_link: 5, address: destination, call_id: 7, next_hop: CLIENT, mtu: 1_450 };
    let expected = [(Key::new(CLIENT, SERVER, 307), up), (Key::new(SERVER, EXTERNAL, 40_007), down)];
    // On a loopback link packets may be longer than any that there are.
    assert_eq!(rules(&path(7), &INSIDE, &Way { mtu: 70_000, ..OUTSIDE }), expected);
}

#[test]
fn what_a_run_before_left_of_live_calls_is_kept_and_everything_else_goes() {
    let mut there = found(&[path(1), path(2), path(3)]);
    // The second call's way down is gone; the third has ended; somebody else has a key of the fourth.
    let [up, down] = keys(&path(2));
    there.remove(&down);
    let [(foreign, _), _] = rules(&path(4), &INSIDE, &OUTSIDE);
    there.insert(foreign, entry(rules(&path(9), &INSIDE, &OUTSIDE)[0].1, 1));
    let adoption = adopt(&[path(1), path(2), path(4)].into(), &there);
    let kept = keys(&path(1)).map(|key| there[&key]);
    let mut remove = [vec![up, foreign], keys(&path(3)).to_vec()].concat();
    remove.sort();
    assert_eq!(adoption, Adoption { remove, keep: [(path(1), kept)].into() });
}

#[test]
fn two_calls_with_one_way_up_do_not_both_keep_it() {
    let other = CallPath { pns: IdPair { client: 8, server: 40_008 }, ..path(7) };
    let there = found(&[path(7), other]);
    let adoption = adopt(&[path(7), other].into(), &there);
    assert_eq!(adoption.keep.keys().copied().collect::<Vec<_>>(), [path(7)]);
    assert_eq!(adoption.remove, [keys(&other)[1]]);
}

#[test]
fn the_program_is_taken_from_where_no_calls_come_in_any_more() {
    assert_eq!(superfluous(&[2, 5].into(), &[2, 7, 9].into(), &[9].into()), [7]);
    assert_eq!(superfluous(&[2].into(), &[2].into(), &[].into()), [0; 0]);
}
