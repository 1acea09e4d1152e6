//! What queries remember, as it is at one moment, for a backup of the running node.

use std::path::Path;

use super::{RunError, Runner};

impl Runner {
    /// Makes the folder `into` with what all queries remember now, if any ever remembered something. They go on meanwhile.
    pub fn freeze_state(&self, into: &Path) -> Result<(), RunError> {
        let failed = |error: &dyn std::fmt::Display| RunError::State(error.to_string());
        // That of queries that do not run is wanted, too; a store is not made for it.
        if !millpond_disk::exists(&self.options.state_dir).map_err(|error| failed(&error))? {
            return Ok(());
        }
        self.store()?.freeze(into).map_err(|error| failed(&error))
    }
}
