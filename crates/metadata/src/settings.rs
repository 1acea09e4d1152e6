//! How the node was told to run: Kafka's names for Kafka's settings.

use std::collections::BTreeMap;

use crate::config::{BROKER_CONFIGS, Origin, broker_config, nearest, parse_double};

/// The broker's static configurations, checked and typed.
///
/// What topics take their defaults from (`log.retention.ms` and its like) is not here but in
/// [`TopicConfig::resolve`](crate::config::TopicConfig::resolve), since it can change while the node runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    given: BTreeMap<String, String>,
    /// `num.partitions`
    pub num_partitions: i32,
    /// `auto.create.topics.enable`
    pub auto_create_topics: bool,
    /// `delete.topic.enable`
    pub delete_topics: bool,
    /// `socket.request.max.bytes`
    pub request_bytes_max: usize,
    /// `queued.max.request.bytes`: requests of all connections in memory at once.
    pub queued_request_bytes_max: usize,
    /// `max.connections`
    pub connections_max: usize,
    /// `connections.max.idle.ms`, −1 for never.
    pub connections_idle_ms_max: i64,
    /// `fetch.max.bytes`
    pub fetch_bytes_max: usize,
    /// `max.incremental.fetch.session.cache.slots`
    pub fetch_sessions_max: usize,
    /// `log.retention.check.interval.ms`
    pub retention_check_interval_ms: i64,
    /// `log.cleaner.backoff.ms`
    pub compaction_interval_ms: i64,
    /// `log.cleaner.dedupe.buffer.size`
    pub compaction_keys_bytes_max: usize,
    /// `log.cleaner.io.max.bytes.per.second`
    pub compaction_bytes_per_second_max: f64,
    /// `log.flush.offset.checkpoint.interval.ms`
    pub checkpoint_interval_ms: i64,
    /// `num.recovery.threads.per.data.dir`
    pub recovery_threads: usize,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: i64,
    /// `group.min.session.timeout.ms`
    pub group_session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub group_session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.max.size`
    pub group_members_max: usize,
    /// `millpond.groups.max`
    pub groups_max: usize,
    /// `millpond.group.offsets.max`
    pub group_offsets_max: usize,
    /// `millpond.group.waiting.max`
    pub group_waiting_max: usize,
    /// `millpond.group.bytes.max`: of the members of all groups together.
    pub group_bytes_max: usize,
    /// `millpond.group.member.metadata.bytes.max`
    pub group_member_metadata_bytes_max: usize,
    /// `millpond.group.assignment.bytes.max`
    pub group_assignment_bytes_max: usize,
    /// `offsets.topic.num.partitions`
    pub offsets_topic_partitions: i32,
    /// `offsets.topic.segment.bytes`
    pub offsets_topic_segment_bytes: i32,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_bytes_max: usize,
    /// `millpond.sync.before.ack`
    pub sync_before_ack: bool,
    /// `millpond.sync.threads`
    pub sync_threads: usize,
    /// `millpond.journal.bytes`; 0: there is no journal.
    pub journal_bytes: u64,
    /// `millpond.partition.journal.bytes.max`
    pub partition_journal_bytes_max: usize,
    /// `millpond.disk.reserve.bytes`
    pub disk_reserve_bytes: u64,
    /// `millpond.tail.bytes.max`: of all partitions together.
    pub tail_bytes_max: usize,
    /// `millpond.partition.tail.bytes.max`
    pub partition_tail_bytes_max: usize,
    /// `millpond.open.files.max`
    pub open_files_max: usize,
    /// `millpond.partitions.max`
    pub partitions_max: u64,
}

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// There is no setting of this name.
    #[error("there is no setting '{name}'{}", did_you_mean(*.nearest))]
    Unknown {
        /// The name as it was given.
        name: String,
        /// The setting that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The setting cannot have this value.
    #[error("setting '{name}': {reason}")]
    Invalid {
        /// The setting.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The value is not a setting's but comes from elsewhere.
    #[error("'{name}' cannot be set: {instead}")]
    NotASetting {
        /// The name as it was given.
        name: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// A line of the configuration file is not `name=value`.
    #[error("line {line} is not of the form name=value: '{text}'")]
    NotAPair {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::from_pairs(&[]).expect("the tables' defaults are valid")
    }
}

impl Settings {
    /// Whether small writes become durable by way of the journal.
    pub fn has_journal(&self) -> bool {
        self.sync_before_ack && self.journal_bytes > 0
    }

    /// Checks the pairs by the table of broker configurations. Of a name that comes twice, the later value holds, so
    /// that the command line's can follow the file's.
    pub fn from_pairs(pairs: &[(String, String)]) -> Result<Settings, SettingsError> {
        let mut given = BTreeMap::new();
        for (name, value) in pairs {
            let name = name.trim();
            let Some(definition) = broker_config(name) else {
                let nearest = nearest(name, BROKER_CONFIGS.iter().map(|definition| definition.name));
                return Err(SettingsError::Unknown { name: name.to_owned(), nearest });
            };
            if let Origin::Runtime(instead) = definition.origin {
                return Err(SettingsError::NotASetting { name: name.to_owned(), instead });
            }
            let value =
                definition.check(value).map_err(|reason| SettingsError::Invalid { name: name.to_owned(), reason })?;
            given.insert(name.to_owned(), value);
        }
        let settings = Settings::typed(given);
        if settings.group_session_timeout_ms_min > settings.group_session_timeout_ms_max {
            return Err(SettingsError::Invalid {
                name: "group.min.session.timeout.ms".to_owned(),
                reason: format!(
                    "{} is more than group.max.session.timeout.ms = {}",
                    settings.group_session_timeout_ms_min, settings.group_session_timeout_ms_max
                ),
            });
        }
        Ok(settings)
    }

    /// What was set explicitly, by name.
    pub fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    fn typed(given: BTreeMap<String, String>) -> Settings {
        let text = |name: &str| -> String {
            let default = || broker_config(name).and_then(|definition| definition.default).map(str::to_owned);
            given.get(name).cloned().or_else(default).unwrap_or_else(|| panic!("no default for setting {name}"))
        };
        let long = |name: &str| -> i64 {
            text(name).parse().unwrap_or_else(|_| panic!("setting {name} was checked to be an integer"))
        };
        let int = |name: &str| -> i32 {
            i32::try_from(long(name)).unwrap_or_else(|_| panic!("setting {name} was checked to be a 32-bit integer"))
        };
        let size = |name: &str| -> usize {
            usize::try_from(long(name)).unwrap_or_else(|_| panic!("setting {name} was checked to be a size"))
        };
        let double = |name: &str| -> f64 {
            parse_double(&text(name)).unwrap_or_else(|| panic!("setting {name} was checked to be a number"))
        };
        let boolean = |name: &str| -> bool { text(name).eq_ignore_ascii_case("true") };
        Settings {
            num_partitions: int("num.partitions"),
            auto_create_topics: boolean("auto.create.topics.enable"),
            delete_topics: boolean("delete.topic.enable"),
            request_bytes_max: size("socket.request.max.bytes"),
            queued_request_bytes_max: size("queued.max.request.bytes"),
            connections_max: size("max.connections"),
            connections_idle_ms_max: long("connections.max.idle.ms"),
            fetch_bytes_max: size("fetch.max.bytes"),
            fetch_sessions_max: size("max.incremental.fetch.session.cache.slots"),
            retention_check_interval_ms: long("log.retention.check.interval.ms"),
            compaction_interval_ms: long("log.cleaner.backoff.ms"),
            compaction_keys_bytes_max: size("log.cleaner.dedupe.buffer.size"),
            compaction_bytes_per_second_max: double("log.cleaner.io.max.bytes.per.second"),
            checkpoint_interval_ms: long("log.flush.offset.checkpoint.interval.ms"),
            recovery_threads: size("num.recovery.threads.per.data.dir"),
            producer_id_expiration_ms: long("producer.id.expiration.ms"),
            group_session_timeout_ms_min: int("group.min.session.timeout.ms"),
            group_session_timeout_ms_max: int("group.max.session.timeout.ms"),
            group_initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms"),
            group_members_max: size("group.max.size"),
            groups_max: size("millpond.groups.max"),
            group_offsets_max: size("millpond.group.offsets.max"),
            group_waiting_max: size("millpond.group.waiting.max"),
            group_bytes_max: size("millpond.group.bytes.max"),
            group_member_metadata_bytes_max: size("millpond.group.member.metadata.bytes.max"),
            group_assignment_bytes_max: size("millpond.group.assignment.bytes.max"),
            offsets_topic_partitions: int("offsets.topic.num.partitions"),
            offsets_topic_segment_bytes: int("offsets.topic.segment.bytes"),
            offsets_retention_ms: long("offsets.retention.minutes") * 60_000,
            offsets_retention_check_interval_ms: long("offsets.retention.check.interval.ms"),
            offset_metadata_bytes_max: size("offset.metadata.max.bytes"),
            sync_before_ack: boolean("millpond.sync.before.ack"),
            sync_threads: size("millpond.sync.threads"),
            journal_bytes: long("millpond.journal.bytes").max(0) as u64,
            partition_journal_bytes_max: size("millpond.partition.journal.bytes.max"),
            disk_reserve_bytes: long("millpond.disk.reserve.bytes").unsigned_abs(),
            tail_bytes_max: size("millpond.tail.bytes.max"),
            partition_tail_bytes_max: size("millpond.partition.tail.bytes.max"),
            open_files_max: size("millpond.open.files.max"),
            partitions_max: long("millpond.partitions.max").max(0) as u64,
            given,
        }
    }
}

/// Reads a configuration file like Kafka's `server.properties`: `name=value` lines (or `name: value`), `#` and `!`
/// begin comments, space around names and values does not count.
pub fn parse_properties(text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        match line.split_once(['=', ':']) {
            Some((name, value)) if !name.trim().is_empty() => {
                pairs.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            _ => return Err(SettingsError::NotAPair { line: number + 1, text: line.to_owned() }),
        }
    }
    Ok(pairs)
}
