//! The streams as topics: statements come in by `_millpond_sql`, answers and states go out by two others, so that a
//! Kafka client is enough to do everything.

mod answers;
mod gate;
mod status;
mod topics;

pub(crate) use answers::{Answer, Answers, Outcome};
pub(crate) use gate::gate;
pub(crate) use status::publish_status;
pub use topics::{ANSWERS_TOPIC, CATALOG_TOPIC, STATEMENTS_TOPIC, STREAMS_TOPIC};
pub(crate) use topics::{AdminTopics, create_admin_topics};
