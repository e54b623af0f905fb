//! Lists of rules, each distinct one kept once and known by a number.
use std::collections::BTreeMap;

/// Number of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListId(u32);

/// Distinct lists by content, each ascending, numbered in the order in which they are met.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    ids: BTreeMap<Vec<u32>, ListId>,
    all: Vec<Vec<u32>>,
    unions: BTreeMap<(ListId, ListId), ListId>,
}

impl Lists {
    /// The number of this list; it is sorted and duplicates are dropped first.
    pub(crate) fn id(&mut self, mut list: Vec<u32>) -> ListId {
        list.sort_unstable();
        list.dedup();
        if let Some(&id) = self.ids.get(&list) {
            return id;
        }
        let id = ListId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.ids.insert(list.clone(), id);
        self.all.push(list);
        id
    }

    /// The list with the rules of both; looked up where the same two were joined before.
    pub(crate) fn union(&mut self, a: ListId, b: ListId) -> ListId {
        if a == b {
            return a;
        }
        let pair = if a < b { (a, b) } else { (b, a) };
        if let Some(&id) = self.unions.get(&pair) {
            return id;
        }
        let joined = [self.get(a), self.get(b)].concat();
        let id = self.id(joined);
        self.unions.insert(pair, id);
        id
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The rules of a list.
    pub(crate) fn get(&self, id: ListId) -> &[u32] {
        self.all.get(id.0 as usize).map(Vec::as_slice).unwrap_or_default()
    }
}
