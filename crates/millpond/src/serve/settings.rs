//! Settings from the configuration file and from `--set`.

use std::path::{Path, PathBuf};

use millpond_metadata::{Settings, SettingsError, parse_properties};

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsProblem {
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {}: {source}", path.display())]
    File { path: PathBuf, source: SettingsError },
    #[error(transparent)]
    Flags(SettingsError),
}

/// Reads `name=value` of the command line.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("NAME=VALUE is expected".to_owned()),
    }
}

/// The file's settings, then the command line's over them.
pub(crate) fn read(file: Option<&Path>, flags: &[(String, String)]) -> Result<Settings, SettingsProblem> {
    let mut pairs = Vec::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsProblem::Unreadable { path: path.to_owned(), source })?;
        pairs = parse_properties(&text)
            // What is wrong in the file is said with the file's name, even if a flag would win over it.
            .and_then(|pairs| Settings::from_pairs(&pairs).map(|_| pairs))
            .map_err(|source| SettingsProblem::File { path: path.to_owned(), source })?;
    }
    pairs.extend(flags.iter().cloned());
    Settings::from_pairs(&pairs).map_err(SettingsProblem::Flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("server.properties");
        std::fs::write(&path, "# partitions\nnum.partitions=3\nauto.create.topics.enable = false\n").expect("written");
        let flags = [("num.partitions".to_owned(), "5".to_owned())];
        let settings = read(Some(&path), &flags).expect("known settings");
        assert_eq!((settings.num_partitions, settings.auto_create_topics), (5, false));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("server.properties");
        let said = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read(Some(&path), &[]).expect_err("a mistake").to_string()
        };
        assert!(said("num.partition=3").contains("did you mean 'num.partitions'"));
        assert!(said("\nnonsense").contains("line 2"));
        assert!(said("num.partitions=x").contains("num.partitions"));
        let missing = read(Some(&folder.path().join("none")), &[]).expect_err("no file").to_string();
        assert!(missing.contains("cannot be read"), "{missing}");
        assert_eq!(pair(" a = b=c "), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("ab").is_err());
    }
}
