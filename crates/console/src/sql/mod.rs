//! `POST /sql`: statements in, rows out.
//!
//! The body is SQL, one statement or several with `;` between them, UTF-8. They are executed in order; the first that
//! is wrong ends the request. Query parameters: `follow=true` lets a last SELECT go on for ever, `limit=N` bounds the rows
//! of each.
//!
//! # JSON lines (`application/x-ndjson`), the default
//!
//! Every line is an object with one member that says what it is:
//!
//! ```text
//! {"columns":[{"name":"carrier","type":"VARCHAR"},{"name":"n","type":"BIGINT"}]}
//! {"row":{"carrier":"UA","n":17}}
//! {"row":{"carrier":"B6","n":4}}
//! {"done":{"rows":2,"message":null,"notes":[]}}
//! ```
//!
//! A statement without rows has no `columns`, and its message in `done`. With several statements one such sequence
//! follows the other. What is wrong with the first statement is an HTTP status and `{"error":…}`; what goes wrong
//! later, when the status is sent already, is a last line `{"error":{"kind","message","line","column","hint"}}`. An answer that ends
//! with neither `done` nor `error` was cut off. Line and column count from the body's start.
//!
//! # Arrow (`Accept: application/vnd.apache.arrow.stream`)
//!
//! An Arrow IPC stream of the rows, of one statement only. A statement without rows gives its message as one row. An
//! error while rows are sent cuts the answer off before the end-of-stream mark.

mod arrow_stream;
mod lines;
mod script;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use millpond_broker::ClientContext;
use millpond_streams::{ErrorKind, ExecuteOptions, StatementError};
use serde::Deserialize;

use crate::answer::{refusal, statement_error};
use crate::server::State;

const JSON_LINES_TYPE: &str = "application/x-ndjson";
const ARROW_TYPE: &str = "application/vnd.apache.arrow.stream";

/// The request's parameters.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Parameters {
    #[serde(default)]
    follow: bool,
    limit: Option<usize>,
}

/// Executes the statements in a request's body.
pub(crate) async fn execute(
    Shared(state): Shared<Arc<State>>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Query(parameters) = match parameters {
        Ok(parameters) => parameters,
        Err(rejection) => return refusal(StatusCode::BAD_REQUEST, "invalid", &rejection.body_text()),
    };
    let Ok(place) = state.sql_requests.clone().try_acquire_owned() else {
        let message = format!("{} SQL requests are served already: try again", state.options.sql_requests_max);
        return refusal(StatusCode::TOO_MANY_REQUESTS, "limit", &message);
    };
    let engine = match state.parts() {
        Ok(parts) => parts.engine.clone(),
        Err(reason) => return refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason),
    };
    let text = match statement_text(&state, body).await {
        Ok(text) => text,
        Err(refused) => return refused,
    };
    let statements = match engine.statements(&text) {
        Ok(statements) if statements.is_empty() => {
            return statement_error(&StatementError::new(ErrorKind::Syntax, "the body holds no statement"));
        }
        Ok(statements) => script::locate(&text, statements),
        Err(error) => return statement_error(&error),
    };
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("http");
    let client =
        ClientContext { client_id: agent.to_owned(), principal: "User:ANONYMOUS".to_owned(), host: "http".to_owned() };
    let options = ExecuteOptions { follow: parameters.follow, row_limit: parameters.limit, client };
    let accepts_arrow = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accepted| accepted.to_str().is_ok_and(|accepted| accepted.contains(ARROW_TYPE)));
    if accepts_arrow && statements.len() > 1 {
        let message = "an Arrow stream holds the rows of one statement; send one, or take JSON lines";
        return refusal(StatusCode::BAD_REQUEST, "invalid", message);
    }
    // The first statement is begun before the status is sent, so that the status can say that it is wrong.
    let first = match engine.execute(&statements[0].text, options.clone()).await {
        Ok(first) => first,
        Err(error) => return statement_error(&statements[0].place(error)),
    };
    let (content_type, body) = if accepts_arrow {
        match arrow_stream::body(first) {
            Ok(chunks) => (ARROW_TYPE, Body::from_stream(holding(chunks, place))),
            Err(error) => return statement_error(&error),
        }
    } else {
        (JSON_LINES_TYPE, Body::from_stream(holding(lines::body(engine, statements, first, options), place)))
    };
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// Keeps a place until the answer has ended or its reader is gone.
fn holding<S: futures::Stream>(stream: S, place: impl Send) -> impl futures::Stream<Item = S::Item> {
    stream.map(move |item| {
        let _held = &place;
        item
    })
}

async fn statement_text(state: &State, body: Body) -> Result<String, Response> {
    let bytes_max = state.options.sql_bytes_max;
    let patience = Duration::from_millis(state.options.sql_body_ms_max);
    let bytes = match tokio::time::timeout(patience, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            let message = format!("the body could not be read, or is longer than {bytes_max} bytes");
            return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, "limit", &message));
        }
        Err(_) => {
            let message = format!("the body did not arrive within {} ms", patience.as_millis());
            return Err(refusal(StatusCode::REQUEST_TIMEOUT, "limit", &message));
        }
    };
    String::from_utf8(bytes.into())
        .map_err(|_| refusal(StatusCode::BAD_REQUEST, "syntax", "the body is not UTF-8 text"))
}
