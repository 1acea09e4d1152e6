//! How many files and connections may the process have open?
//!
//! A partition whose newest records are not synced yet has one file open, and some more of segments that were used lately stay
//! open; each connection is one. A node that had no descriptor left could not even be told so. The system's soft limit is
//! meant for programs that use `select`; a server may have what the hard one allows.

use millpond_metadata::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For everything else: RocksDB, the console, segments that are being rolled or compacted.
const RESERVE: u64 = 1024;

/// Raises the limit as far as that is allowed, and lowers the settings' bounds to what fits it then.
pub(super) fn fit(settings: &mut Settings) {
    fit_to(raise(), settings);
}

fn fit_to(limit: u64, settings: &mut Settings) {
    let wanted = settings
        .partitions_max
        .saturating_add(settings.open_files_max as u64)
        .saturating_add(settings.connections_max as u64)
        .saturating_add(RESERVE);
    if wanted <= limit {
        return;
    }
    let shares = Shares::of(limit);
    let at_most = |setting: usize, share: u64| setting.min(usize::try_from(share).unwrap_or(usize::MAX));
    settings.partitions_max = settings.partitions_max.min(shares.partitions);
    settings.open_files_max = at_most(settings.open_files_max, shares.open_files);
    settings.connections_max = at_most(settings.connections_max, shares.connections);
    tracing::warn!(
        limit,
        partitions_max = settings.partitions_max,
        connections_max = settings.connections_max,
        open_files_max = settings.open_files_max,
        "the process may not have {wanted} files open, so there may be fewer partitions and connections than the settings \
         allow; raise the limit with `ulimit -n`, or LimitNOFILE in systemd's unit"
    );
}

/// What may share a limit.
struct Shares {
    partitions: u64,
    open_files: u64,
    connections: u64,
}

impl Shares {
    fn of(limit: u64) -> Shares {
        Shares { partitions: (limit / 16 * 9).max(1), open_files: (limit / 16).max(1), connections: (limit / 4).max(1) }
    }
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
            let Shares { partitions, open_files, connections } = Shares::of(limit);
            assert!(partitions > 0 && open_files > 0 && connections > 0);
            assert!(limit < 16 || partitions + open_files + connections <= limit - limit / 8, "{limit}");
        }
    }

    #[test]
    fn settings_that_fit_stay_as_they_are_and_others_are_lowered() {
        let mut settings = Settings::default();
        let set = |settings: &mut Settings, partitions, open_files, connections| {
            (settings.partitions_max, settings.open_files_max, settings.connections_max) =
                (partitions, open_files, connections);
        };
        let get = |settings: &Settings| (settings.partitions_max, settings.open_files_max, settings.connections_max);
        set(&mut settings, 10, 20, 30);
        fit_to(60 + RESERVE, &mut settings);
        assert_eq!(get(&settings), (10, 20, 30));
        set(&mut settings, 20_000, 2_000, 10_000);
        fit_to(4096, &mut settings);
        assert_eq!(get(&settings), (4096 / 16 * 9, 256, 1024));
    }
}
