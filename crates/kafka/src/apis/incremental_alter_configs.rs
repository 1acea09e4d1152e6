//! IncrementalAlterConfigs: change some configurations of topics or of the broker (KIP-339).
//!
//! Versions 0 and 1; v1 brings flexible fields. Of one resource all changes are made or none.

use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use millpond_broker::ConfigWish;
use millpond_metadata::{ConfigChange, ConfigOperation};

use super::Api;
use crate::call::{Call, text};
use crate::groups::optional;
use crate::resources::{Refusal, Resource, invalid};
use crate::shape::BYTE;
use crate::shape::Field::{Structs, Text};

pub(crate) static API: Api = Api {
    key: 44,
    name: "IncrementalAlterConfigs",
    versions: (0, 1),
    flexible_from: 1,
    fields: &[Structs(&[BYTE, Text, Structs(&[Text, BYTE, Text])]), BYTE],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
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
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn alter(call: &Call, resource: AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let target = Resource::read(resource.resource_type, &resource.resource_name)?;
    let changes = resource.configs.into_iter().map(change).collect::<Result<Vec<_>, _>>()?;
    target.alter(call.broker(), ConfigWish::Change(changes), validate_only).await
}

fn change(config: AlterableConfig) -> Result<ConfigChange, Refusal> {
    let operation = match config.config_operation {
        0 => ConfigOperation::Set,
        1 => ConfigOperation::Delete,
        2 => ConfigOperation::Append,
        3 => ConfigOperation::Subtract,
        other => return Err(invalid(format!("{other} is not an operation on a configuration (0 to 3)"))),
    };
    Ok(ConfigChange { name: config.name.to_string(), operation, value: optional(config.value) })
}
