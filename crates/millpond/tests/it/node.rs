//! The node as Kafka clients and operators see it.

use crate::harness::{DataFolder, millpond};

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("record {number}")).collect()
}

#[test]
fn records_survive_a_clean_stop() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &numbered(0..100));
    assert_eq!(node.consume("pond"), numbered(0..100));
    node.stop();
    let node = data.serve();
    assert_eq!(node.consume("pond"), numbered(0..100));
    node.stop();
}

#[test]
fn records_survive_kill_9() {
    let data = DataFolder::new();
    let mut expected = Vec::new();
    for round in 0..3 {
        let node = data.serve();
        let records = numbered(round * 50..(round + 1) * 50);
        node.produce("pond", &records);
        expected.extend(records);
        assert_eq!(node.consume("pond"), expected);
        node.kill();
    }
    let node = data.serve();
    assert_eq!(node.consume("pond"), expected);
    node.stop();
}

#[test]
fn ctrl_c_is_a_clean_stop_too() {
    let data = DataFolder::new();
    let node = data.serve();
    node.signal("INT");
    assert!(node.exit().success());
}

#[test]
fn a_data_folder_in_use_is_told_and_left_alone() {
    let data = DataFolder::new();
    let node = data.serve();
    let second = millpond()
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .output()
        .expect("the binary starts");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("is in use") && said.contains("another folder"), "{said}");
    assert!(second.stdout.is_empty(), "no ready line");
    node.produce("pond", &["still serving"]);
    node.stop();
}

#[test]
fn an_address_in_use_is_told() {
    let data = DataFolder::new();
    let node = data.serve();
    for (flag, other, address) in [("--listen", "--http", &node.kafka), ("--http", "--listen", &node.http)] {
        let second = millpond()
            .args(["serve", flag, address, other, "127.0.0.1:0", "--data"])
            .arg(DataFolder::new().path())
            .output()
            .expect("the binary starts");
        assert_eq!(second.status.code(), Some(1));
        let said = String::from_utf8_lossy(&second.stderr);
        assert!(said.contains("cannot listen") && said.contains(address.as_str()), "{said}");
    }
    node.stop();
}

#[test]
fn settings_come_from_flags_and_file() {
    let data = DataFolder::new();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "num.partitions=3\nauto.create.topics.enable=false\n").expect("written");
    let path = file.path().to_str().expect("a path of text");
    let node = data.serve_with(&["--config", path, "--set", "auto.create.topics.enable=true"]);
    node.produce("pond", &["a"]);
    let metadata = String::from_utf8(
        std::process::Command::new("kcat").args(["-L", "-b", &node.kafka, "-t", "pond"]).output().expect("kcat").stdout,
    );
    assert!(metadata.expect("text").contains("\"pond\" with 3 partitions"));
    node.stop();
}

#[test]
fn clients_are_sent_to_the_advertised_address() {
    let data = DataFolder::new();
    let node = data.serve_with(&["--advertise", "pond.example:1234"]);
    let output = std::process::Command::new("kcat").args(["-L", "-b", &node.kafka, "-m", "10"]).output().expect("kcat");
    let metadata = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(metadata.contains("pond.example:1234"), "{metadata}");
    node.stop();
}

#[test]
fn who_listens_to_the_world_is_warned() {
    let data = DataFolder::new();
    let node = data.serve_with(&[]);
    assert!(!node.log().contains("NO AUTHENTICATION"), "loopback is nobody else's");
    node.stop();
    // The later flag wins, so this replaces the harness' loopback.
    let data = DataFolder::new();
    let output = millpond()
        .args(["serve", "--listen", "0.0.0.0:0", "--http", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut output = output;
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(output.stdout.as_mut().expect("stdout is a pipe")),
        &mut line,
    )
    .expect("a ready line");
    let killed = std::process::Command::new("kill").args(["-TERM", &output.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let output = output.wait_with_output().expect("the node ends");
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("NO AUTHENTICATION: Kafka clients are served on 0.0.0.0"), "{said}");
}
