//! The table in ordinary memory: what is put is found, and nothing else.

use std::net::Ipv4Addr;

use super::super::layout::Replaced;
use super::*;

const SEED: u64 = 0x1234_5678_9abc_def0;
const NOW: u64 = 5_000_000_000;

fn memory(keys: u32) -> Vec<Slot> {
    (0..buckets(keys) as usize * SLOTS).map(|_| Slot::default()).collect()
}

fn table(keys: u32) -> Table<Vec<Slot>> {
    Table::open(memory(keys), SEED, keys).unwrap()
}

fn key(number: u32) -> Key {
    Key::new(Ipv4Addr::from_bits(0x0a00_0000 + (number >> 12)), Ipv4Addr::new(198, 51, 100, 9), number as u16)
}

fn rule(number: u32) -> Rule {
    Rule {
        from_link: number,
        to_link: 2,
        address: match number % 2 {
            0 => Replaced::Source(Ipv4Addr::from_bits(number)),
            _ => Replaced::Destination(Ipv4Addr::from_bits(number)),
        },
        call_id: number as u16,
        next_hop: Ipv4Addr::new(192, 0, 2, 1),
        mtu: 1_500,
    }
}

fn entry(number: u32) -> Entry {
    Entry { rule: rule(number), meter: Meter::default() }
}

#[test]
fn what_is_put_is_there_until_it_is_removed_whatever_else_comes_and_goes() {
    // Small, so that buckets fill up.
    let (mut table, mut expected) = (table(64), BTreeMap::new());
    let mut random = SEED;
    for _ in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (number, what) = ((random >> 33) as u32 % 100, (random >> 60) as u32);
        match what % 3 {
            0 => {
                let gone = table.remove(&key(number), NOW);
                assert_eq!(gone, expected.remove(&key(number)).map(|entry: Entry| entry.meter));
            }
            // The same key by one rule and by another.
            _ => {
                let rule = rule(number + 200 * (what & 1));
                match table.put(&key(number), &rule) {
                    Ok(()) => drop(expected.insert(key(number), Entry { rule, meter: Meter::default() })),
                    Err(Full) => assert!(expected.len() == 64 && !expected.contains_key(&key(number))),
                }
            }
        }
        assert_eq!(table.get(&key(number), NOW), expected.get(&key(number)).copied());
    }
    assert_eq!(table.all(NOW), expected);
    assert_eq!(table.used, expected.len());
}

#[test]
fn a_full_map_has_room_for_all_it_promises_and_nearly_all_are_found_where_the_search_begins() {
    let mut table = table(1 << 17);
    let count = 1 << 17;
    (0..count).for_each(|number| table.put(&key(number), &rule(number)).unwrap());
    assert_eq!(table.put(&key(count), &rule(count)), Err(Full));
    let searched: Vec<usize> = (0..count)
        .map(|number| table.places(&key(number)).position(|slot| slot.holds(&key(number))).unwrap())
        .collect();
    let within = |slots: usize| searched.iter().filter(|at| **at < slots).count() as f64 / f64::from(count);
    // Half full, as it is at most.
    assert!(within(1) > 0.7 && within(2) > 0.85 && within(SLOTS) > 0.95, "{} {} {}", within(1), within(2), within(8));
}

#[test]
fn the_next_run_finds_what_is_there_by_the_seed_of_the_one_that_made_it() {
    let mut before = table(64);
    before.put(&key(7), &rule(7)).unwrap();
    before.put(&key(8), &rule(8)).unwrap();
    let after = Table::open(before.memory, 99, 64).unwrap();
    assert_eq!((after.reading().seed, after.used), (SEED | 1, 2));
    assert_eq!(after.all(NOW), [(key(7), entry(7)), (key(8), entry(8))].into());
    assert_eq!(after.get(&key(8), NOW), Some(entry(8)));
}

#[test]
fn counting_goes_on_under_another_rule_and_begins_anew_in_a_slot_that_was_another_keys() {
    let mut table = table(4);
    table.put(&key(7), &rule(7)).unwrap();
    table.find(&key(7)).unwrap().packets.store(5, Ordering::Relaxed);
    table.put(&key(7), &rule(8)).unwrap();
    let counted = Meter { packets: 5, ..Meter::default() };
    assert_eq!(table.get(&key(7), NOW), Some(Entry { rule: rule(8), meter: counted }));
    assert_eq!(table.remove(&key(7), NOW), Some(counted));
    table.put(&key(7), &rule(7)).unwrap();
    assert_eq!(table.get(&key(7), NOW), Some(entry(7)));
}

#[test]
fn memory_that_is_no_table_is_refused() {
    let of = |slots: usize| (0..slots).map(|_| Slot::default()).collect::<Vec<_>>();
    assert_eq!(Table::open(of(0), SEED, 1).err(), Some("the map has no room".to_owned()));
    assert_eq!(Table::open(of(24), SEED, 1).err(), Some("a map of 24 slots is not ours".to_owned()));
    // Made when it had another size.
    let mut slots = table(4).memory;
    slots.extend(of(slots.len()));
    assert_eq!(Table::open(slots, SEED, 1).err(), Some("the map's header is not ours".to_owned()));
}
