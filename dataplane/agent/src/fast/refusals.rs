//! What the kernel refuses: told once, and tried again after longer and longer pauses.

use std::collections::BTreeMap;

use callgate_pptp::Now;

/// Before the first attempt anew, ms; each pause is twice as long as the one before.
const FIRST: u64 = 5_000;
/// The longest pause, ms.
const LONGEST: u64 = 320_000;

/// Links that did not take the program, and when what was refused is tried again.
pub(super) struct Refusals {
    /// Why, until it is tried again.
    links: BTreeMap<u32, String>,
    /// Why, as people were told.
    told: BTreeMap<u32, String>,
    again: Option<Now>,
    pause: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { links: BTreeMap::new(), told: BTreeMap::new(), again: None, pause: FIRST }
    }
}

impl Refusals {
    /// Why this link has not taken the program; `None` where it may be asked to.
    pub(super) fn of(&self, link: u32) -> Option<&String> {
        self.links.get(&link)
    }

    /// A link has not taken it; whether people have not heard of that yet.
    pub(super) fn note(&mut self, link: u32, why: String) -> bool {
        self.links.insert(link, why.clone());
        self.told.insert(link, why.clone()) != Some(why)
    }

    /// A link has taken it.
    pub(super) fn is_over(&mut self, link: u32) {
        self.told.remove(&link);
        self.pause = FIRST;
    }

    /// Something was refused that is to be tried again.
    pub(super) fn wait(&mut self, now: Now) {
        self.again.get_or_insert(now.after(self.pause));
    }

    /// When the next attempt is due.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.again
    }

    /// Whether everything is to be tried again now.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        let due = self.again.is_some_and(|at| at <= now);
        if due {
            self.again = None;
            self.links.clear();
            self.pause = LONGEST.min(self.pause * 2);
        }
        due
    }

    /// Links have changed: everything may be tried again. Of those that are gone nothing was told.
    pub(super) fn forget(&mut self, is_there: impl Fn(u32) -> bool) {
        self.links.clear();
        self.told.retain(|link, _| is_there(*link));
        self.pause = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_however_often_it_is_met_and_a_new_one_anew() {
        let mut refusals = Refusals::default();
        let met = ["busy", "busy", "no memory", "no memory"].map(|why| refusals.note(3, why.to_owned()));
        assert_eq!(met, [true, false, true, false]);
        assert!(refusals.note(4, "no memory".to_owned()), "another link's is news");
        refusals.forget(|link| link == 3);
        assert_eq!([3, 4].map(|link| refusals.of(link).is_some()), [false, false]);
        assert_eq!([3, 4].map(|link| refusals.note(link, "no memory".to_owned())), [false, true]);
        refusals.is_over(3);
        assert!(refusals.note(3, "no memory".to_owned()), "it had been taken since");
    }

    #[test]
    fn attempts_grow_rare_until_something_changes() {
        let mut refusals = Refusals::default();
        let mut now = Now(0);
        let mut pause = |refusals: &mut Refusals| {
            refusals.wait(now);
            let at = refusals.deadline().unwrap();
            let pause = at.since(now);
            assert!(!refusals.is_due(Now(at.0 - 1)) && refusals.is_due(at) && !refusals.is_due(at));
            now = at;
            pause / 1_000
        };
        assert_eq!([(); 8].map(|()| pause(&mut refusals)), [5, 10, 20, 40, 80, 160, 320, 320]);
        refusals.forget(|_| true);
        assert_eq!([(); 2].map(|()| pause(&mut refusals)), [5, 10]);
        refusals.is_over(3);
        assert_eq!(pause(&mut refusals), 5);
    }
}
