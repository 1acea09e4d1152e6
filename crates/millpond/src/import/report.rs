//! What an import tells when it is over.

use std::io::{self, Write};

use millpond_broker::OFFSETS_TOPIC;

use super::Imported;
use super::groups::Groups;
use super::plan::Plan;

/// Writes the report. `imported`: what the logs came to; none of a dry run.
pub(super) fn write(
    out: &mut impl Write,
    plan: &Plan,
    groups: &Groups,
    imported: Option<&Imported>,
    notes: &[String],
) -> io::Result<()> {
    let bytes = imported.map_or_else(
        || plan.partitions.iter().map(|partition| partition.found.bytes).sum::<u64>(),
        |imported| imported.bytes,
    );
    let begin = if imported.is_some() { "imported" } else { "dry run, nothing was written; to be imported" };
    writeln!(
        out,
        "{begin}: {} topics, {} partitions, {bytes} bytes, {} groups with {} offsets",
        plan.image.topics().len(),
        plan.partitions.len(),
        groups.groups,
        groups.offsets
    )?;
    section(
        out,
        "taken over",
        plan.taken.iter().map(|taken| format!("{}={} of {}", taken.name, taken.value, taken.whose)),
    )?;
    section(out, "left out", plan.left_out.iter().map(|left| format!("{}: {}", left.what, left.why)))?;
    section(
        out,
        "folders left behind",
        plan.skipped.iter().map(|left| format!("{}: {}", left.dir.display(), left.why)),
    )?;
    let mut notes = notes.to_vec();
    if groups.unknown_records > 0 {
        notes.push(format!(
            "{} records in {OFFSETS_TOPIC} are of kinds of groups that Millpond does not have (KIP-848's consumer groups, share \
             groups, streams groups). Offsets are kept; such members join again as classic ones",
            groups.unknown_records
        ));
    }
    if plan.image.topic(OFFSETS_TOPIC).is_none() {
        notes.push("no group has ever committed an offset".to_owned());
    }
    notes.push(
        "what Kafka's server.properties says is not in its folders. Give `millpond serve --config` the settings that matter before the \
         first start, above all log.retention.*: without them records are deleted after 7 days"
            .to_owned(),
    );
    section(out, "notes", notes.into_iter())?;
    out.flush()
}

fn section(out: &mut impl Write, title: &str, lines: impl Iterator<Item = String>) -> io::Result<()> {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(out, "{title}:")?;
    }
    lines.try_for_each(|line| writeln!(out, "  {line}"))
}
