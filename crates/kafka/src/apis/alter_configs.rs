//! AlterConfigs: replace all configurations of topics or of the broker. What is not named goes back to its default.
//!
//! Versions 0 to 2; v2 brings flexible fields. Deprecated in Kafka for IncrementalAlterConfigs, and still sent by tools
//! (AKHQ, kafka-ui, kafkajs, aiokafka).

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use millpond_broker::ConfigWish;

use super::Api;
use crate::call::{Call, text};
use crate::groups::optional;
use crate::resources::{Refusal, Resource};
use crate::shape::BYTE;
use crate::shape::Field::{Structs, Text};

pub(crate) static API: Api = Api {
    key: 33,
    name: "AlterConfigs",
    versions: (0, 2),
    flexible_from: 2,
    fields: &[Structs(&[BYTE, Text, Structs(&[Text, Text])]), BYTE],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match alter(&call, resource, request.validate_only).await {
            Ok(()) => response.with_error_message(None),
            Err((error, message)) => response.with_error_code(call.code(error)).with_error_message(Some(text(message))),
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}

async fn alter(call: &Call, resource: AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let target = Resource::read(resource.resource_type, &resource.resource_name)?;
    let configs = resource.configs.into_iter().map(|config| (config.name.to_string(), optional(config.value)));
    target.alter(call.broker(), ConfigWish::Replace(configs.collect()), validate_only).await
}
