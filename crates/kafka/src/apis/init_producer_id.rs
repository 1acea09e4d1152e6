//! InitProducerId: an id for an idempotent producer (KIP-98).
//!
//! Versions 0 to 5; v2 brings flexible fields, v3 a producer that wants its epoch raised (KIP-360): it gets a new id,
//! as in Kafka. There are no transactions: a transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
//! which no client's library retries for ever.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::Api;
use crate::call::Call;
use crate::error_code::ErrorCode;
use crate::shape::Field::{Since, Text};
use crate::shape::{INT, LONG, SHORT};

pub(crate) static API: Api = Api {
    key: 22,
    name: "InitProducerId",
    versions: (0, 5),
    flexible_from: 2,
    fields: &[Text, INT, Since(3, &LONG), Since(3, &SHORT)],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refused = |error| {
        InitProducerIdResponse::default()
            .with_error_code(call.code(error))
            .with_producer_id((-1).into())
            .with_producer_epoch(-1)
    };
    match request.transactional_id {
        Some(id) if id.is_empty() => return refused(ErrorCode::InvalidRequest),
        Some(_) => return refused(ErrorCode::TransactionalIdAuthorizationFailed),
        None => {}
    }
    match call.broker().init_producer_id(None).await {
        Ok((id, epoch)) => InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(epoch),
        Err(error) => refused(ErrorCode::from(&error)),
    }
}
