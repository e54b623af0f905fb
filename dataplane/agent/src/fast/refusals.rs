//! What the kernel refuses: told once, and tried again after longer and longer pauses, each link and the questions for routes by
//! themselves.

use std::collections::BTreeMap;

use callgate_pptp::Now;

/// Before the first attempt anew, ms; each pause is twice as long as the one before.
const FIRST: u64 = 5_000;
/// The longest pause, ms.
const LONGEST: u64 = 320_000;

/// Until something that was refused is tried again.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Now,
    length: u64,
    /// It is being tried again.
    over: bool,
}

impl Pause {
    /// The one after `before`.
    fn after(before: Option<Self>, now: Now) -> Self {
        match before {
            Some(running) if !running.over => running,
            // Where it went well in between nobody has said so, but it took its time.
            Some(last) if now <= last.until.after(last.length) => Self::of(LONGEST.min(last.length * 2), now),
            Some(_) | None => Self::of(FIRST, now),
        }
    }

    fn of(length: u64, now: Now) -> Self {
        Self { until: now.after(length), length, over: false }
    }

    fn deadline(&self) -> Option<Now> {
        (!self.over).then_some(self.until)
    }

    /// Whether it ends now.
    fn ends(&mut self, now: Now) -> bool {
        let ends = !self.over && self.until <= now;
        self.over |= ends;
        ends
    }
}

/// Links that did not take the program, and when what was refused is tried again.
#[derive(Default)]
pub(super) struct Refusals {
    /// Why, and until when it is not tried again.
    links: BTreeMap<u32, (String, Pause)>,
    /// Why, as people were told.
    told: BTreeMap<u32, String>,
    /// Of questions for routes.
    routes: Option<Pause>,
}

impl Refusals {
    /// Why this link has not taken the program; `None` where it may be asked to.
    pub(super) fn of(&self, link: u32) -> Option<&String> {
        self.links.get(&link).filter(|(_, pause)| !pause.over).map(|(why, _)| why)
    }

    /// A link has not taken it; whether people have not heard of that yet.
    pub(super) fn note(&mut self, link: u32, why: String, now: Now) -> bool {
        let pause = Pause::after(self.links.get(&link).map(|(_, pause)| *pause), now);
        self.links.insert(link, (why.clone(), pause));
        self.told.insert(link, why.clone()) != Some(why)
    }

    /// A link has taken it.
    pub(super) fn is_over(&mut self, link: u32) {
        self.told.remove(&link);
        self.links.remove(&link);
    }

    /// The kernel has not said where a route leads.
    pub(super) fn wait(&mut self, now: Now) {
        self.routes = Some(Pause::after(self.routes, now));
    }

    /// When the next attempt is due.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.links.values().map(|(_, pause)| pause).chain(&self.routes).filter_map(Pause::deadline).min()
    }

    /// What is to be tried again now: these links, and all that has no route; `None` if nothing is.
    pub(super) fn due(&mut self, now: Now) -> Option<Vec<u32>> {
        let over = |(link, (_, pause)): (&u32, &mut (String, Pause))| pause.ends(now).then_some(*link);
        let links: Vec<u32> = self.links.iter_mut().filter_map(over).collect();
        let routes = self.routes.as_mut().is_some_and(|pause| pause.ends(now));
        (routes || !links.is_empty()).then_some(links)
    }

    /// Links that are gone have nothing to do with those that get their numbers.
    pub(super) fn retain(&mut self, is_there: impl Fn(u32) -> bool) {
        self.links.retain(|link, _| is_there(*link));
        self.told.retain(|link, _| is_there(*link));
    }

    /// Links have changed: everything may be tried again. Of those that are gone nothing was told.
    pub(super) fn forget(&mut self, is_there: impl Fn(u32) -> bool) {
        self.links.clear();
        self.routes = None;
        self.told.retain(|link, _| is_there(*link));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHY: &str = "no memory";

    #[test]
    fn a_reason_is_told_once_however_often_it_is_met_and_a_new_one_anew() {
        let mut refusals = Refusals::default();
        let note = |refusals: &mut Refusals, link, why: &str| refusals.note(link, why.to_owned(), Now(0));
        let met = ["busy", "busy", WHY, WHY].map(|why| note(&mut refusals, 3, why));
        assert_eq!(met, [true, false, true, false]);
        assert!(note(&mut refusals, 4, WHY), "another link's is news");
        refusals.forget(|link| link == 3);
        assert_eq!([3, 4].map(|link| refusals.of(link).is_some()), [false, false]);
        assert_eq!([3, 4].map(|link| note(&mut refusals, link, WHY)), [false, true]);
        refusals.is_over(3);
        assert!(note(&mut refusals, 3, WHY), "it had been taken since");
    }

    /// Of link 3.
    fn link(refusals: &mut Refusals, now: Now) {
        refusals.note(3, WHY.to_owned(), now);
    }

    /// Refused again and again at once; how long each pause is, seconds.
    fn pauses(refusals: &mut Refusals, now: &mut Now, count: usize, refuse: impl Fn(&mut Refusals, Now)) -> Vec<u64> {
        let mut pause = || {
            refuse(refusals, *now);
            let links: Vec<u32> = refusals.links.keys().copied().collect();
            let at = refusals.deadline().unwrap();
            let pause = at.since(*now);
            assert_eq!([Now(at.0 - 1), at, at].map(|now| refusals.due(now)), [None, Some(links), None]);
            *now = at;
            pause / 1_000
        };
        (0..count).map(|_| pause()).collect()
    }

    #[test]
    fn attempts_grow_rare_until_something_changes_or_is_taken() {
        for refuse in [link, Refusals::wait] {
            let (mut refusals, mut now) = (Refusals::default(), Now(0));
            assert_eq!(pauses(&mut refusals, &mut now, 8, refuse), [5, 10, 20, 40, 80, 160, 320, 320]);
            refusals.forget(|_| true);
            assert_eq!(pauses(&mut refusals, &mut now, 2, refuse), [5, 10]);
            // Not refused in the next pause that would have been.
            now = now.after(10_001);
            assert_eq!(pauses(&mut refusals, &mut now, 2, refuse), [5, 10]);
        }
        let (mut refusals, mut now) = (Refusals::default(), Now(0));
        pauses(&mut refusals, &mut now, 2, link);
        refusals.is_over(3);
        assert_eq!(pauses(&mut refusals, &mut now, 1, link), [5]);
    }

    #[test]
    fn what_is_refused_for_a_moment_does_not_wait_for_what_is_refused_for_good() {
        let (mut refusals, mut now) = (Refusals::default(), Now(0));
        pauses(&mut refusals, &mut now, 7, link);
        link(&mut refusals, now);
        let far = refusals.deadline().unwrap();
        // Another link, and a question for a route.
        refusals.note(4, WHY.to_owned(), now);
        assert_eq!(refusals.deadline(), Some(now.after(5_000)));
        assert_eq!(refusals.due(now.after(5_000)), Some(vec![4]));
        assert_eq!([3, 4].map(|link| refusals.of(link).is_some()), [true, false]);
        refusals.wait(now.after(5_000));
        assert_eq!(refusals.deadline(), Some(now.after(10_000)));
        assert_eq!(refusals.due(now.after(10_000)), Some(vec![]));
        assert_eq!(refusals.deadline(), Some(far));
        // While the pause runs, too, a change ends it.
        refusals.forget(|_| true);
        assert_eq!(refusals.deadline(), None);
        refusals.wait(now);
        assert_eq!(refusals.deadline(), Some(now.after(5_000)));
    }
}
