//! What the tools for operators say of the node's files.

use millpond_broker::DataFolder;
use millpond_disk::SimulatedDisk;
use millpond_log::inspect::{Finding, FindingKind, Watch, summarize, verify};

/// Why an operator would worry, though nothing is wrong. `None`: the tools find nothing.
pub(crate) fn inspect(disk: &SimulatedDisk, has_lost_bytes: bool) -> Option<String> {
    let looked = look(disk);
    if disk.is_off() {
        // It went off while they looked.
        return None;
    }
    match looked {
        Ok(findings) => {
            // What no client notices is told to operators and let pass here. The indexes of the newest segment are not synced at a
            // checkpoint, and recovery believes what it finds in them: they can lack entries, or tell of batches that are gone. And
            // leader epochs are forgotten before it is written down that the log starts behind them.
            let is_harmless = |finding: &Finding| {
                matches!(finding.kind, FindingKind::Index | FindingKind::TimeIndex | FindingKind::LeaderEpochs)
            };
            let is_known = |finding: &Finding| has_lost_bytes && is_harmless(finding);
            findings.iter().find(|finding| !is_known(finding)).map(|finding| format!("{finding:?}"))
        }
        Err(error) => Some(error),
    }
}

fn look(disk: &SimulatedDisk) -> Result<Vec<Finding>, String> {
    let folder = DataFolder::read(&disk.root().join("data")).map_err(|error| error.to_string())?;
    let mut findings = folder.findings();
    for (partition, dir) in folder.partitions() {
        let claims = || folder.claims(partition);
        let watch = Watch { claims: &claims, pause: &|| {}, progress: &|_| {} };
        let Some(verified) = verify(dir, &watch).map_err(|error| error.to_string())? else { continue };
        findings.extend(verified.findings);
        summarize(dir).map_err(|error| error.to_string())?;
    }
    Ok(findings)
}
