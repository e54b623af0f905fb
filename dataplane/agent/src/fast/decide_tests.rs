//! Decisions about the fast path, as whole values.

use callgate_pptp::IdPair;

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
    let expected = [
        (Key::new(CLIENT, SERVER, 307), Rule::new((5, 2), (EXTERNAL, SERVER), 907, ROUTER, 1_500)),
        (Key::new(SERVER, EXTERNAL, 40_007), Rule::new((2, 5), (SERVER, CLIENT), 7, CLIENT, 1_450)),
    ];
    assert_eq!(rules(&path(7), &INSIDE, &OUTSIDE), expected);
}

#[test]
fn the_octets_are_those_the_program_reads() {
    let [(key, rule), _] = rules(&path(7), &INSIDE, &Way { mtu: 70_000, ..OUTSIDE });
    // SAFETY: Key has no padding; its octets are read only.
    let octets: [u8; 12] = unsafe { std::mem::transmute(key) };
    assert_eq!(octets, [10, 0, 0, 2, 198, 51, 100, 9, 0x01, 0x33, 0, 0]);
    // SAFETY: Rule has no padding; its octets are read only.
    let octets: [u8; 24] = unsafe { std::mem::transmute(rule) };
    let expected = [5, 0, 0, 0, 2, 0, 0, 0, 192, 0, 2, 1, 198, 51, 100, 9, 192, 0, 2, 254, 0x03, 0x8b, 0xff, 0xff];
    assert_eq!(octets, expected);
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
fn a_changed_way_is_written_with_what_was_counted_and_an_unchanged_one_is_not() {
    let [(_, here), _] = rules(&path(7), &INSIDE, &OUTSIDE);
    let [(_, there), _] = rules(&path(7), &INSIDE, &Way { link: 3, ..OUTSIDE });
    assert_eq!(write(here, Some(&entry(here, 5))), None);
    assert_eq!(write(there, Some(&entry(here, 5))), Some(entry(there, 5)));
    assert_eq!(write(here, None), Some(entry(here, 0)));
}

#[test]
fn the_program_is_taken_from_where_no_calls_come_in_any_more() {
    assert_eq!(superfluous(&[2, 5].into(), &[2, 7, 9].into(), &[9].into()), [7]);
    assert_eq!(superfluous(&[2].into(), &[2].into(), &[].into()), [0; 0]);
}
