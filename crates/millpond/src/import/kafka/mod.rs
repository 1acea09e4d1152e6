//! What lies in the folders of an Apache Kafka node in KRaft mode. All of it is only read.
//!
//! - [`LogDir`]: one of its `log.dirs`: whose it is, whether it runs, which partitions are there
//! - [`read_metadata`]: the metadata log `__cluster_metadata-0`, its newest snapshot first
//! - [`Cluster`]: what that log comes to: topics, configurations, and what else there is
//!
//! A record's bytes are those of the message definitions of Apache Kafka 4.3.1 (`metadata/src/main/resources/common/metadata`); older
//! versions of KRaft write versions of the same records that are read, too.

mod cluster;
mod fields;
mod log_dir;
mod metadata_log;
mod record;

pub(super) use cluster::{Cluster, KafkaTopic, ResourceKind};
pub(super) use log_dir::{FoundPartition, LogDir, LogDirError, SkippedFolder};
pub(super) use metadata_log::{METADATA_FOLDER, MetadataLogError, read_metadata};
#[cfg(test)]
pub(super) use record::Record;
