//! The list of the APIs that are served: dispatch, ApiVersions and the README's table all come from [`APIS`].
//!
//! Each API has its own file, named as the protocol names it, which states versions, fields and behaviour.

use crate::call::{Call, Frame, Serving};
use crate::shape::Field;

pub(crate) mod alter_configs;
pub(crate) mod api_versions;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_topic_partitions;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod sync_group;

/// Every API that is served, in the order of their keys.
pub(crate) static APIS: [&Api; 28] = [
    &produce::API,
    &fetch::API,
    &list_offsets::API,
    &metadata::API,
    &offset_commit::API,
    &offset_fetch::API,
    &find_coordinator::API,
    &join_group::API,
    &heartbeat::API,
    &leave_group::API,
    &sync_group::API,
    &describe_groups::API,
    &list_groups::API,
    &api_versions::API,
    &create_topics::API,
    &delete_topics::API,
    &delete_records::API,
    &init_producer_id::API,
    &offset_for_leader_epoch::API,
    &describe_configs::API,
    &alter_configs::API,
    &describe_log_dirs::API,
    &create_partitions::API,
    &delete_groups::API,
    &incremental_alter_configs::API,
    &offset_delete::API,
    &describe_cluster::API,
    &describe_topic_partitions::API,
];

/// One API: what it is called, which versions are served, how its requests look, and who answers them.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: &'static str,
    /// The versions that are answered, first and last.
    pub(crate) versions: (i16, i16),
    /// The first version with flexible fields, in the request's header too.
    pub(crate) flexible_from: i16,
    /// The request's fields, for those that the generic codec decodes.
    pub(crate) fields: &'static [Field],
    pub(crate) serve: fn(Call, Frame) -> Serving,
}

impl Api {
    /// The served API with this key.
    pub(crate) fn find(key: i16) -> Option<&'static Api> {
        APIS.binary_search_by_key(&key, |api| api.key).ok().map(|place| APIS[place])
    }

    /// Where it stands in [`APIS`].
    pub(crate) fn place(&self) -> usize {
        APIS.binary_search_by_key(&self.key, |api| api.key).expect("every API is in the list")
    }

    /// Whether this version is answered.
    pub(crate) fn serves(&self, version: i16) -> bool {
        (self.versions.0..=self.versions.1).contains(&version)
    }
}

/// The name, key, first and last version of every API, as ApiVersions tells them.
pub fn supported_apis() -> Vec<(&'static str, i16, i16, i16)> {
    APIS.iter().map(|api| (api.name, api.key, api.versions.0, api.versions.1)).collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;

    #[test]
    fn the_list_is_in_order_and_agrees_with_the_protocol() {
        assert!(APIS.is_sorted_by_key(|api| api.key));
        for (place, api) in APIS.iter().enumerate() {
            assert_eq!(api.place(), place);
            let theirs = ApiKey::try_from(api.key).unwrap();
            assert_eq!(format!("{theirs:?}"), api.name);
            for version in api.versions.0..=api.versions.1 {
                let flexible = version >= api.flexible_from;
                assert_eq!(theirs.request_header_version(version) >= 2, flexible, "{} v{version}", api.name);
                let answers_with_tags = flexible && api.key != api_versions::API.key;
                assert_eq!(theirs.response_header_version(version) == 1, answers_with_tags, "{} v{version}", api.name);
            }
        }
    }
}
