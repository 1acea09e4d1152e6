//! The one door to new ids of topics.

use std::sync::Arc;

use millpond_disk::Random;
use millpond_types::TopicId;
use parking_lot::Mutex;
use uuid::Uuid;

/// Where the ids of new topics come from. Cheap to clone; clones give ids of the same row.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    /// None for the machine's randomness.
    seeded: Option<Arc<Mutex<Random>>>,
}

impl Ids {
    /// Ids that nobody else has.
    pub fn random() -> Ids {
        Ids { seeded: None }
    }

    /// The same ids for the same seed: for simulations, in which whatever is done in the order of ids must be done in the
    /// same order each time.
    pub fn seeded(seed: u64) -> Ids {
        Ids { seeded: Some(Arc::new(Mutex::new(Random::new(seed)))) }
    }

    /// A new id.
    pub(crate) fn topic_id(&self) -> TopicId {
        let uuid = match &self.seeded {
            None => Uuid::new_v4(),
            Some(random) => {
                let mut random = random.lock();
                Uuid::from_u64_pair(random.next_u64(), random.next_u64())
            }
        };
        TopicId::from_uuid(uuid)
    }
}
