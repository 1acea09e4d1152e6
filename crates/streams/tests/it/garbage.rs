//! Nothing that is sent harms the node.

use crate::support::{Node, node_with_data};

/// A small generator of numbers that look random: the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

const GOOD: &[&str] = &[
    "SELECT carrier, dep_delay FROM flights WHERE dep_delay > 1 ORDER BY carrier LIMIT 3",
    "CREATE MATERIALIZED STREAM m WITH (partitions = 2, key = 'carrier') AS SELECT carrier FROM flights",
    "CREATE STREAM s (a BIGINT, t TIMESTAMP(3), WATERMARK FOR t AS t - INTERVAL '5' SECOND) WITH (topic = 'x')",
    "SELECT window_start, COUNT(DISTINCT channel) FILTER (WHERE price > 3) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '1' MINUTE)) GROUP BY window_start HAVING COUNT(*) > 1",
    "SELECT * FROM TABLE(HOP(DATA => TABLE bids, TIMECOL => DESCRIPTOR(dateTime), SLIDE => INTERVAL '1' SECOND, SIZE => INTERVAL '10' SECOND))",
    "WITH a AS (SELECT origin.airPort AS x FROM flights) SELECT x, CASE WHEN x = 'JFK' THEN 1 ELSE 2 END AS y FROM a UNION ALL SELECT 'b', 3",
    "DROP STREAM IF EXISTS zzz",
    "EXPLAIN SELECT upper(carrier), CAST(dep_delay AS DOUBLE) / 2 FROM flights",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_records_of_noise_leave_the_node_serving() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let mut dice = Dice(20_130_101);
    for _ in 0..1_000 {
        let len = dice.roll(60);
        let noise: Vec<u8> = (0..len).map(|_| dice.roll(256) as u8).collect();
        drop(node.send("_millpond_sql", 0, &[(None, Some(&noise))]).await);
    }
    assert_eq!(node.run("SELECT 1 AS one").await.unwrap(), [r#"{"one":1}"#]);
    node.stop().await;
    let node = Node::start(dir.path()).await;
    assert_eq!(node.run("SELECT 1 AS one").await.unwrap(), [r#"{"one":1}"#]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_with_parts_exchanged_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let mut dice = Dice(7);
    let words: Vec<&str> = GOOD.iter().flat_map(|sql| sql.split(' ')).collect();
    for round in 0..600 {
        let mut parts: Vec<&str> = GOOD[round % GOOD.len()].split(' ').collect();
        for _ in 0..1 + dice.roll(3) {
            let at = dice.roll(parts.len());
            match dice.roll(4) {
                0 => drop(parts.remove(at)),
                1 => parts.insert(at, words[dice.roll(words.len())]),
                2 => parts[at] = words[dice.roll(words.len())],
                _ => parts.truncate(at.max(1)),
            }
            if parts.is_empty() {
                parts.push("SELECT");
            }
        }
        let sql = parts.join(" ");
        if let Err(error) = node.run(&sql).await {
            let text = error.to_string();
            assert!(!text.contains("panic") && !text.contains("Internal error"), "{sql}\n{text}");
        }
    }
    node.stop().await;
}
