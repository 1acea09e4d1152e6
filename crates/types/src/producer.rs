//! Who wrote a batch, for idempotent and transactional producers (KIP-98).

/// The id that `InitProducerId` gave to a producer.
pub type ProducerId = i64;

/// How often the producer with this id was initialised.
pub type ProducerEpoch = i16;

/// How often the transaction coordinator of a producer has changed hands; a marker of an older one is not taken.
pub type CoordinatorEpoch = i32;

/// The producer id of a batch whose producer is not idempotent.
pub const NO_PRODUCER_ID: ProducerId = -1;

/// The epoch of a batch whose producer is not idempotent.
pub const NO_PRODUCER_EPOCH: ProducerEpoch = -1;

/// The base sequence of a batch whose producer is not idempotent.
pub const NO_SEQUENCE: i32 = -1;

/// The coordinator's epoch where no marker has come yet.
pub const NO_COORDINATOR_EPOCH: CoordinatorEpoch = -1;
