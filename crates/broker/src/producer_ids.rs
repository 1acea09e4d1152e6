//! Ids for idempotent producers: none is ever given out twice.

use std::ops::Range;
use std::sync::Arc;

use millpond_metadata::allocate_producer_ids;
use millpond_types::{ProducerEpoch, ProducerId};
use tokio::sync::Mutex;

use crate::blocking::blocking;
use crate::errors::TopicError;
use crate::topics::Topics;

/// How many ids are written down at once. What is left of a block when the node stops is never used.
const BLOCK_SIZE: i64 = 1000;

/// The ids that may be given out without writing anything down.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    block: Mutex<Range<ProducerId>>,
}

impl ProducerIds {
    /// A new id, with its first epoch.
    pub(crate) async fn next(&self, topics: &Arc<Topics>) -> Result<(ProducerId, ProducerEpoch), TopicError> {
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok((id, 0));
        }
        let topics = topics.clone();
        *block = blocking(move || topics.change(|image| Ok(allocate_producer_ids(image, BLOCK_SIZE)))).await?;
        Ok((block.next().expect("a block holds at least one id"), 0))
    }
}
