//! Objects of one kind, kept up to date by the events of a watch; a list that is read anew replaces the old one at its end.

use std::collections::BTreeMap;

use callgate_proto::model::ObjectKey;
use kube::runtime::watcher::Event;

/// Facts by namespace and name.
#[derive(Debug, Clone)]
pub struct Table<T> {
    objects: BTreeMap<ObjectKey, T>,
    /// A list on its way; the old one stays in use until it is whole.
    incoming: Option<BTreeMap<ObjectKey, T>>,
    synced: bool,
    /// How often it has become another.
    edits: u64,
}

/// Whether an event was news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that matters is different.
    None,
    /// Something is.
    Some,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), incoming: None, synced: false, edits: 0 }
    }
}

impl<T: PartialEq> Table<T> {
    /// Takes an event in. `fact` is what matters of an object; the first list that is whole is news even where it is empty.
    pub fn absorb<K>(&mut self, event: &Event<K>, key: impl Fn(&K) -> ObjectKey, fact: impl Fn(&K) -> T) -> Change {
        let change = self.take(event, key, fact);
        self.edits += u64::from(change == Change::Some);
        change
    }

    fn take<K>(&mut self, event: &Event<K>, key: impl Fn(&K) -> ObjectKey, fact: impl Fn(&K) -> T) -> Change {
        match event {
            Event::Init => {
                self.incoming = Some(BTreeMap::new());
                Change::None
            }
            Event::InitApply(object) => {
                self.incoming.get_or_insert_default().insert(key(object), fact(object));
                Change::None
            }
            Event::InitDone => self.replace(),
            Event::Apply(object) => {
                let (key, new) = (key(object), fact(object));
                if self.objects.get(&key) == Some(&new) {
                    return Change::None;
                }
                self.objects.insert(key, new);
                Change::Some
            }
            Event::Delete(object) => match self.objects.remove(&key(object)) {
                Some(_) => Change::Some,
                None => Change::None,
            },
        }
    }

    /// Puts the list that has come in whole in place of the old one.
    fn replace(&mut self) -> Change {
        let new = self.incoming.take().unwrap_or_default();
        let news = !self.synced || new != self.objects;
        (self.objects, self.synced) = (new, true);
        if news { Change::Some } else { Change::None }
    }

    /// For a kind that this API server does not have: it is known to be empty.
    pub fn absent(&mut self) -> Change {
        self.incoming = None;
        let change = self.replace();
        self.edits += u64::from(change == Change::Some);
        change
    }

    /// How often it has become another.
    pub fn edits(&self) -> u64 {
        self.edits
    }

    /// Whether a whole list has been read.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// One of them.
    pub fn get(&self, key: &ObjectKey) -> Option<&T> {
        self.objects.get(key)
    }

    /// All of them, by namespace and name.
    pub fn objects(&self) -> &BTreeMap<ObjectKey, T> {
        &self.objects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absorb(table: &mut Table<u32>, event: Event<(&'static str, u32)>) -> Change {
        table.absorb(&event, |(name, _)| ObjectKey::new("", *name), |(_, value)| *value)
    }

    fn names(table: &Table<u32>) -> Vec<String> {
        table.objects().iter().map(|(key, value)| format!("{}={value}", key.name)).collect()
    }

    #[test]
    fn a_list_read_anew_replaces_the_old_one_only_when_it_is_whole() {
        let mut table = Table::default();
        for event in [Event::Init, Event::InitApply(("a", 1)), Event::InitApply(("b", 1))] {
            assert_eq!(absorb(&mut table, event), Change::None);
        }
        assert!(!table.is_synced());
        assert_eq!(absorb(&mut table, Event::InitDone), Change::Some);
        assert!(table.is_synced());
        for event in [Event::Init, Event::InitApply(("b", 1))] {
            absorb(&mut table, event);
        }
        assert_eq!(names(&table), ["a=1", "b=1"]);
        assert_eq!(absorb(&mut table, Event::InitDone), Change::Some);
        assert_eq!(names(&table), ["b=1"]);
    }

    #[test]
    fn what_is_no_different_is_no_news() {
        let mut table = Table::default();
        assert_eq!(absorb(&mut table, Event::Apply(("a", 1))), Change::Some);
        assert_eq!(absorb(&mut table, Event::Apply(("a", 1))), Change::None);
        assert_eq!(absorb(&mut table, Event::Apply(("a", 2))), Change::Some);
        assert_eq!(absorb(&mut table, Event::Delete(("a", 2))), Change::Some);
        assert_eq!(absorb(&mut table, Event::Delete(("a", 2))), Change::None);
    }

    #[test]
    fn an_empty_first_list_is_news_and_so_is_a_kind_that_is_not_there() {
        let mut table: Table<u32> = Table::default();
        absorb(&mut table, Event::Init);
        assert_eq!(absorb(&mut table, Event::InitDone), Change::Some);
        let mut absent: Table<u32> = Table::default();
        assert_eq!((absent.absent(), absent.is_synced(), absent.absent()), (Change::Some, true, Change::None));
    }
}
