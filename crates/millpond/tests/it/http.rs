//! The console.

use arrow_ipc::reader::StreamReader;

use crate::harness::DataFolder;

fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

/// The body of an answer in chunks.
fn chunked_body(answer: &[u8]) -> Vec<u8> {
    let start = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let mut rest = &answer[start..];
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk's length");
        let length = usize::from_str_radix(&text(&rest[..end]), 16).expect("hexadecimal");
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
}

#[test]
fn health_readiness_metrics_and_streams_are_told() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &["{\"n\":1}"]);
    for path in ["/health", "/ready"] {
        assert_eq!(node.http(&format!("GET {path} HTTP/1.1"), "").0, 200, "{path}");
    }
    let (status, metrics) = node.http("GET /metrics HTTP/1.1", "");
    let metrics = text(&metrics);
    assert_eq!(status, 200);
    assert!(metrics.contains("# EOF") && metrics.contains("# TYPE"), "{metrics}");
    let (status, streams) = node.http("GET /streams HTTP/1.1", "");
    assert_eq!(status, 200);
    assert!(text(&streams).contains("\"streams\":[]"), "{}", text(&streams));
    node.stop();
}

#[test]
fn statements_give_lines_that_say_what_they_are() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &["{\"n\":1}", "{\"n\":2}"]);
    let (status, answer) =
        node.http("POST /sql HTTP/1.1", "SELECT n FROM pond; SELECT n + 1 AS m FROM pond WHERE n = 2");
    assert_eq!(status, 200);
    assert_eq!(
        String::from_utf8(chunked_body(&answer)).expect("text"),
        "{\"columns\":[{\"name\":\"n\",\"type\":\"BIGINT\"}]}\n\
         {\"row\":{\"n\":1}}\n{\"row\":{\"n\":2}}\n\
         {\"done\":{\"rows\":2,\"message\":null,\"notes\":[]}}\n\
         {\"columns\":[{\"name\":\"m\",\"type\":\"BIGINT\"}]}\n\
         {\"row\":{\"m\":3}}\n\
         {\"done\":{\"rows\":1,\"message\":null,\"notes\":[]}}\n"
    );
    let (status, answer) = node.http("POST /sql?limit=1 HTTP/1.1", "SELECT n FROM pond");
    assert_eq!(status, 200);
    assert!(text(&answer).contains("{\"row\":{\"n\":1}}") && !text(&answer).contains("{\"n\":2}"));
    node.stop();
}

#[test]
fn statements_give_arrow_when_asked() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &["{\"n\":1}", "{\"n\":2}"]);
    let head = "POST /sql HTTP/1.1\r\nAccept: application/vnd.apache.arrow.stream";
    let (status, answer) = node.http(head, "SELECT n FROM pond");
    assert_eq!(status, 200);
    let body = chunked_body(&answer);
    let batches: Vec<_> =
        StreamReader::try_new(&body[..], None).expect("an Arrow stream").map(|batch| batch.expect("a batch")).collect();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    assert_eq!(batches[0].schema().field(0).name(), "n");
    assert_eq!(node.http(head, "SELECT 1; SELECT 2").0, 400);
    node.stop();
}

#[test]
fn mistakes_have_a_status_and_a_place() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("pond", &["{\"n\":1}"]);
    let check = |head: &str, body: &str, expected: u16, said: &str| {
        let (status, answer) = node.http(head, body);
        assert_eq!(status, expected, "{}", text(&answer));
        assert!(text(&answer).contains(said), "{}", text(&answer));
    };
    check("POST /sql HTTP/1.1", "SELECT n,\n  m FROM pond", 400, "\"line\":2,\"column\":3");
    check("POST /sql HTTP/1.1", "SELECT n FROM pond; SELECT m FROM pond", 200, "{\"error\":{");
    check("POST /sql HTTP/1.1", "", 400, "no statement");
    check("POST /sql HTTP/1.1", "SELEKT", 400, "syntax");
    check("POST /sql?limit=x HTTP/1.1", "SELECT 1", 400, "limit");
    check("GET /sql HTTP/1.1", "", 405, "POST /sql");
    check("GET /nothing HTTP/1.1", "", 404, "there is nothing here");
    check("POST /sql HTTP/1.1", &" ".repeat(2 << 20), 413, "1048576");
    node.stop();
}

#[test]
fn other_sites_are_kept_out() {
    let data = DataFolder::new();
    let node = data.serve();
    let (status, _) = node.http("POST /sql HTTP/1.1\r\nOrigin: https://evil.example", "SHOW STREAMS");
    assert_eq!(status, 403);
    let (status, _) = node.http("POST /sql HTTP/1.1\r\nHost: rebound.example:9644", "SHOW STREAMS");
    assert_eq!(status, 403);
    let (status, _) = node.http("POST /sql HTTP/1.1", "SHOW STREAMS");
    assert_eq!(status, 200);
    node.stop();
}
