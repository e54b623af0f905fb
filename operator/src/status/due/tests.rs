//! Who is written next, and when again.

use callgate_crds::Kind;
use callgate_proto::model::ObjectKey;

use super::*;

fn rule(name: &str) -> Target {
    Target::Object(ObjectRef { kind: Kind::IpRule, key: ObjectKey::new("pos", name) })
}

/// A queue and a clock in milliseconds.
struct Case {
    due: Due,
    begin: Instant,
    now: Instant,
}

impl Case {
    fn new() -> Self {
        let begin = Instant::now();
        Self { due: Due::default(), begin, now: begin }
    }

    fn at(&mut self, ms: u64) {
        self.now = self.begin + Duration::from_millis(ms);
    }

    fn put(&mut self, rank: Rank, target: Target) {
        self.due.put(rank, target, self.now, self.now);
    }

    fn take(&mut self) -> Option<Target> {
        self.due.take(self.now)
    }

    fn failed(&mut self, target: Target, trouble: Trouble) {
        self.due.failed(Rank::Object, target, trouble, self.now);
    }

    /// When something may be to be taken, milliseconds.
    fn wake(&self) -> Option<u128> {
        self.due.wake(self.now).map(|at| (at - self.begin).as_millis())
    }
}

#[test]
fn what_somebody_has_edited_goes_first_then_objects_then_nodes_and_last_what_only_counts() {
    let mut case = Case::new();
    case.put(Rank::Counters, rule("b"));
    case.put(Rank::Node, Target::Node("a".to_owned()));
    case.put(Rank::Object, rule("a"));
    case.put(Rank::Unobserved, rule("z"));
    let order: Vec<Target> = std::iter::from_fn(|| case.take()).collect();
    assert_eq!(order, [rule("z"), rule("a"), Target::Node("a".to_owned()), rule("b")]);
}

#[test]
fn who_has_waited_longest_goes_first_and_whoever_was_written_goes_behind_the_others() {
    let mut case = Case::new();
    case.put(Rank::Counters, rule("b"));
    case.put(Rank::Counters, rule("a"));
    case.put(Rank::Counters, rule("b"));
    assert_eq!(case.take(), Some(rule("b")));
    case.due.done(&rule("b"), case.now);
    case.put(Rank::Counters, rule("b"));
    assert_eq!((case.take(), case.take()), (Some(rule("a")), Some(rule("b"))));
}

#[test]
fn whoever_comes_to_a_better_rank_keeps_how_long_it_has_waited() {
    let mut case = Case::new();
    case.put(Rank::Counters, rule("z"));
    case.put(Rank::Object, rule("a"));
    case.put(Rank::Object, rule("z"));
    case.put(Rank::Counters, rule("z"));
    assert_eq!((case.take(), case.take(), case.take()), (Some(rule("z")), Some(rule("a")), None));
}

#[test]
fn what_waits_in_one_rank_and_comes_in_another_is_written_once() {
    let mut case = Case::new();
    case.put(Rank::Object, rule("a"));
    case.put(Rank::Unobserved, rule("a"));
    assert_eq!((case.take(), case.take()), (Some(rule("a")), None));
    case.put(Rank::Object, rule("a"));
    assert_eq!(case.take(), None, "it is under way");
    case.due.done(&rule("a"), case.now);
    assert_eq!((case.take(), case.take()), (Some(rule("a")), None));
}

#[test]
fn what_is_under_way_is_not_written_twice_at_once_and_again_after_it() {
    let mut case = Case::new();
    case.put(Rank::Object, rule("a"));
    assert_eq!(case.take(), Some(rule("a")));
    case.put(Rank::Object, rule("a"));
    assert_eq!((case.take(), case.wake()), (None, None));
    case.due.done(&rule("a"), case.now);
    assert_eq!((case.take(), case.take()), (Some(rule("a")), None));
}

#[test]
fn what_is_postponed_comes_when_its_time_has_come() {
    let mut case = Case::new();
    case.due.put(Rank::Object, rule("a"), case.now + Duration::from_millis(500), case.now);
    assert_eq!((case.take(), case.wake()), (None, Some(500)));
    case.at(500);
    assert_eq!(case.take(), Some(rule("a")));
}

