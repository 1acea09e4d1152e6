//! What the command line and the configuration file may say.

use millpond_metadata::*;

use crate::harness::settings_of;

fn message(pairs: &[(&str, &str)]) -> String {
    settings_of(pairs).unwrap_err().to_string()
}

#[test]
fn without_settings_the_defaults_hold() {
    let settings = Settings::default();
    assert_eq!((settings.num_partitions, settings.auto_create_topics, settings.sync_before_ack), (1, true, true));
    assert_eq!((settings.group_initial_rebalance_delay_ms, settings.offsets_topic_partitions), (0, 50));
    assert_eq!((settings.offsets_retention_ms, settings.request_bytes_max), (604_800_000, 104_857_600));
    assert!(settings.given().is_empty());
}

#[test]
fn a_later_value_takes_the_place_of_an_earlier_one() {
    let settings = settings_of(&[("num.partitions", "3"), ("num.partitions", " 4 ")]).unwrap();
    assert_eq!(settings.num_partitions, 4);
    assert_eq!(settings.given().get("num.partitions").map(String::as_str), Some("4"));
}

#[test]
fn an_unknown_setting_is_named_with_the_nearest() {
    let text = message(&[("num.partition", "3")]);
    assert_eq!(text, "there is no setting 'num.partition'; did you mean 'num.partitions'?");
    let text = message(&[("xyzzy", "3")]);
    assert_eq!(text, "there is no setting 'xyzzy'");
}

#[test]
fn a_wrong_value_is_named_with_the_reason() {
    let text = message(&[("num.partitions", "many")]);
    assert_eq!(text, "setting 'num.partitions': 'many' is not a 32-bit integer");
    let text = message(&[("num.partitions", "0")]);
    assert_eq!(text, "setting 'num.partitions': '0' is out of bounds; valid: at least 1");
    let text = message(&[("default.replication.factor", "3")]);
    assert!(text.contains("single node") && text.contains("'3'") && text.contains("'1'"), "{text}");
    let text = message(&[("log.cleanup.policy", "compacted")]);
    assert!(text.contains("'compacted' is out of bounds; valid: one of compact, delete"), "{text}");
    let text = message(&[("group.min.session.timeout.ms", "10"), ("group.max.session.timeout.ms", "9")]);
    assert!(text.contains("10 is more than group.max.session.timeout.ms = 9"), "{text}");
}

#[test]
fn what_the_command_line_has_its_own_word_for_is_not_a_setting() {
    let text = message(&[("log.dirs", "/tmp")]);
    assert_eq!(text, "'log.dirs' cannot be set: use --data");
}

#[test]
fn a_file_is_read_like_kafkas() {
    let text = "# a comment\n! another\n\nnum.partitions=3\n  log.retention.ms : 5 \nlog.cleanup.policy=\n";
    let pairs = parse_properties(text).unwrap();
    let plain: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(plain, [("num.partitions", "3"), ("log.retention.ms", "5"), ("log.cleanup.policy", "")]);
    assert_eq!(Settings::from_pairs(&pairs).unwrap().num_partitions, 3);
    let error = parse_properties("a=1\nnonsense\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2 is not of the form name=value: 'nonsense'");
}
