//! Octets as the program reads them, times as it writes them.

use super::*;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

fn up() -> (Key, Rule) {
    let rule = Rule {
        from_link: 5,
        to_link: 2,
        address: Replaced::Source(Ipv4Addr::new(192, 0, 2, 1)),
        call_id: 0x038b,
        next_hop: Ipv4Addr::new(192, 0, 2, 254),
        mtu: 1_500,
    };
    (Key::new(CLIENT, SERVER, 0x0133), rule)
}

#[test]
fn the_octets_are_those_the_program_reads() {
    let (key, rule) = up();
    let slot = Slot::default();
    slot.show(&key, &rule);
    slot.packets.store(3, Ordering::Relaxed);
    // SAFETY: a Slot is 64 octets without padding; they are read only.
    let octets: [u8; 64] = unsafe { std::mem::transmute(slot) };
    let expected = [
        [10, 0, 0, 2],
        [198, 51, 100, 9],
        [0x01, 0x33, 1, 0],
        [5, 0, 0, 0],
        [2, 0, 0, 0],
        [192, 0, 2, 1],
        [192, 0, 2, 254],
        [0x03, 0x8b, 0xdc, 0x05],
        [3, 0, 0, 0],
    ];
    assert_eq!(octets[..36], expected.concat());
    assert_eq!(octets[36..], [0; 28]);
}

#[test]
fn a_slot_gives_back_what_was_shown_and_nothing_once_it_is_hidden() {
    let (key, rule) = up();
    let down = Rule { address: Replaced::Destination(CLIENT), ..rule };
    let slot = Slot::default();
    assert_eq!((slot.key(), slot.is_taken()), (None, false));
    for rule in [rule, down] {
        slot.show(&key, &rule);
        assert_eq!((slot.key(), slot.entry(0).rule), (Some(key), rule));
        slot.hide();
        assert_eq!((slot.key(), slot.is_taken()), (None, false));
    }
}

#[test]
fn times_are_told_to_the_millisecond_also_when_the_programs_counter_has_begun_anew() {
    let day = 86_400_000_000_000;
    for now in [5_000_000_000, 40 * day, 53 * day, 120 * day] {
        for age in [0, 3_000_000, 600_000_000_000, 20 * day] {
            let at: u64 = if age < now { now - age } else { continue };
            let told = since_boot((at >> UNIT) as u32, now);
            assert!(at - told < 1 << UNIT, "{told} in place of {at}");
        }
    }
    assert_eq!(since_boot(0, 40 * day), 0, "never");
    // The program has looked at its clock after us.
    let now: u64 = 40 * day;
    assert_eq!(since_boot((now >> UNIT) as u32 + 2, now), now >> UNIT << UNIT);
}
