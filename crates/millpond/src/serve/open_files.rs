//! How many files and connections may the process have open?
//!
//! Each partition keeps its newest segment's file open, and a few older ones that were read; each connection is one more. A
//! node that had no descriptor left could not even be told so. The system's soft limit is meant for programs that use
//! `select`; a server may have what the hard one allows.

use millpond_broker::OPEN_SEGMENTS_MAX;
use millpond_metadata::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files of one partition, at most: the newest segment's, and those of older ones.
const FILES_A_PARTITION: u64 = 1 + OPEN_SEGMENTS_MAX as u64;

/// For everything else: RocksDB, the console.
const RESERVE: u64 = 1024;

/// Raises the limit as far as that is allowed, and lowers the settings' bounds to what fits it then.
pub(super) fn fit(settings: &mut Settings) {
    fit_to(raise(), settings);
}

fn fit_to(limit: u64, settings: &mut Settings) {
    let files = settings.partitions_max.saturating_mul(FILES_A_PARTITION);
    let wanted = files.saturating_add(settings.connections_max as u64).saturating_add(RESERVE);
    if wanted <= limit {
        return;
    }
    let (partitions, connections) = shares(limit);
    settings.partitions_max = settings.partitions_max.min(partitions);
    settings.connections_max = settings.connections_max.min(usize::try_from(connections).unwrap_or(usize::MAX));
    tracing::warn!(
        limit,
        partitions_max = settings.partitions_max,
        connections_max = settings.connections_max,
        "the process may not have {wanted} files open, so there may be fewer partitions and connections than the settings \
         allow; raise the limit with `ulimit -n`, or LimitNOFILE in systemd's unit"
    );
}

/// Partitions and connections, at most, that share `limit`.
fn shares(limit: u64) -> (u64, u64) {
    ((limit / 2 / FILES_A_PARTITION).max(1), (limit / 4).max(1))
}

/// What the soft limit is when it was raised to the hard one.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum.unwrap_or(u64::MAX);
    }
    current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_leaves_room_for_the_rest() {
        for limit in [1, 256, 1024, 4096, 20_000] {
            let (partitions, connections) = shares(limit);
            assert!(partitions > 0 && connections > 0);
            assert!(limit < 8 || FILES_A_PARTITION * partitions + connections <= limit - limit / 4, "{limit}");
        }
    }

    #[test]
    fn settings_that_fit_stay_as_they_are_and_others_are_lowered() {
        let mut settings = Settings::default();
        (settings.partitions_max, settings.connections_max) = (10, 10);
        let needed = 10 * FILES_A_PARTITION + 10 + RESERVE;
        fit_to(needed, &mut settings);
        assert_eq!((settings.partitions_max, settings.connections_max), (10, 10));
        (settings.partitions_max, settings.connections_max) = (20_000, 10_000);
        fit_to(4096, &mut settings);
        assert_eq!((settings.partitions_max, settings.connections_max), (4096 / 2 / FILES_A_PARTITION, 1024));
    }
}
