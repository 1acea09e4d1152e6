//! Everything that is linked has a licence that .cargo/deny.toml allows, and comes from crates.io.

use std::collections::BTreeSet;

use cargo_metadata::MetadataCommand;

/// The licences in `allow = [ … ]`.
fn allowed() -> BTreeSet<String> {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cargo/deny.toml");
    let text = std::fs::read_to_string(rules).expect(".cargo/deny.toml");
    let list = text.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).expect("a list of licences").0;
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with these licences: a choice (`OR`, formerly `/`) by one, a sum (`AND`) by all.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut place = 0;
    let met = choice(&words, &mut place, allowed);
    met && place == words.len()
}

fn choice(words: &[&str], place: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = sum(words, place, allowed);
    while words.get(*place) == Some(&"OR") {
        *place += 1;
        // Both sides are read, whatever the first one says.
        met |= sum(words, place, allowed);
    }
    met
}

fn sum(words: &[&str], place: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = term(words, place, allowed);
    while words.get(*place) == Some(&"AND") {
        *place += 1;
        met &= term(words, place, allowed);
    }
    met
}

fn term(words: &[&str], place: &mut usize, allowed: &BTreeSet<String>) -> bool {
    if words.get(*place) == Some(&"(") {
        *place += 1;
        let met = choice(words, place, allowed);
        *place += 1;
        return met && words.get(*place - 1) == Some(&")");
    }
    let mut licence = words.get(*place).copied().unwrap_or_default().to_owned();
    *place += 1;
    if words.get(*place) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words.get(*place + 1).copied().unwrap_or_default());
        *place += 2;
        // An exception only allows more: the licence without it will do.
        return allowed.contains(&licence) || allowed.contains(licence.split(' ').next().unwrap_or_default());
    }
    allowed.contains(&licence)
}

#[test]
fn expressions_are_understood() {
    let allowed: BTreeSet<String> = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned).into();
    for met in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "(MIT OR GPL-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT GPL-3.0", "GPL-2.0 OR (MIT AND LGPL-2.1)"] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn dependencies_may_be_linked() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).exec().expect("cargo metadata");
    let allowed = allowed();
    let mut wrong = Vec::new();
    for package in metadata.packages.iter().filter(|package| !metadata.workspace_members.contains(&package.id)) {
        let licence = package.license.as_deref().unwrap_or("");
        if !is_met(licence, &allowed) {
            wrong.push(format!("{} {} is under '{licence}'", package.name, package.version));
        }
        if !package.source.as_ref().is_some_and(|source| source.is_crates_io()) {
            wrong.push(format!("{} {} comes from {:?}", package.name, package.version, package.source));
        }
    }
    assert!(metadata.packages.len() > 100 && wrong.is_empty(), "{}", wrong.join("\n"));
}
