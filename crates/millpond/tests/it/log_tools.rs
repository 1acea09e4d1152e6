//! `millpond log` over the folder of a node that runs, was stopped, or was damaged.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::harness::{DataFolder, Node, millpond};

/// Runs `millpond log` over a data folder.
fn log(data: &DataFolder, arguments: &[&str]) -> Output {
    let mut command = millpond();
    command.arg("log").args(arguments).env("MILLPOND_DATA", data.path()).stdin(Stdio::null());
    command.output().expect("the binary starts")
}

/// The lines that it prints, which must succeed.
fn lines(data: &DataFolder, arguments: &[&str]) -> Vec<String> {
    let output = log(data, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

/// The same as JSON.
fn objects(data: &DataFolder, arguments: &[&str]) -> Vec<Value> {
    let lines = lines(data, &[arguments, &["--json"]].concat());
    lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// What it says on stderr when it fails with this code.
fn refused(data: &DataFolder, arguments: &[&str], code: i32) -> String {
    let output = log(data, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Produces records with keys and headers.
fn produce(node: &Node, topic: &str, lines: impl Iterator<Item = String>, arguments: &[&str]) {
    let mut kcat = Command::new("kcat")
        .args(["-P", "-b", &node.kafka, "-t", topic, "-K", "\t", "-X", "message.timeout.ms=30000"])
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat is installed (apt-get install kcat)");
    let mut stdin = kcat.stdin.take().expect("a pipe");
    for line in lines {
        writeln!(stdin, "{line}").expect("kcat reads");
    }
    drop(stdin);
    assert!(kcat.wait().expect("kcat ends").success());
}

fn segment(data: &DataFolder, topic: &str) -> PathBuf {
    data.path().join(format!("{topic}-0/00000000000000000000.log"))
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("a file");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn partitions_are_told_by_their_figures_while_the_node_runs_and_after_it() {
    let data = DataFolder::new();
    let node = data.serve();
    produce(&node, "small", ["a\t1".to_owned(), "b\t2".to_owned()].into_iter(), &["-X", "enable.idempotence=true"]);
    produce(&node, "large", (0..1000).map(|n| format!("{n}\t{}", "x".repeat(100))), &[]);
    let check = |recovery_point: Value| {
        let found = objects(&data, &["inspect", "small:0"]);
        let partition = of_kind(&found, "partition")[0];
        for (name, expected) in [
            ("topic", Value::from("small")),
            ("partition", 0.into()),
            ("start_offset", 0.into()),
            ("end_offset", 2.into()),
            ("segments", 1.into()),
            ("producers", 1.into()),
            ("leader_epoch", 0.into()),
            ("recovery_point", recovery_point),
            ("log_bytes", std::fs::metadata(segment(&data, "small")).expect("a file").len().into()),
        ] {
            assert_eq!(partition[name], expected, "{name}: {partition}");
        }
        assert!(partition["last_timestamp_ms"].as_i64() >= partition["first_timestamp_ms"].as_i64());
        assert_eq!(of_kind(&found, "total")[0]["partitions"], 1);
    };
    check(Value::Null);
    node.stop();
    check(2.into());

    let table = lines(&data, &["inspect"]);
    assert!(table[0].starts_with("TOPIC") && table[0].contains("ALL BYTES"), "{table:#?}");
    assert!(table.iter().any(|line| line.starts_with("millpond-journal.0")), "what is beside them: {table:#?}");
    let by_bytes = objects(&data, &["inspect", "--sort", "bytes", "--segments"]);
    assert_eq!(of_kind(&by_bytes, "partition")[0]["topic"], "large");
    assert_eq!(of_kind(&by_bytes, "segment")[0]["end_offset"], 1000);
    let total = of_kind(&by_bytes, "total")[0]["log_bytes"].as_u64().expect("a number");
    let sum: u64 = of_kind(&by_bytes, "partition").iter().map(|found| found["log_bytes"].as_u64().expect("one")).sum();
    assert_eq!(total, sum);
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &["a"]);
    node.stop();
    for tool in ["inspect", "verify"] {
        let said = refused(&data, &[tool, "pnod"], 2);
        assert!(said.contains("there is no topic 'pnod'") && said.contains("pond"), "{said}");
        let said = refused(&data, &[tool, "pond:3"], 2);
        assert!(said.contains("the topic 'pond' has no partition 3") && said.contains("only 0"), "{said}");
        assert!(refused(&data, &[tool, "pond:x"], 2).contains("TOPIC:PARTITION is expected"));
        let said = refused(&data, &[tool, "--data", "/nowhere"], 2);
        assert!(said.contains("/nowhere cannot be read") && said.contains("--data"), "{said}");
        let empty = tempfile::tempdir().expect("a folder");
        let said = refused(&data, &[tool, "--data", empty.path().to_str().expect("text")], 2);
        assert!(said.contains("is no data folder"), "{said}");
    }
    assert!(refused(&data, &["dump", "pnod:0"], 2).contains("there is no topic 'pnod'"));
    assert!(refused(&data, &["dump", "__consumer_offsets"], 2).contains("there is no topic"));
    let said = refused(&data, &["dump", "/nowhere/00000000000000000000.log"], 2);
    assert!(said.contains("cannot open /nowhere"), "{said}");
    assert!(refused(&data, &["dump", "/nowhere/00000000000000000000.snapshot"], 2).contains("there is no file"));
    assert!(refused(&data, &["dump", "/etc/passwd"], 2).contains("none of the files"));
    assert!(refused(&data, &["dump", "pond:0", "--decode"], 2).contains("there is no schema"));
}

#[test]
fn each_flag_is_explained() {
    for (tool, words) in [("inspect", "RECOVERY"), ("verify", "Exit code"), ("dump", "isvalid")] {
        let output = millpond().args(["log", tool, "--help"]).output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(words) && said.contains("MILLPOND_DATA"), "{said}");
    }
}

#[test]
fn damage_is_found_and_told_with_its_place_and_what_to_do() {
    let data = DataFolder::new();
    let node = data.serve();
    for n in 0..10 {
        node.produce("pond", &[format!("record {n}")]);
    }
    assert!(lines(&data, &["verify"]).last().expect("a summary").ends_with(": 0 findings"));
    node.stop();
    let summary = lines(&data, &["verify", "pond"]);
    assert!(
        summary[0].starts_with("1 partitions, ") && summary[0].contains(" 10 batches, 10 records, "),
        "{summary:?}"
    );

    let path = segment(&data, "pond");
    let before = objects(&data, &["dump", "pond:0"]);
    let third = of_kind(&before, "batch")[3].clone();
    let position = third["position"].as_u64().expect("a number");
    edit(&path, |bytes| bytes[position as usize + 65] ^= 1);
    let output = log(&data, &["verify"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    let place = format!("{}: position {position} offset 3 [crc] ", path.display());
    assert!(said.contains(&place) && said.contains("\n    to do: "), "{said}");
    assert!(said.lines().last().expect("a summary").ends_with(": 1 findings"), "{said}");

    let output = log(&data, &["verify", "--json", "pond:0"]);
    let said = String::from_utf8(output.stdout).expect("text");
    let found: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&found[0]["kind"], &found[0]["about"]), (&"finding".into(), &"crc".into()));
    assert_eq!(found[1]["findings"], 1);

    // What cannot be read at all is another thing.
    let metadata = data.path().join("pond-0/partition.metadata");
    std::fs::remove_file(&metadata).expect("removed");
    std::fs::create_dir(&metadata).expect("made");
    let output = log(&data, &["verify"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("pond-0: not verified, as cannot read"), "{said}");
}

#[test]
fn topics_and_folders_are_compared() {
    let data = DataFolder::new();
    let node = data.serve_with(&["--set", "num.partitions=2"]);
    node.produce("pond", &["a", "b", "c"]);
    node.produce("brook", &["a"]);
    node.stop();
    let (lost, strange) = (data.path().join("pond-1"), data.path().join("lake-0"));
    std::fs::rename(&lost, &strange).expect("renamed");
    let output = log(&data, &["verify"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    for expected in [
        format!("{}: [metadata] the topic 'pond' has a partition 1, and there is no folder for it", lost.display()),
        format!("{}: [metadata] there is no topic 'lake' with a partition 0", strange.display()),
        "it has a line for pond-1, and there is no such folder".to_owned(),
    ] {
        assert!(said.contains(&expected), "{expected}: {said}");
    }
    std::fs::rename(&strange, &lost).expect("renamed");
    assert_eq!(log(&data, &["verify"]).status.code(), Some(0));

    // Another topic's folder under the name.
    let id = data.path().join("brook-0/partition.metadata");
    std::fs::copy(&id, data.path().join("pond-1/partition.metadata")).expect("copied");
    let said = String::from_utf8_lossy(&log(&data, &["verify", "pond"]).stdout).into_owned();
    assert!(said.contains("the topic of this name has id"), "{said}");
}

#[test]
fn batches_and_records_are_shown() {
    let data = DataFolder::new();
    let node = data.serve();
    for n in 0..5 {
        let arguments = ["-X", "enable.idempotence=true", "-H", "colour=blue", "-z", "zstd"];
        produce(&node, "pond", [format!("key {n}\tvalue\u{1b}{n}")].into_iter(), &arguments);
    }
    // Also of a node that runs.
    let all = lines(&data, &["dump", "pond:0", "--records"]);
    node.stop();
    assert_eq!(all.len(), 11, "{all:#?}");
    assert!(all[1].starts_with("baseOffset: 0 lastOffset: 0 count: 1 baseSequence: 0 lastSequence: 0 producerId: "));
    assert!(all[1].contains(" position: 0 CreateTime: ") && all[1].ends_with(" isvalid: true"), "{}", all[1]);
    assert!(all[2].ends_with(" sequence: 0 headers: [colour=blue] key: key 0 payload: value\\u{1b}0"), "{}", all[2]);

    let some = objects(
        &data,
        &["dump", "pond:0", "--from", "2", "--to", "3", "--records", "--keys", "hex", "--values", "none"],
    );
    let records = of_kind(&some, "record");
    let offsets: Vec<i64> = records.iter().map(|record| record["offset"].as_i64().expect("a number")).collect();
    assert_eq!((offsets, of_kind(&some, "batch").len()), (vec![2, 3], 2));
    assert_eq!((&records[0]["key_hex"], &records[0]["value"]), (&"6b65792032".into(), &Value::Null));
    assert_eq!(records[0]["headers"][0]["value"], "blue");

    // By file, by folder, and by a copy.
    let path = segment(&data, "pond");
    let by = |source: &Path| lines(&data, &["dump", source.to_str().expect("text"), "--records"])[1..].to_vec();
    assert_eq!(by(&path), all[1..]);
    assert_eq!(by(path.parent().expect("a folder")), all[1..]);
    let copy = path.with_file_name("copy.log");
    std::fs::copy(&path, &copy).expect("copied");
    assert_eq!(by(&copy), all[1..]);

    // What is behind damage is shown, and what is left of the damaged batch.
    edit(&copy, |bytes| bytes[20..40].fill(0xee));
    let output = log(&data, &["dump", copy.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(said.lines().filter(|line| line.ends_with("isvalid: true")).count(), 4, "{said}");
    assert!(said.contains("isvalid: false") || said.contains("position: 0 damaged: "), "{said}");
}

#[test]
fn the_files_beside_the_batches_are_shown() {
    let data = DataFolder::new();
    let node = data.serve_with(&["--set", "log.index.interval.bytes=0"]);
    for n in 0..3 {
        produce(&node, "pond", [format!("key\t{n}")].into_iter(), &["-X", "enable.idempotence=true"]);
    }
    node.stop();
    let dump = |name: &str| lines(&data, &["dump", data.path().join(name).to_str().expect("text")]);
    let positions: Vec<String> = objects(&data, &["dump", "pond:0"])
        .iter()
        .filter(|found| found["kind"] == "batch")
        .map(|batch| format!("offset: {} position: {}", batch["last_offset"], batch["position"]))
        .collect();
    assert_eq!(dump("pond-0/00000000000000000000.index"), positions[1..], "the first batch needs no entry");
    let times = dump("pond-0/00000000000000000000.timeindex");
    assert!(times.last().expect("one").starts_with("timestamp: 1"), "{times:?}");
    let producers = dump("pond-0/00000000000000000003.snapshot");
    assert!(
        producers.len() == 3 && producers[0].contains(" firstSequence: 0 lastSequence: 0 lastOffset: "),
        "{producers:?}"
    );
    assert_eq!(dump("pond-0/leader-epoch-checkpoint"), ["epoch: 0 startOffset: 0"]);
    assert!(dump("recovery-point-offset-checkpoint").contains(&"topic: pond partition: 0 offset: 3".to_owned()));
    assert_eq!(dump("pond-0/partition.metadata")[0], "version: 0");
    let some = objects(
        &data,
        &["dump", data.path().join("pond-0/00000000000000000000.index").to_str().expect("text"), "--from", "2"],
    );
    assert_eq!((some.len(), &some[0]["offset"]), (1, &2.into()));
    // A damaged one is told.
    edit(&data.path().join("pond-0/leader-epoch-checkpoint"), |bytes| bytes[0] = b'9');
    let output = log(&data, &["dump", data.path().join("pond-0/leader-epoch-checkpoint").to_str().expect("text")]);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"damaged: it holds no leader epochs\n"[..]));
}

#[test]
fn the_nodes_own_topics_are_read_by_their_schemas() {
    let data = DataFolder::new();
    let node = data.serve_with(&["--set", "offsets.topic.num.partitions=1"]);
    node.produce("pond", &["a", "b"]);
    let group = Command::new("kcat")
        .args(["-b", &node.kafka, "-G", "frogs", "-X", "auto.offset.reset=earliest", "-c", "2", "-q", "pond"])
        .output()
        .expect("kcat is installed");
    assert!(group.status.success(), "{group:?}");
    let decoded = |source: &str| -> Vec<Value> {
        let found = objects(&data, &["dump", source, "--decode"]);
        of_kind(&found, "record").iter().map(|record| record["decoded"].clone()).collect()
    };
    let metadata = decoded("__millpond_metadata:0");
    assert!(
        metadata.iter().any(|found| found["record"] == "topic_created" && found["name"] == "pond"),
        "{metadata:#?}"
    );
    let offsets = decoded("__consumer_offsets:0");
    let members =
        offsets.iter().find(|found| found["type"] == "group_metadata" && found["value"]["members"][0].is_object());
    let member = &members.expect("a group with a member")["value"]["members"][0];
    assert_eq!(member["subscribed_topics"], serde_json::json!(["pond"]));
    let commit = offsets.iter().find(|found| found["type"] == "offset_commit").expect("a commit");
    assert_eq!((&commit["group"], &commit["topic"]), (&"frogs".into(), &"pond".into()));
    assert_eq!(commit["value"]["offset"], 2);
    node.stop();
}

#[test]
fn a_reader_who_has_enough_is_no_error() {
    let data = DataFolder::new();
    let node = data.serve();
    produce(&node, "pond", (0..20_000).map(|n| format!("{n}\t{}", "x".repeat(50))), &[]);
    for arguments in [&["log", "dump", "pond:0", "--records"][..], &["log", "dump", "pond:0", "--records", "--json"]] {
        let mut dump = millpond()
            .args(arguments)
            .env("MILLPOND_DATA", data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        BufReader::new(dump.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        // The pipe is closed now.
        let output = dump.wait_with_output().expect("ends");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    node.stop();
}

#[test]
fn a_node_that_writes_rolls_deletes_and_compacts_is_sound_at_any_time() {
    let data = DataFolder::new();
    let settings = [
        // An index entry for each batch and few entries an index: segments of a handful of batches.
        "log.index.interval.bytes=0",
        "log.index.size.max.bytes=200",
        "log.cleanup.policy=compact,delete",
        "log.retention.bytes=200000",
        "log.retention.check.interval.ms=100",
        "log.segment.delete.delay.ms=100",
        "log.cleaner.backoff.ms=100",
        "log.cleaner.min.cleanable.ratio=0.1",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let node = data.serve_with(&settings);
    let is_done = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..20 {
                let records = (0..2000).map(|n| format!("key {}\t{}", n * 7 % 90, "x".repeat(n % 200)));
                let topic = if round % 2 == 0 { "pond" } else { "lake" };
                produce(&node, topic, records, &["-X", "enable.idempotence=true", "-X", "batch.num.messages=50"]);
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let mut looks = 0;
        while !is_done.load(Ordering::SeqCst) {
            let output = log(&data, &["verify"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            assert!(log(&data, &["inspect"]).status.success());
            looks += 1;
        }
        looks
    });
    assert!(looks > 2, "{looks} looks");
    let names: Vec<String> = std::fs::read_dir(data.path().join("pond-0"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.contains(&"compaction-checkpoint".to_owned()), "it was compacted: {names:?}");
    node.kill();
    let killed = log(&data, &["verify"]);
    assert!(killed.status.success(), "{}", String::from_utf8_lossy(&killed.stdout));
    let node = data.serve_with(&settings);
    node.stop();
    let stopped = log(&data, &["verify"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stdout));
}
