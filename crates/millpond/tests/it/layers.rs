//! Arrows go down only, and crates of one layer do not know each other (docs/design.md, section 3).

use std::collections::BTreeMap;

use cargo_metadata::MetadataCommand;

/// The house plan. Crates that are not made yet have their place already.
const LAYERS: &[&[&str]] = &[
    &["types"],
    &["records", "disk", "security"],
    &["log", "metadata", "coordinator", "formats", "state", "backup"],
    &["broker", "tiered"],
    &["kafka", "streams"],
    &["console"],
    &["millpond", "simulation"],
];

/// Which layer a package's crate is in.
fn layer(package: &str) -> Option<usize> {
    let name = package.strip_prefix("millpond-").unwrap_or(package);
    LAYERS.iter().position(|layer| layer.contains(&name))
}

#[test]
fn crates_know_only_what_lies_below() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata");
    let crates: BTreeMap<&str, _> = metadata
        .packages
        .iter()
        .filter(|package| package.manifest_path.as_str().contains("/crates/"))
        .map(|package| (package.name.as_str(), package))
        .collect();
    assert!(crates.len() >= 13, "the workspace was read: {:?}", crates.keys());
    let mut wrong = Vec::new();
    for (name, package) in &crates {
        let Some(from) = layer(name) else {
            wrong.push(format!("{name} stands in no layer: give it a place in docs/design.md and in this test"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| crates.contains_key(dependency.name.as_str()))
        {
            if layer(&dependency.name).is_none_or(|to| to >= from) {
                wrong.push(format!(
                    "{name} (layer {from}) must not depend on {} ({:?})",
                    dependency.name, dependency.kind
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
