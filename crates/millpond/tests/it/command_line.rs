//! What the command line says when it is used wrongly, and what `millpond sql` prints.

use std::io::Write;
use std::process::Stdio;

use crate::harness::{DataFolder, millpond};

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = millpond().args(arguments).stdin(Stdio::null()).output().expect("the binary starts");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn wrong_settings_are_named() {
    let (code, said) = refused(&["serve", "--set", "num.partition=3", "--http", "127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("did you mean 'num.partitions'?"), "{said}");
    let (code, said) = refused(&["serve", "--set", "num.partitions"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("NAME=VALUE"), "{said}");
    let (code, said) = refused(&["serve", "--config", "/nowhere/at.all"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("/nowhere/at.all cannot be read"), "{said}");
}

#[test]
fn a_data_folder_that_cannot_be_written_is_told() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().join("data");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"];
    let (code, said) = refused(&[&arguments[..], &[path.to_str().expect("text")]].concat());
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot be written") && said.contains("another folder"), "{said}");
}

#[test]
fn a_node_that_is_not_there_is_told() {
    // Port 1 is nobody's.
    let (code, said) = refused(&["sql", "--server", "http://127.0.0.1:1", "SHOW STREAMS"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("Does `millpond serve` run there?"), "{said}");
    let (code, said) = refused(&["sql", "--server", "https://127.0.0.1:1", "SHOW STREAMS"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("http://HOST:PORT is expected"), "{said}");
}

#[test]
fn a_place_where_no_backup_can_be_is_told() {
    let (code, said) = refused(&["backup", "gs://pond", "--list"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("gs://pond is no place for a backup") && said.contains("s3://bucket/prefix"), "{said}");
    let (code, said) = refused(&["restore", "file:///nowhere/at%20all", "--data", "/nowhere/new"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("/nowhere/at all is no backup"), "{said}");
    let mut without_key = millpond();
    without_key.env_remove("AWS_ACCESS_KEY_ID").args(["restore", "s3://pond/one", "--data", "/nowhere/new"]);
    let output = without_key.output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("AWS_ACCESS_KEY_ID is not set: a bucket is read and written with a key"), "{said}");
}

#[test]
fn rows_are_printed_in_each_format() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &[r#"{"who":"frog","n":1}"#, r#"{"who":"a, \"b\"","n":20}"#]);
    let printed = |format: &str| {
        let output = node.sql(&["--format", format, "SELECT who, n FROM pond"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(printed("json"), "{\"who\":\"frog\",\"n\":1}\n{\"who\":\"a, \\\"b\\\"\",\"n\":20}\n");
    assert_eq!(printed("csv"), "who,n\nfrog,1\n\"a, \"\"b\"\"\",20\n");
    let table = printed("table");
    assert!(table.contains("│ who    ┆  n │") && table.contains("│ frog   ┆  1 │"), "{table}");
    node.stop();
}

#[test]
fn mistakes_are_pointed_at() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &[r#"{"depth":1}"#]);
    let output = node.sql(&["SELECT depth\nFROM pond\nWHERE deph > 1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("3 | WHERE deph > 1\n  |       ^") && said.contains("depth"), "{said}");
    node.stop();
}

#[test]
fn statements_come_from_a_file_and_from_a_pipe() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &[r#"{"n":1}"#, r#"{"n":2}"#]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let script = "-- two statements\nSELECT n FROM pond WHERE n = 1;\nSELECT n FROM pond WHERE n = 2;\n";
    std::fs::write(file.path(), script).expect("written");
    let output = node.sql(&["--format", "csv", "-f", file.path().to_str().expect("text")]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "n\n1\nn\n2\n");

    let mut piped = millpond()
        .args(["sql", "--server", &node.http])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    piped.stdin.take().expect("a pipe").write_all(b"SELECT n FROM pond WHERE n = 2").expect("read");
    let output = piped.wait_with_output().expect("ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"n\":2}\n", "a pipe gets JSON");

    std::fs::write(file.path(), "SELECT n FROM pond;\n\nSELECT x FROM pond;").expect("written");
    let output = node.sql(&["--format", "csv", "-f", file.path().to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "n\n1\n2\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("3 | SELECT x FROM pond;\n  |        ^"), "{said}");
    node.stop();
}

#[test]
fn following_goes_on_with_new_rows() {
    use std::io::{BufRead, BufReader};
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &[r#"{"n":1}"#]);
    let mut following = millpond()
        .args(["sql", "--server", &node.http, "--follow", "SELECT n FROM pond"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(following.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(next(), "{\"n\":1}");
    for n in 2..5 {
        node.produce("pond", &[format!("{{\"n\":{n}}}")]);
        assert_eq!(next(), format!("{{\"n\":{n}}}"));
    }
    following.kill().expect("ours");
    following.wait().expect("ours");
    node.stop();
}

#[test]
fn what_is_no_folder_of_kafkas_is_not_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let (kafka, data) = (folder.path().join("kafka"), folder.path().join("data"));
    let import = || {
        let said =
            refused(&["import", "--from-kafka", kafka.to_str().expect("text"), "--data", data.to_str().expect("text")]);
        assert!(!data.exists(), "nothing is written");
        assert_eq!(said.0, Some(1), "{}", said.1);
        said.1
    };
    assert!(import().contains("cannot be read"), "{}", import());
    std::fs::create_dir(&kafka).expect("made");
    assert!(import().contains("it has no meta.properties. Name its log.dirs with --from-kafka"), "{}", import());
    std::fs::write(kafka.join("meta.properties"), "version=1\ncluster.id=c\nnode.id=1\n").expect("written");
    assert!(import().contains("name that folder with --metadata-log-dir"), "{}", import());
    std::fs::create_dir(kafka.join("__cluster_metadata-0")).expect("made");
    assert!(import().contains("holds no metadata"), "{}", import());
    let ours = DataFolder::new();
    ours.serve().stop();
    let (code, said) = refused(&[
        "import",
        "--from-kafka",
        ours.path().to_str().expect("text"),
        "--data",
        data.to_str().expect("text"),
    ]);
    assert_eq!(code, Some(1));
    assert!(said.contains("its meta.properties is Millpond's"), "{said}");
}
