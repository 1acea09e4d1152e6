//! `millpond backup` of a node that runs, and what else its socket is asked.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::harness::{DataFolder, millpond, wait_for};

fn backup(data: &Path, backup: &Path) -> Output {
    let mut command = millpond();
    command.arg("backup").arg(backup).arg("--data").arg(data).stdin(Stdio::null());
    command.output().expect("the binary starts")
}

fn taken(data: &Path, to: &Path) -> String {
    let output = backup(data, to);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn frozen(data: &Path) -> Vec<String> {
    let names = std::fs::read_dir(data).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with(".frozen")).collect()
}

fn is_thawed(data: &Path) {
    wait_for("the end of what was frozen", || match frozen(data) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn a_node_is_backed_up_while_it_runs_with_its_streams_and_goes_on() {
    // Its path is longer than a socket's may be.
    let data = DataFolder::named(&format!("{}/data", "long".repeat(40)));
    std::fs::create_dir_all(data.path()).expect("a folder");
    let node = data.serve();
    node.produce("numbers", &["{\"n\":1}", "{\"n\":2}"]);
    node.rows("CREATE MATERIALIZED STREAM twice AS SELECT n * 2 AS n FROM numbers");
    assert_eq!(node.consume_at_least("twice", 2), ["{\"n\":2}", "{\"n\":4}"]);
    let to = data.beside("backup");
    let said = taken(&data.path(), &to);
    assert!(said.starts_with("generation 1: ") && said.contains(" shared "), "{said}");
    is_thawed(&data.path());
    node.produce("numbers", &["{\"n\":3}"]);
    node.consume_at_least("twice", 3);
    taken(&data.path(), &to);
    node.stop();
    // The same when nothing runs.
    assert!(taken(&data.path(), &to).starts_with("generation 3: "));

    for (generation, expected) in [(1, 2), (2, 3), (3, 3)] {
        let again = DataFolder::new();
        let mut command = millpond();
        command.arg("restore").arg(&to).arg("--data").arg(again.path());
        let output = command.args(["--generation", &generation.to_string()]).output().expect("the binary starts");
        assert!(output.status.success(), "{output:?}");
        let node = again.serve();
        assert_eq!(node.consume("numbers").len(), expected);
        node.produce("numbers", &["{\"n\":10}"]);
        let all = node.consume_at_least("twice", expected + 1);
        assert_eq!((all.len(), all.last().map(String::as_str)), (expected + 1, Some("{\"n\":20}")));
        node.stop();
    }
}

#[test]
fn what_is_frozen_lasts_as_long_as_the_connection_of_this_user() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("t", &["1"]);
    let socket = data.path().join(".control.sock");
    let mode = std::fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ask = |request: &[u8]| {
        let mut stream = UnixStream::connect(&socket).expect("somebody listens");
        stream.write_all(request).expect("it reads");
        BufReader::new(stream)
    };
    let answer = |connection: &mut BufReader<UnixStream>| {
        let mut line = String::new();
        connection.read_line(&mut line).expect("an answer");
        line
    };
    for garbage in [&b"{}\n"[..], b"\n", b"{\"thaw\":{}}\n", b"\xff\n", &[b'x'; 70_000]] {
        let line = answer(&mut ask(garbage));
        assert!(line.starts_with("{\"refused\":{\"what\":\""), "{line}");
    }
    assert_eq!(answer(&mut ask(b"{\"check\":{}}\n")), "{\"refused\":{\"what\":\"nothing is frozen\"}}\n");
    let mut first = ask(b"{\"freeze\":{}}\n");
    assert_eq!(answer(&mut first), "{\"folder\":{\"name\":\".frozen-0\"}}\n");
    assert_eq!(frozen(&data.path()), [".frozen-0"]);
    let output = backup(&data.path(), &data.beside("backup"));
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another backup of this node is being taken"), "{said}");
    drop(first);
    is_thawed(&data.path());
    taken(&data.path(), &data.beside("backup"));
    // A node that is killed leaves both; nobody minds.
    let mut second = ask(b"{\"freeze\":{}}\n");
    answer(&mut second);
    node.kill();
    assert_eq!((frozen(&data.path()).len(), socket.exists()), (1, true));
    taken(&data.path(), &data.beside("backup"));
    let node = data.serve();
    assert_eq!(frozen(&data.path()), [""; 0]);
    taken(&data.path(), &data.beside("backup"));
    // One that stops does not wait.
    let mut third = ask(b"{\"freeze\":{}}\n");
    answer(&mut third);
    node.stop();
    assert_eq!((frozen(&data.path()).len(), socket.exists()), (0, false));
}
