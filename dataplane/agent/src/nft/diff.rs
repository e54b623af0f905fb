//! What differs between two rulesets, so that an apply touches nothing else: chains that stay keep their counters, their
//! session counts and the time-outs they gave.

use super::ruleset::{Chain, Element, Ruleset, Set, Timeouts};

type Elements<'a> = Vec<(&'a Vec<u8>, &'a Element)>;

/// From one ruleset to another.
#[derive(Debug, Default)]
pub(crate) struct Difference<'a> {
    pub(crate) elements_gone: Vec<(&'a str, &'a Set, Elements<'a>)>,
    pub(crate) elements_new: Vec<(&'a str, &'a Set, Elements<'a>)>,
    /// Chains that stay with other rules: emptied first, filled later.
    pub(crate) chains_emptied: Vec<&'a str>,
    pub(crate) chains_filled: Vec<(&'a str, &'a Chain)>,
    pub(crate) chains_gone: Vec<&'a str>,
    pub(crate) chains_new: Vec<(&'a str, &'a Chain)>,
    pub(crate) sets_gone: Vec<&'a str>,
    pub(crate) sets_new: Vec<(&'a str, &'a Set)>,
    pub(crate) timeouts_gone: Vec<&'a str>,
    pub(crate) timeouts_new: Vec<(&'a str, &'a Timeouts)>,
}

impl<'a> Difference<'a> {
    /// The difference; `None` where the table has to be replaced whole (a base chain, a set's shape or a time-out object
    /// under its old name differs: only other options or another version do that).
    pub(crate) fn between(old: &'a Ruleset, new: &'a Ruleset) -> Option<Self> {
        let mut difference = Self::default();
        difference.chains(old, new)?;
        difference.sets(old, new)?;
        for (name, timeouts) in &new.timeouts {
            match old.timeouts.get(name) {
                None => difference.timeouts_new.push((name, timeouts)),
                Some(before) if before == timeouts => {}
                Some(_) => return None,
            }
        }
        difference.timeouts_gone = gone(old.timeouts.keys(), |name| new.timeouts.contains_key(name));
        Some(difference)
    }

    /// Whether anything but elements differs.
    pub(crate) fn structural(&self) -> bool {
        !(self.chains_emptied.is_empty()
            && self.chains_gone.is_empty()
            && self.chains_new.is_empty()
            && self.sets_gone.is_empty()
            && self.sets_new.is_empty()
            && self.timeouts_gone.is_empty()
            && self.timeouts_new.is_empty())
    }

    /// Elements removed and added.
    pub(crate) fn elements(&self) -> (usize, usize) {
        let count = |list: &[(&str, &Set, Elements<'_>)]| list.iter().map(|(_, _, elements)| elements.len()).sum();
        (count(&self.elements_gone), count(&self.elements_new))
    }

    fn chains(&mut self, old: &'a Ruleset, new: &'a Ruleset) -> Option<()> {
        for (name, chain) in &new.chains {
            match old.chains.get(name) {
                None => self.chains_new.push((name, chain)),
                Some(before) if before.base != chain.base => return None,
                Some(before) if before.rules == chain.rules => {}
                Some(_) => {
                    self.chains_emptied.push(name);
                    self.chains_filled.push((name, chain));
                }
            }
        }
        self.chains_gone = gone(old.chains.keys(), |name| new.chains.contains_key(name));
        Some(())
    }

    fn sets(&mut self, old: &'a Ruleset, new: &'a Ruleset) -> Option<()> {
        for (name, set) in &new.sets {
            let come: Elements<'a> = match old.sets.get(name) {
                None => {
                    self.sets_new.push((name, set));
                    set.elements.iter().collect()
                }
                Some(before) if !before.same_shape(set) => return None,
                Some(before) => {
                    let left = elsewhere(before, set);
                    if !left.is_empty() {
                        self.elements_gone.push((name, set, left));
                    }
                    elsewhere(set, before)
                }
            };
            if !come.is_empty() {
                self.elements_new.push((name, set, come));
            }
        }
        self.sets_gone = gone(old.sets.keys(), |name| new.sets.contains_key(name));
        // The maps that go hold on to their chains until their elements are gone.
        for name in &self.sets_gone {
            if let Some(set) = old.sets.get(*name).filter(|set| set.map && !set.elements.is_empty()) {
                self.elements_gone.push((name, set, set.elements.iter().collect()));
            }
        }
        Some(())
    }
}

fn gone<'a>(names: impl Iterator<Item = &'a String>, stays: impl Fn(&str) -> bool) -> Vec<&'a str> {
    names.map(String::as_str).filter(|name| !stays(name)).collect()
}

/// The elements of one set that the other does not have, or has with another end or verdict.
fn elsewhere<'a>(set: &'a Set, other: &Set) -> Elements<'a> {
    set.elements.iter().filter(|(key, element)| other.elements.get(*key) != Some(*element)).collect()
}
