//! A succession of authorities, by a clock that the test moves.

use super::*;

fn at(hours: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
}

/// An authority of 300 hours, overlap 10 hours, leaves of 30 hours.
fn lifetimes() -> Lifetimes {
    let hours = SignedDuration::from_hours;
    Lifetimes { authority: hours(300), overlap: hours(10), leaf: hours(30) }
}

#[test]
fn a_successor_is_published_first_signs_later_and_the_old_one_is_trusted_until_its_end() {
    let first = Authority::new(at(0), lifetimes()).unwrap();
    assert_eq!(first.renewed(at(199), lifetimes()).unwrap(), None);
    let published = first.renewed(at(200), lifetimes()).unwrap().unwrap();
    assert_eq!((&published.current, published.next.is_some()), (&first.current, true));
    assert_eq!(published.bundle().matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(published.renewed(at(209), lifetimes()).unwrap(), None);
    let promoted = published.renewed(at(210), lifetimes()).unwrap().unwrap();
    assert_eq!(Some(&promoted.current), published.next.as_ref());
    assert_eq!((promoted.next.as_ref(), promoted.old.as_ref()), (None, Some(&first.current.cert)));
    assert_eq!(promoted.renewed(at(299), lifetimes()).unwrap(), None);
    let alone = promoted.renewed(at(300), lifetimes()).unwrap().unwrap();
    assert_eq!((alone.current, alone.old), (promoted.current, None));
}

#[test]
fn an_authority_that_ended_while_nobody_was_there_is_made_anew() {
    let first = Authority::new(at(0), lifetimes()).unwrap();
    let again = first.renewed(at(300), lifetimes()).unwrap().unwrap();
    assert!(again.current != first.current && again.next.is_none() && again.old.is_none());
}

#[test]
fn a_successor_signs_when_the_one_before_it_ended_while_nobody_was_there() {
    let published = Authority::new(at(0), lifetimes()).unwrap().renewed(at(200), lifetimes()).unwrap().unwrap();
    let again = published.renewed(at(301), lifetimes()).unwrap().unwrap();
    assert_eq!(again, Authority { current: published.next.clone().unwrap(), next: None, old: None });
    let late = published.renewed(at(500), lifetimes()).unwrap().unwrap();
    let before = [Some(&published.current), published.next.as_ref()];
    assert!(!before.contains(&Some(&late.current)) && late.next.is_none() && late.old.is_none(), "both have ended");
}

#[test]
fn an_overlap_that_does_not_end_before_the_authority_does_is_refused() {
    let check = |authority, overlap| {
        let of = SignedDuration::from_hours;
        Lifetimes { authority: of(authority), overlap: of(overlap), leaf: of(1) }.check()
    };
    assert_eq!(Lifetimes::default().check(), Ok(Lifetimes::default()));
    assert!(check(30, 9).is_ok());
    let told = "--ca-overlap 10h is too long for --ca-lifetime 30h: a successor is published when a third of the lifetime is left, and must sign before its end; write an overlap below 9h 55m";
    assert_eq!(check(30, 10), Err(told.to_owned()));
}

#[test]
fn a_leaf_is_due_after_two_thirds_of_its_life_and_when_another_authority_signs() {
    let authority = Authority::new(at(0), lifetimes()).unwrap();
    let leaf = authority.issue(&["callgate-operator".to_owned()], at(0), lifetimes()).unwrap();
    let due = |authority: &Authority, hour| authority.is_due(&leaf, &authority.current.cert, at(hour)).unwrap();
    assert_eq!([due(&authority, 0), due(&authority, 19), due(&authority, 20)], [false, false, true]);
    assert!(due(&authority, -1), "the clock has been set back");
    let other = Authority::new(at(0), lifetimes()).unwrap();
    assert!(other.is_due(&leaf, &authority.current.cert, at(0)).unwrap());
}

#[test]
fn a_leaf_does_not_outlive_its_authority() {
    let authority = Authority::new(at(0), lifetimes()).unwrap();
    let leaf = authority.issue(&["callgate-operator".to_owned()], at(290), lifetimes()).unwrap();
    assert_eq!(validity(&leaf.cert).unwrap().1, at(300));
}

#[test]
fn keys_are_not_printed() {
    let authority = Authority::new(at(0), lifetimes()).unwrap();
    assert!(!format!("{authority:?}").contains("PRIVATE KEY"));
}
