//! Statements as records of `_millpond_sql`.

use millpond_broker::ProduceError;
use serde_json::Value;

use crate::support::{Node, node_with_data};

const SQL: &str = "_millpond_sql";

/// The last answers, oldest first, once there are so many in all.
async fn answers(node: &Node, count: usize) -> Vec<Value> {
    let values = node.values("_millpond_answers", count).await;
    values.iter().map(|value| serde_json::from_str(value).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_a_record_and_its_answer_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let before = node.records("_millpond_answers", 0).len();
    node.send(
        SQL,
        0,
        &[(Some("mine"), Some(b"CREATE MATERIALIZED STREAM a AS SELECT carrier FROM flights WHERE dep_delay > 0;\n"))],
    )
    .await
    .unwrap();
    // The answer is there before the producer's.
    let records = node.records("_millpond_answers", 0);
    assert_eq!(records.len(), before + 1);
    let (key, value) = records.last().unwrap().clone();
    assert_eq!(key.as_deref(), Some("mine"));
    let answer: Value = serde_json::from_str(&value.unwrap()).unwrap();
    assert_eq!(answer["status"], "ok");
    assert_eq!(answer["message"], "the stream `a` runs; its results are in the topic `a`");
    assert_eq!(answer["client_id"], "test");
    assert_eq!(answer["principal"], "User:test");
    assert!(answer["time"].as_i64().unwrap() > 0);
    assert_eq!(node.values("a", 1).await, [r#"{"carrier":"AA"}"#]);
    // A SELECT's rows come in its answer.
    node.send(SQL, 0, &[(None, Some(b"SELECT carrier FROM flights"))]).await.unwrap();
    let answer = answers(&node, before + 2).await.pop().unwrap();
    assert_eq!(answer["rows"], serde_json::json!([{"carrier": "AA"}, {"carrier": "UA"}, {"carrier": "AA"}]));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_statement_never_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let (log, told) = (node.records(SQL, 0).len(), node.records("_millpond_answers", 0).len());
    let wrong: &[(Option<&[u8]>, &str)] = &[
        (
            Some(b"SELECT dep_dely FROM flights"),
            "line 1, column 8: unknown column `dep_dely`; did you mean `dep_delay`?",
        ),
        (None, "the record has no value; a statement is the record's value, as text"),
        (Some(b""), "the statement is empty"),
        (Some(b"SELECT \xff"), "the statement is not UTF-8 text: byte 8 is not part of any character"),
    ];
    for (value, said) in wrong {
        let error = node.send(SQL, 0, &[(None, *value)]).await.unwrap_err();
        let ProduceError::Refused { message, record_errors } = error else { panic!("{error}") };
        assert_eq!(message, *said);
        assert_eq!(record_errors, [(0, (*said).to_owned())]);
    }
    assert_eq!(node.records(SQL, 0).len(), log);
    let answer = answers(&node, told + wrong.len()).await[told].clone();
    assert_eq!(answer["status"], "refused");
    assert_eq!(answer["error"]["message"], "unknown column `dep_dely`");
    assert_eq!(answer["error"]["line"], 1);
    assert_eq!(answer["error"]["column"], 8);
    assert_eq!(answer["error"]["hint"], "did you mean `dep_delay`?");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_a_batch_build_on_each_other_and_are_refused_together() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let good: &[u8] = b"CREATE MATERIALIZED STREAM a AS SELECT carrier, dep_delay FROM flights";
    let next: &[u8] = b"CREATE MATERIALIZED STREAM b AS SELECT carrier FROM a WHERE dep_delay > 0";
    let wrong: &[u8] = b"CREATE MATERIALIZED STREAM c AS SELECT nothing FROM a";
    let error = node.send(SQL, 0, &[(None, Some(good)), (None, Some(next)), (None, Some(wrong))]).await.unwrap_err();
    let ProduceError::Refused { message, record_errors } = error else { panic!("{error}") };
    assert!(message.starts_with("statement 3 of the batch: line 1, column 40: unknown column `nothing`"), "{message}");
    assert_eq!(record_errors.len(), 1);
    assert_eq!(record_errors[0].0, 2);
    assert_eq!(node.engine.streams().len(), 1, "only the stream that was there before");
    node.send(SQL, 0, &[(None, Some(good)), (None, Some(next))]).await.unwrap();
    assert_eq!(node.values("b", 1).await, [r#"{"carrier":"AA"}"#]);
    node.stop().await;
}