#[test]
fn what_is_postponed_and_comes_again_waits_for_the_earlier_time() {
    let mut case = Case::new();
    for ms in [500, 300, 400] {
        case.due.put(Rank::Counters, rule("a"), case.now + Duration::from_millis(ms), case.now);
    }
    assert_eq!((case.take(), case.wake()), (None, Some(300)));
    case.put(Rank::Unobserved, rule("a"));
    assert_eq!((case.take(), case.take(), case.wake()), (Some(rule("a")), None, None));
}

#[test]
fn what_fails_again_and_again_is_tried_less_and_less_often_until_it_succeeds() {
    let mut case = Case::new();
    case.put(Rank::Object, rule("a"));
    let mut tries = Vec::new();
    for _ in 0..9 {
        assert_eq!(case.take(), Some(rule("a")));
        case.failed(rule("a"), Trouble::Failed);
        // Whoever looks in between finds the same difference again.
        case.put(Rank::Object, rule("a"));
        assert_eq!(case.take(), None);
        let next = case.wake().unwrap();
        tries.push(next / 1_000);
        case.at(u64::try_from(next).unwrap());
    }
    assert_eq!(tries, [1, 3, 7, 15, 31, 63, 123, 183, 243]);
    assert_eq!(case.take(), Some(rule("a")));
    case.due.done(&rule("a"), case.now);
    case.put(Rank::Object, rule("a"));
    assert_eq!(case.take(), Some(rule("a")), "from then on it is like any other");
}

#[test]
fn what_fails_keeps_nobody_else_waiting() {
    let mut case = Case::new();
    case.put(Rank::Object, rule("a"));
    case.take();
    case.failed(rule("a"), Trouble::Failed);
    case.put(Rank::Object, rule("b"));
    assert_eq!((case.take(), case.take()), (Some(rule("b")), None));
}

#[test]
fn an_api_server_with_too_much_to_do_is_asked_for_nothing_for_a_while() {
    let mut case = Case::new();
    for name in ["a", "b", "c"] {
        case.put(Rank::Object, rule(name));
    }
    case.take();
    case.take();
    case.failed(rule("a"), Trouble::Busy(None));
    case.failed(rule("b"), Trouble::Busy(None));
    assert_eq!((case.take(), case.wake()), (None, Some(1_000)), "two at once are one sign");
    case.at(1_000);
    assert_eq!(case.take(), Some(rule("c")), "the others have been tried");
    case.failed(rule("c"), Trouble::Busy(Some(Duration::from_secs(7))));
    assert_eq!((case.take(), case.wake()), (None, Some(8_000)), "as long as it says");
    case.at(8_000);
    assert_eq!(case.take(), Some(rule("a")));
    case.due.done(&rule("a"), case.now);
    assert_eq!(case.take(), Some(rule("b")));
    case.failed(rule("b"), Trouble::Busy(None));
    assert_eq!(case.wake(), Some(9_000), "after a success it begins anew");
}

#[test]
fn what_needs_no_write_any_more_is_no_success() {
    let mut case = Case::new();
    case.put(Rank::Object, rule("a"));
    case.take();
    case.failed(rule("a"), Trouble::Busy(None));
    case.at(1_000);
    assert_eq!(case.take(), Some(rule("a")));
    case.due.dropped(&rule("a"), case.now);
    case.put(Rank::Object, rule("b"));
    assert_eq!(case.take(), Some(rule("b")));
    case.failed(rule("b"), Trouble::Busy(None));
    assert_eq!(case.wake(), Some(3_000), "twice as long as before");
}

#[test]
fn a_pause_that_is_long_over_makes_no_other_longer() {
    let mut case = Case::new();
    case.put(Rank::Object, rule("a"));
    case.take();
    case.failed(rule("a"), Trouble::Busy(None));
    case.at(61_000);
    case.take();
    case.failed(rule("a"), Trouble::Busy(None));
    assert_eq!(case.wake(), Some(62_000));
}

#[test]
fn failures_of_what_is_gone_are_forgotten() {
    let mut case = Case::new();
    case.put(Rank::Object, rule("a"));
    case.take();
    case.failed(rule("a"), Trouble::Failed);
    case.due.retain(|_| false);
    case.put(Rank::Object, rule("a"));
    assert_eq!(case.take(), Some(rule("a")));
}
