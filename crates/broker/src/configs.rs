//! Configurations change, and the logs follow.

use std::collections::BTreeMap;

use millpond_coordinator::GroupOptions;
use millpond_log::LogOptions;
use millpond_metadata::config::{ConfigEntry, TopicConfig, describe_broker, describe_topic};
use millpond_metadata::{
    BrokerScope, ConfigChange, MetadataError, Settings, alter_broker_configs, alter_topic_configs,
    replace_broker_configs, replace_topic_configs,
};

use crate::errors::TopicError;
use crate::topics::Topics;

/// What a log does under these configurations.
pub(crate) fn log_options(config: &TopicConfig, settings: &Settings) -> LogOptions {
    // Without "delete" in cleanup.policy nothing is deleted for its age or size.
    let kept = |limit: i64| if config.cleanup_policy.delete { limit } else { -1 };
    let compact = config.cleanup_policy.compact;
    LogOptions {
        segment_bytes: config.segment_bytes,
        // A quiet log's newest records come to be compacted, too.
        segment_ms: if compact { config.segment_ms.min(config.max_compaction_lag_ms) } else { config.segment_ms },
        segment_jitter_ms: config.segment_jitter_ms,
        index_interval_bytes: config.index_interval_bytes,
        index_bytes_max: config.segment_index_bytes,
        retention_ms: kept(config.retention_ms),
        retention_bytes: kept(config.retention_bytes),
        compact,
        delete_retention_ms: config.delete_retention_ms,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
        min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
        file_delete_delay_ms: config.file_delete_delay_ms,
        preallocate: config.preallocate,
        tail_bytes_max: settings.partition_tail_bytes_max,
        journal_bytes_max: if settings.has_journal() { settings.partition_journal_bytes_max } else { 0 },
        producer_id_expiration_ms: settings.producer_id_expiration_ms,
    }
}

/// How the settings want groups to be run.
pub(crate) fn group_options(settings: &Settings) -> GroupOptions {
    GroupOptions {
        session_timeout_ms_min: settings.group_session_timeout_ms_min,
        session_timeout_ms_max: settings.group_session_timeout_ms_max,
        initial_rebalance_delay_ms: settings.group_initial_rebalance_delay_ms,
        members_max: settings.group_members_max,
        offset_metadata_bytes_max: settings.offset_metadata_bytes_max,
        offsets_retention_ms: settings.offsets_retention_ms,
        offsets_retention_check_interval_ms: settings.offsets_retention_check_interval_ms,
        groups_max: settings.groups_max,
        offsets_max: settings.group_offsets_max,
        waiting_max: settings.group_waiting_max,
        member_metadata_bytes_max: settings.group_member_metadata_bytes_max,
        assignment_bytes_max: settings.group_assignment_bytes_max,
        member_bytes_max: settings.group_bytes_max,
        ..GroupOptions::default()
    }
}

/// How configurations are changed: some of them (IncrementalAlterConfigs), or all at once (AlterConfigs).
#[derive(Debug, Clone)]
pub enum ConfigWish {
    /// Change these; what is not named stays.
    Change(Vec<ConfigChange>),
    /// Have these and no others.
    Replace(Vec<(String, Option<String>)>),
}

impl Topics {
    /// Changes a topic's configurations; with `validate_only` only says whether they could be.
    pub(crate) fn alter_topic(&self, topic: &str, wish: &ConfigWish, validate_only: bool) -> Result<(), TopicError> {
        self.change(|image| {
            let changes = match wish {
                ConfigWish::Change(changes) => alter_topic_configs(image, topic, changes),
                ConfigWish::Replace(configs) => replace_topic_configs(image, topic, configs),
            }?;
            Ok(((), if validate_only { Vec::new() } else { changes }))
        })?;
        self.follow_configs();
        Ok(())
    }

    /// Changes the broker's configurations; with `validate_only` only says whether they could be.
    pub(crate) fn alter_broker(
        &self,
        scope: BrokerScope,
        wish: &ConfigWish,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        self.change(|image| {
            let changes = match wish {
                ConfigWish::Change(changes) => alter_broker_configs(image, scope, changes),
                ConfigWish::Replace(configs) => replace_broker_configs(image, scope, configs),
            }?;
            Ok(((), if validate_only { Vec::new() } else { changes }))
        })?;
        self.follow_configs();
        Ok(())
    }

    /// Tells all logs what they are to do by now. A change of the broker's configurations can touch any.
    fn follow_configs(&self) {
        // Under the lock of the changes, so that of two the later one has the last word.
        let _no_change = self.metadata_log.lock();
        let image = self.image();
        for entry in self.directory().topics() {
            let Some(topic) = image.topic_by_id(entry.topic.id()) else { continue };
            let config = self.config(&image, topic);
            entry.topic.follow(&config);
            let options = log_options(&config, &self.settings);
            for partition in &entry.partitions {
                partition.log().set_options(options.clone());
            }
        }
    }

    /// A topic's configurations with their values and where those come from.
    pub(crate) fn describe_topic(&self, topic: &str) -> Result<Vec<ConfigEntry>, TopicError> {
        let image = self.image();
        let found = image.topic(topic).ok_or_else(|| MetadataError::UnknownTopic(topic.to_owned()))?;
        Ok(describe_topic(found, &image, &self.settings))
    }

    /// The broker's, with the values that only the running node knows.
    pub(crate) fn describe_broker(&self, runtime: &BTreeMap<&str, String>) -> Vec<ConfigEntry> {
        describe_broker(&self.image(), &self.settings, runtime)
    }
}
