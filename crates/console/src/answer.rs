//! Errors as answers.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millpond_streams::{ErrorKind, StatementError};
use serde_json::json;

/// An error of the console itself: there is no place in a statement to point at.
pub(crate) fn refusal(status: StatusCode, kind: &str, message: &str) -> Response {
    let error = json!({"kind": kind, "message": message, "line": null, "column": null, "hint": null});
    (status, Json(json!({ "error": error }))).into_response()
}

/// A statement's error, with the status that says whose fault it is.
pub(crate) fn statement_error(error: &StatementError) -> Response {
    let status = match error.kind {
        ErrorKind::Syntax | ErrorKind::Unknown | ErrorKind::Invalid | ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Limit => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Execution => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(json!({ "error": error }))).into_response()
}
