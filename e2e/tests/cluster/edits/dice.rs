//! Edits by chance: the same seed gives the same edits.

use super::model::{Action, Key, Model, Rule, SYSTEM, Service, Where};

/// Where the test's pods are.
pub(super) const NAMESPACES: [&str; 2] = ["east", "west"];
/// Where its objects are.
const HOMES: [&str; 3] = ["east", "west", SYSTEM];
pub(super) const APPS: [&str; 2] = ["a", "b"];
pub(super) const PORTS: [u16; 4] = [1723, 8001, 8002, 8003];
const RULES: [&str; 2] = ["edit-r0", "edit-r1"];
const SERVICES: [&str; 2] = ["edit-s0", "edit-s1"];
const ALGS: [&str; 1] = ["edit-g0"];

/// One edit; what it makes of the object is in the model already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    PutRule(Key),
    DeleteRule(Key),
    PutService(Key),
    DeleteService(Key),
    PutAlg(Key),
    DeleteAlg(Key),
    LabelPod(&'static str),
    LabelNamespace(&'static str),
}

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }

    /// What is there before chance begins, so that most of what comes is good; made to `model`.
    pub(super) fn opening(model: &mut Model) -> Vec<Edit> {
        let (alg, pptp, dns) = ((SYSTEM, ALGS[0]), (SYSTEM, SERVICES[0]), (SYSTEM, SERVICES[1]));
        model.algs.insert(alg, 60);
        model.services.insert(pptp, Service { tcp: true, udp: false, port: 1723, alg: Some(ALGS[0]) });
        model.services.insert(dns, Service { tcp: true, udp: true, port: 8001, alg: None });
        let rule = |order, services: &[&'static str]| Rule {
            order,
            action: Action::Nat,
            app: "a",
            to: Where::Everywhere,
            services: services.to_vec(),
        };
        model.rules.insert(("east", RULES[0]), rule(50, &SERVICES));
        model.rules.insert((SYSTEM, RULES[0]), rule(60, &SERVICES[1..]));
        let rules = [Edit::PutRule(("east", RULES[0])), Edit::PutRule((SYSTEM, RULES[0]))];
        [Edit::PutAlg(alg), Edit::PutService(pptp), Edit::PutService(dns)].into_iter().chain(rules).collect()
    }

    /// An edit that can be made to `model`, made to it.
    pub(super) fn edit(&mut self, model: &mut Model) -> Edit {
        let place = |dice: &mut Self, names: &[&'static str]| (dice.one_of(&HOMES), dice.one_of(names));
        match self.roll(16) {
            0..5 => {
                let key = place(self, &RULES);
                let rule = self.rule(model, key);
                model.rules.insert(key, rule);
                Edit::PutRule(key)
            }
            5 => self.take(&mut model.rules).map_or_else(|| self.edit(model), Edit::DeleteRule),
            6..9 => {
                let key = place(self, &SERVICES);
                let service = self.service();
                model.services.insert(key, service);
                Edit::PutService(key)
            }
            9 => self.take(&mut model.services).map_or_else(|| self.edit(model), Edit::DeleteService),
            10..12 => {
                let key = place(self, &ALGS);
                model.algs.insert(key, 60 + self.roll(100) as u32);
                Edit::PutAlg(key)
            }
            12 => self.take(&mut model.algs).map_or_else(|| self.edit(model), Edit::DeleteAlg),
            13..15 => {
                let names: Vec<&'static str> = model.pods.keys().copied().collect();
                let pod = self.one_of(&names);
                let app = self.one_of(&APPS);
                model.pods.get_mut(pod).unwrap().app = app;
                Edit::LabelPod(pod)
            }
            _ => {
                let namespace = self.one_of(&NAMESPACES);
                let tier = if model.tiers[namespace] == "gold" { "grey" } else { "gold" };
                model.tiers.insert(namespace, tier);
                Edit::LabelNamespace(namespace)
            }
        }
    }

    fn take<T>(&mut self, objects: &mut std::collections::BTreeMap<Key, T>) -> Option<Key> {
        let keys: Vec<Key> = objects.keys().copied().collect();
        let key = (!keys.is_empty()).then(|| self.one_of(&keys))?;
        objects.remove(&key);
        Some(key)
    }

    /// Orders are different, so that no two rules conflict: that has a test of its own.
    fn rule(&mut self, model: &Model, key: Key) -> Rule {
        let taken = |order: u32| model.rules.iter().any(|(other, rule)| *other != key && rule.order == order);
        let mut order = self.roll(100) as u32;
        while taken(order) {
            order += 1;
        }
        let mut services = vec![self.one_of(&SERVICES)];
        if self.roll(3) == 0 {
            services = SERVICES.to_vec();
        }
        Rule {
            order,
            action: self.one_of(&[Action::Nat, Action::Nat, Action::Nat, Action::Allow, Action::Drop, Action::Reject]),
            app: self.one_of(&APPS),
            to: self.one_of(&[Where::Everywhere, Where::Everywhere, Where::Only, Where::AllBut]),
            services,
        }
    }

    fn service(&mut self) -> Service {
        let (tcp, udp) = self.one_of(&[(true, false), (false, true), (true, true)]);
        let alg = (tcp && !udp && self.roll(2) == 0).then(|| self.one_of(&ALGS));
        Service { tcp, udp, port: self.one_of(&PORTS), alg }
    }
}
