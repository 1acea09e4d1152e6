//! ApiVersions: which APIs, versions and features are served.
//!
//! Versions 0 to 4. The response's header has no tagged fields in any version, and a request of an unknown version is
//! answered in version 0 with UNSUPPORTED_VERSION and the list, so that the client can choose (KIP-511). v3 brings
//! the client's software name and version, and features (KIP-584).
//!
//! Features: `metadata.version` is finalized at 4.3's level, from which tools read which Kafka this is like;
//! `group.version`, `transaction.version` and the others are absent, as there is nothing of them to use. v0 to v3
//! leave out features that begin at 0 (KAFKA-17011); none of ours does.

use std::sync::LazyLock;

use bytes::BytesMut;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::{APIS, Api};
use crate::call::{Answer, Call};
use crate::error_code::ErrorCode;
use crate::shape::Field::{Since, Text};

pub(crate) static API: Api = Api {
    key: 18,
    name: "ApiVersions",
    versions: (0, 4),
    flexible_from: 3,
    fields: &[Since(3, &Text), Since(3, &Text)],
    serve: |call, frame| call.serve(frame, handle),
};

const METADATA_VERSION: StrBytes = StrBytes::from_static_str("metadata.version");
/// 3.3-IV3, the first that a node without ZooKeeper may have.
const METADATA_VERSION_MIN: i16 = 7;
/// 4.3-IV0.
const METADATA_VERSION_FINAL: i16 = 30;

static KEYS: LazyLock<Vec<ApiVersion>> = LazyLock::new(|| {
    let key = |api: &&Api| {
        ApiVersion::default().with_api_key(api.key).with_min_version(api.versions.0).with_max_version(api.versions.1)
    };
    APIS.iter().map(key).collect()
});

async fn handle(call: Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let names_itself = is_name(&request.client_software_name) && is_name(&request.client_software_version);
    if call.version >= 3 && !names_itself {
        return ApiVersionsResponse::default().with_error_code(call.code(ErrorCode::InvalidRequest));
    }
    let response = ApiVersionsResponse::default().with_api_keys(KEYS.clone());
    if call.version < 3 {
        return response;
    }
    let supported = SupportedFeatureKey::default()
        .with_name(METADATA_VERSION)
        .with_min_version(METADATA_VERSION_MIN)
        .with_max_version(METADATA_VERSION_FINAL);
    let finalized = FinalizedFeatureKey::default()
        .with_name(METADATA_VERSION)
        .with_min_version_level(METADATA_VERSION_FINAL)
        .with_max_version_level(METADATA_VERSION_FINAL);
    response
        .with_supported_features(vec![supported])
        .with_finalized_features_epoch(0)
        .with_finalized_features(vec![finalized])
}

/// The answer to a version that is not served.
pub(crate) fn unsupported() -> Answer {
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(KEYS.clone());
    let mut body = BytesMut::new();
    response.encode(&mut body, 0).expect("version 0 has both fields");
    Answer::Body(body)
}

/// Whether this is what Kafka takes as the name or version of software: letters, digits, and inside also `-` and `.`.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_is_named_as_kafka_wants_it() {
        for good in ["a", "apache-kafka-java", "4.3.1", "x-y.z9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "ä", "a\n"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
