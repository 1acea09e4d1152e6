//! The names in a folder: those that processes see, and those that the disk has.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeId, Random};

/// A folder's names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// As processes see them.
    pub(crate) live: BTreeMap<String, NodeId>,
    /// As they would be after a power cut that takes all that was not synced.
    durable: BTreeMap<String, NodeId>,
    /// What was done since the last sync, oldest first.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Put {
        name: String,
        node: NodeId,
    },
    Remove {
        name: String,
    },
    /// One change as a whole, as POSIX wants it.
    Rename {
        from: String,
        to: String,
        node: NodeId,
    },
}

impl Names {
    pub(crate) fn put(&mut self, name: &str, node: NodeId) {
        self.change(Change::Put { name: name.to_owned(), node });
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.change(Change::Remove { name: name.to_owned() });
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str, node: NodeId) {
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), node });
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }

    /// Everything that has a name here, or may have one after a power cut. A node may come more than once.
    pub(crate) fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        let pending = self.pending.iter().filter_map(|change| match change {
            Change::Put { node, .. } | Change::Rename { node, .. } => Some(*node),
            Change::Remove { .. } => None,
        });
        self.live.values().copied().chain(self.durable.values().copied()).chain(pending)
    }

    pub(crate) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// The power goes. Some of the changes that were not synced are on the disk: either the first so many, as in a journal,
    /// or any, except that of those that touch the same name no later one comes without the earlier ones.
    pub(crate) fn cut_power(&mut self, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        if random.coin() {
            let kept = random.index(pending.len() + 1);
            pending.iter().take(kept).for_each(|change| apply(&mut self.durable, change));
        } else {
            let mut lost: BTreeSet<&str> = BTreeSet::new();
            for change in &pending {
                let touched: Vec<&str> = match change {
                    Change::Put { name, .. } | Change::Remove { name } => vec![name],
                    Change::Rename { from, to, .. } => vec![from, to],
                };
                if random.coin() && !touched.iter().any(|name| lost.contains(name)) {
                    apply(&mut self.durable, change);
                } else {
                    lost.extend(touched);
                }
            }
        }
        self.live.clone_from(&self.durable);
    }
}

fn apply(names: &mut BTreeMap<String, NodeId>, change: &Change) {
    match change {
        Change::Put { name, node } => {
            names.insert(name.clone(), *node);
        }
        Change::Remove { name } => {
            names.remove(name);
        }
        Change::Rename { from, to, node } => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
    }
}
