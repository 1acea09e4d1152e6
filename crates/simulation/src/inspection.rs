//! What the tools for operators say of the node's files.

use millpond_broker::DataFolder;
use millpond_disk::SimulatedDisk;
use millpond_log::inspect::{Finding, Watch, summarize, verify};

/// Why an operator would worry, though nothing is wrong. `None`: the tools find nothing.
pub(crate) fn inspect(disk: &SimulatedDisk) -> Option<String> {
    let looked = look(disk);
    if disk.is_off() {
        // It went off while they looked.
        return None;
    }
    match looked {
        Ok(findings) => findings.first().map(|finding| format!("{finding:?}")),
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
