//! Lists of rules, each distinct one kept once and known by a number.
use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListId(u32);

/// What a list, or a union, takes beside its rules, in rules.
const BESIDE: usize = 32;

/// Distinct lists by content, each ascending, numbered in the order in which they are met.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    ids: BTreeMap<Arc<[u32]>, ListId>,
    all: Vec<Arc<[u32]>>,
    unions: BTreeMap<(ListId, ListId), ListId>,
    size: usize,
}

impl Lists {
    /// The number of this list; it is sorted and duplicates are dropped first.
    pub(crate) fn id(&mut self, mut list: Vec<u32>) -> ListId {
        list.sort_unstable();
        list.dedup();
        if let Some(&id) = self.ids.get(list.as_slice()) {
            return id;
        }
        let id = ListId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.size += BESIDE + list.len();
        let list: Arc<[u32]> = list.into();
        self.ids.insert(Arc::clone(&list), id);
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
        self.size += BESIDE;
        self.unions.insert(pair, id);
        id
    }

    /// How many rules all of them have together, and as many as what they take beside is like.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The rules of a list.
    pub(crate) fn get(&self, id: ListId) -> &[u32] {
        self.all.get(id.0 as usize).map(AsRef::as_ref).unwrap_or_default()
    }
}
