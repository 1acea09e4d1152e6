//! Wrong statements, and exactly what is said about them.

use crate::support::node_with_data;

/// Statement, then what is said.
const REFUSALS: &[(&str, &str)] = &[
    // Syntax.
    ("", "the statement is empty"),
    ("  ; -- nothing\n", "the statement is empty"),
    (
        "SELEC carrier FROM flights",
        "line 1, column 1: a statement begins with SELECT, CREATE, DROP, PAUSE, RESUME, SHOW, DESCRIBE or EXPLAIN, not with `SELEC`; did you mean `SELECT`?",
    ),
    ("SELECT carrier FROM", "line 1, column 20: expected identifier, but the statement ends here"),
    ("SELECT carrier\nFROM flights WHERE", "line 2, column 19: expected an expression, but the statement ends here"),
    ("SELECT 'abc FROM flights", "line 1, column 8: unterminated string literal"),
    (
        "SELECT 1; SELECT 2",
        "line 1, column 11: one statement at a time; a second one begins here with `SELECT`; send each statement as a record of its own",
    ),
    ("SELECT carrier FROM flights flughafen x", "line 1, column 39: the statement should end here, but `x` follows"),
    (
        "CREATE STREM x (a BIGINT)",
        "line 1, column 8: CREATE is followed by STREAM or MATERIALIZED STREAM, not by `STREM`; did you mean `STREAM`?",
    ),
    ("DROP flights", "line 1, column 6: expected STREAM, found `flights`"),
    // Names.
    ("SELECT dep_dely FROM flights", "line 1, column 8: unknown column `dep_dely`; did you mean `dep_delay`?"),
    (
        "SELECT carrier FROM flights WHERE\n  dep_dely > 1",
        "line 2, column 3: unknown column `dep_dely`; did you mean `dep_delay`?",
    ),
    (
        "SELECT carrier FROM flights ORDER BY dep_dely",
        "line 1, column 38: unknown column `dep_dely`; did you mean `dep_delay`?",
    ),
    ("SELECT f.dep_dely FROM flights f", "line 1, column 8: unknown column `f.dep_dely`; did you mean `dep_delay`?"),
    ("SELECT carrier FROM flihgts", "line 1, column 21: unknown stream or topic `flihgts`; did you mean `flights`?"),
    ("SELECT carrier FROM nothing_like_it", "line 1, column 21: unknown stream or topic `nothing_like_it`"),
    ("SELECT uper(carrier) FROM flights", "line 1, column 8: unknown function `uper`; did you mean `upper`?"),
    ("SELECT origin.airPrt FROM flights", "line 1, column 15: unknown field `airPrt`; did you mean `airPort`?"),
    (
        "SELECT carrier, carrier FROM flights",
        "two columns of the result are called `carrier`; give one of them another name with AS",
    ),
    ("DROP STREAM bid", "line 1, column 13: unknown stream `bid`; did you mean `bids`?"),
    (
        "DROP STREAM flights",
        "line 1, column 13: `flights` is a topic, and no registered stream; topics are deleted with Kafka's tools",
    ),
    ("DESCRIBE flihgts", "line 1, column 10: unknown stream or topic `flihgts`; did you mean `flights`?"),
    // Types.
    ("SELECT abs(carrier) FROM flights", "`abs` does not take (VARCHAR); CAST the arguments to types that it takes"),
    ("SELECT sum(carrier) FROM flights", "`sum` does not take (VARCHAR); CAST the arguments to types that it takes"),
    (
        "SELECT carrier FROM flights WHERE dep_delay",
        "WHERE and HAVING need a BOOLEAN, and `dep_delay` is BIGINT; compare it with something",
    ),
    (
        "SELECT CAST(carrier AS NUMBER) FROM flights",
        "there is no type `NUMBER`; types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, BYTES, DATE, TIME, TIMESTAMP(3), ARRAY<t>, MAP<k, v>, ROW<name t, …>",
    ),
    ("SELECT carrier FROM flights WHERE dep_delay > 'abc'", "cannot cast string 'abc' to value of BIGINT type"),
    (
        "SELECT carrier, count(*) FROM flights GROUP BY origin",
        "line 1, column 8: `carrier` is neither grouped by nor aggregated; add it to GROUP BY, or put it into an aggregate function",
    ),
    // Windows.
    (
        "SELECT * FROM TABLE(TUMBL(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '1' MINUTE))",
        "line 1, column 21: unknown table function `TUMBL`; did you mean `TUMBLE`?",
    ),
    (
        "SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime)))",
        "line 1, column 21: TUMBLE lacks its SIZE; write TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
    ),
    (
        "SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTme), INTERVAL '1' MINUTE))",
        "line 1, column 51: unknown column `dateTme`; did you mean `dateTime`?",
    ),
    (
        "SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(price), INTERVAL '1' MINUTE))",
        "line 1, column 51: a window needs an event time of type TIMESTAMP(3), and `price` is BIGINT; declare it so: CREATE STREAM … (`price` TIMESTAMP(3), …)",
    ),
    (
        "SELECT * FROM TABLE(HOP(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '1' MINUTE, INTERVAL '10' SECOND))",
        "line 1, column 21: HOP's size (10000 ms) must be a multiple of its slide (60000 ms); the slide comes first: HOP(TABLE t, DESCRIPTOR(ts), slide, size)",
    ),
    (
        "SELECT * FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '1' MONTH))",
        "line 1, column 71: SIZE must be of a fixed length (days at most, months differ), and `INTERVAL '1' MONTH` is not; write for example INTERVAL '10' SECOND",
    ),
    (
        "SELECT * FROM TABLE(SESSION(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '1' MINUTE))",
        "line 1, column 21: SESSION is not supported yet; the window functions are TUMBLE and HOP",
    ),
    // What a registered query does not do.
    (
        "CREATE MATERIALIZED STREAM m AS SELECT carrier FROM flights ORDER BY carrier",
        "line 1, column 70: ORDER BY is not supported in a registered query; its rows never end, so they are never all there to be sorted",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT carrier FROM flights LIMIT 3",
        "line 1, column 67: LIMIT is not supported in a registered query; a stream goes on for ever; filter with WHERE",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT DISTINCT carrier FROM flights",
        "line 1, column 33: DISTINCT is not supported in a registered query yet; it would keep every row for ever; in a window, GROUP BY does it",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT f.carrier FROM flights f JOIN bids b ON f.dep_delay = b.price",
        "line 1, column 70: JOIN is not supported in a registered query yet; a one-time SELECT can do it",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT carrier, now() AS t FROM flights",
        "line 1, column 49: `now` is not supported in a registered query; a stream computed again must give the same bytes, and this gives something else each time; the record's own time is the column `timestamp`",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT carrier FROM flights WHERE dep_delay IN (SELECT price FROM bids)",
        "line 1, column 67: a sub query in an expression is not supported in a registered query yet; a one-time SELECT can do it",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT carrier, row_number() OVER () AS n FROM flights",
        "line 1, column 49: OVER is not supported in a registered query yet; a one-time SELECT can do it",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT carrier FROM flights UNION SELECT channel FROM bids",
        "line 1, column 67: UNION without ALL is not supported in a registered query; write UNION ALL; telling duplicates would keep every row for ever",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT channel, count(*) AS n FROM bids GROUP BY channel",
        "line 1, column 49: an aggregation without a window never ends, and would change its result for ever; use a window: FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '1' MINUTE)) … GROUP BY window_start, window_end",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT window_start, count(*) AS n FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(`time`), INTERVAL '1' HOUR)) GROUP BY window_start, window_end",
        "`flights` has no declared event time, so nothing tells when a window over it is complete; declare it: CREATE STREAM flights (carrier VARCHAR, dep_delay BIGINT, `time` TIMESTAMP(3), origin ROW<airPort VARCHAR, gate BIGINT>, tailNum VARCHAR, WATERMARK FOR `time` AS `time` - INTERVAL '5' SECOND) WITH (topic = 'flights')",
    ),
    (
        "CREATE MATERIALIZED STREAM m AS SELECT 1 AS one",
        "line 1, column 33: a registered query reads at least one stream, and this SELECT has no FROM",
    ),
    (
        "CREATE MATERIALIZED STREAM m WITH (partitons = 3) AS SELECT carrier FROM flights",
        "line 1, column 36: unknown option `partitons`; did you mean `partitions`?",
    ),
    (
        "CREATE MATERIALIZED STREAM m WITH (partitions = 0) AS SELECT carrier FROM flights",
        "line 1, column 49: partitions is a number from 1 to 1000, not '0'",
    ),
    (
        "CREATE MATERIALIZED STREAM m WITH (key = 'carier') AS SELECT carrier FROM flights",
        "line 1, column 42: unknown column `carier`; did you mean `carrier`?",
    ),
    (
        "CREATE MATERIALIZED STREAM m WITH (start = 'now') AS SELECT carrier FROM flights",
        "line 1, column 44: start is 'earliest' or 'latest', not 'now'",
    ),
    (
        "CREATE MATERIALIZED STREAM flights AS SELECT channel FROM bids",
        "line 1, column 28: the topic `flights` exists already; a stream writes to a topic of its own; choose another name, or delete the topic",
    ),
    (
        "CREATE MATERIALIZED STREAM bids AS SELECT carrier FROM flights",
        "line 1, column 28: the stream `bids` exists already; drop it first, or choose another name",
    ),
    (
        "CREATE MATERIALIZED STREAM _millpond_x AS SELECT carrier FROM flights",
        "line 1, column 28: names that begin with `_millpond` belong to the node",
    ),
    (
        "CREATE MATERIALIZED STREAM `a b` AS SELECT carrier FROM flights",
        "line 1, column 28: a stream is called as a topic can be, and the topic name 'a b' holds ' '; allowed are ASCII letters, digits, '.', '_' and '-'",
    ),
    (
        "CREATE OR REPLACE MATERIALIZED STREAM m AS SELECT carrier FROM flights",
        "line 1, column 8: OR REPLACE is not supported yet; DROP the stream first, or create one with a new name beside it",
    ),
    (
        "CREATE MATERIALIZED STREAM IF NOT EXISTS m AS SELECT carrier FROM flights",
        "line 1, column 28: IF NOT EXISTS is not supported yet; leave it out; a stream that exists already is reported",
    ),
    // Declarations.
    (
        "CREATE TABLE t (id BIGINT PRIMARY KEY)",
        "line 1, column 8: CREATE TABLE (the latest row per key) is not supported yet; CREATE STREAM declares a topic whose records are all kept",
    ),
    (
        "CREATE STREAM s (id BIGINT PRIMARY KEY)",
        "line 1, column 28: PRIMARY KEY and other constraints are not supported yet; a stream keeps every record; the latest row per key is what CREATE TABLE will give",
    ),
    (
        "CREATE STREAM s (id BIGINT, PRIMARY KEY (id))",
        "line 1, column 29: PRIMARY KEY and other constraints are not supported yet; a stream keeps every record; the latest row per key is what CREATE TABLE will give",
    ),
    ("CREATE STREAM s (a BIGINT, a INT)", "line 1, column 28: two columns are called `a`"),
    (
        "CREATE STREAM s (a NUMBER)",
        "line 1, column 18: there is no type `NUMBER`; types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, BYTES, DATE, TIME, TIMESTAMP(3), ARRAY<t>, MAP<k, v>, ROW<name t, …>",
    ),
    (
        "CREATE STREAM s (k INT METADATA FROM 'key')",
        "line 1, column 18: the metadata 'key' are of type VARCHAR, not INT",
    ),
    (
        "CREATE STREAM s (k STRING METADATA FROM 'kee')",
        "line 1, column 41: there is no metadata `kee`; did you mean `key`?",
    ),
    (
        "CREATE STREAM s (ts TIMESTAMP(3), WATERMARK FOR tz AS ts)",
        "line 1, column 49: unknown column `tz`; did you mean `ts`?",
    ),
    (
        "CREATE STREAM s (ts TIMESTAMP(3), WATERMARK FOR ts AS tz - INTERVAL '1' SECOND)",
        "line 1, column 55: unknown column `tz`; did you mean `ts`?",
    ),
    (
        "CREATE STREAM s (ts BIGINT, WATERMARK FOR ts AS ts - 5)",
        "line 1, column 43: the event time must be of type TIMESTAMP(3), and `ts` is BIGINT; event times are read from ISO-8601 text and from milliseconds since 1970",
    ),
    (
        "CREATE STREAM s (ts TIMESTAMP(3), WATERMARK FOR ts AS 7)",
        "line 1, column 55: a watermark must be a TIMESTAMP(3), and this is BIGINT; write for example ts - INTERVAL '5' SECOND",
    ),
    (
        "CREATE STREAM s WITH (topic = 'nowhere')",
        "line 1, column 15: there is no topic `nowhere` whose records could tell the columns; list the columns: CREATE STREAM … (name TYPE, …)",
    ),
    (
        "CREATE STREAM s (a INT) WITH (format = 'avro')",
        "line 1, column 40: the format 'avro' is not supported yet; the only format so far is 'json'",
    ),
    (
        "PAUSE STREAM bids",
        "line 1, column 14: `bids` is declared over a topic and runs no query, so it cannot be paused",
    ),
    (
        "INSERT INTO flights VALUES (1)",
        "line 1, column 1: INSERT is not supported; produce records to the topic with a Kafka client, or let a CREATE MATERIALIZED STREAM … AS SELECT write them",
    ),
    (
        "EXPLAIN SHOW STREAMS",
        "line 1, column 9: EXPLAIN shows what a SELECT or a CREATE MATERIALIZED STREAM would do, and nothing else",
    ),
    // Functions without a bound.
    (
        "SELECT repeat('x', 100000000000) AS x",
        "`repeat` would give about 95367 MiB, more than the 64 MiB that one call may give",
    ),
    (
        "SELECT rpad(carrier, 2000000000) AS x FROM flights",
        "`rpad` would give about 7629 MiB, more than the 64 MiB that one call may give",
    ),
    (
        "SELECT generate_series(TIMESTAMP '2020-01-01 00:00:00', TIMESTAMP '2021-01-01 00:00:00', INTERVAL '1' MILLISECOND) AS x",
        "`generate_series` would give about 241260 MiB, more than the 64 MiB that one call may give",
    ),
    (
        "SELECT range(0, 1000000000000) AS x",
        "`range` would give about 7629395 MiB, more than the 64 MiB that one call may give",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_statement_is_told_what_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let mut wrong = Vec::new();
    for (statement, said) in REFUSALS {
        let error = match node.run(statement).await {
            Ok(rows) => format!("(accepted: {rows:?})"),
            Err(error) => error.to_string(),
        };
        if error != *said {
            wrong.push(format!("{statement}\n  says     {error}\n  expected {said}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_is_too_long_or_too_deep_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    assert_eq!(node.error(&long).await, "the statement is 70009 bytes long; at most 65536 are read");
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(node.error(&deep).await, "the statement is nested more than 50 levels deep");
    let wide = format!("SELECT {} 1 AS x", "1 + ".repeat(10_000));
    // Whether this fits is of no matter; that it comes back is.
    drop(node.run(&wide).await);
    node.stop().await;
}
