//! DescribeConfigs: every configuration of topics and of the broker, with value, source, type and documentation.
//!
//! Versions 1 to 4; v1 brings synonyms, v3 types and documentation (KIP-569), v4 flexible fields. Loggers, client metrics
//! and groups have no configurations here and answer with none.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use millpond_metadata::config::{ConfigEntry, ConfigSynonym};

use super::Api;
use crate::call::{Call, once, text};
use crate::resources::{Refusal, Resource};
use crate::shape::BYTE;
use crate::shape::Field::{Since, Structs, Text, Values};

pub(crate) static API: Api = Api {
    key: 32,
    name: "DescribeConfigs",
    versions: (1, 4),
    flexible_from: 4,
    fields: &[Structs(&[BYTE, Text, Values(&Text)]), BYTE, Since(3, &BYTE)],
    serve: |call, frame| call.serve(frame, handle),
};

/// What of each entry the client wants.
#[derive(Clone, Copy)]
struct Detail {
    version: i16,
    synonyms: bool,
    documentation: bool,
}

async fn handle(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let detail = Detail {
        version: call.version,
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let resources = once(request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let results = resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(&call, &resource) {
            Ok(entries) => {
                let wanted = |entry: &ConfigEntry| match &resource.configuration_keys {
                    Some(keys) => keys.iter().any(|key| key.as_str() == entry.name),
                    None => true,
                };
                let configs = entries.into_iter().filter(wanted).map(|entry| show(entry, detail));
                result.with_error_message(None).with_configs(configs.collect())
            }
            Err((error, message)) => result.with_error_code(call.code(error)).with_error_message(Some(text(message))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe(call: &Call, resource: &DescribeConfigsResource) -> Result<Vec<ConfigEntry>, Refusal> {
    let listener = format!("PLAINTEXT://{}:{}", call.endpoint.host, call.endpoint.port);
    Resource::read(resource.resource_type, &resource.resource_name)?.describe(call.broker(), &listener)
}

fn show(entry: ConfigEntry, detail: Detail) -> DescribeConfigsResourceResult {
    let synonym = |synonym: ConfigSynonym| {
        DescribeConfigsSynonym::default()
            .with_name(synonym.name.into())
            .with_value(synonym.value.map(text))
            .with_source(synonym.source as i8)
    };
    let synonyms = if detail.synonyms { entry.synonyms } else { Vec::new() };
    let shown = DescribeConfigsResourceResult::default()
        .with_name(entry.name.into())
        .with_value(entry.value.map(text))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.sensitive)
        .with_synonyms(synonyms.into_iter().map(synonym).collect());
    if detail.version < 3 {
        return shown;
    }
    let documentation = detail.documentation.then(|| entry.documentation.into());
    shown.with_config_type(entry.kind as i8).with_documentation(documentation)
}
