//! Which path is answered by whom.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus_client::encoding::text::encode;
use serde_json::json;

use crate::answer::refusal;
use crate::server::State;
use crate::sql;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/streams", get(streams))
        .route("/sql", post(sql::execute))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_this_way)
        .layer(middleware::from_fn_with_state(state.clone(), own_site_only))
        .with_state(state)
}

async fn own_site_only(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    match state.site.objection(request.headers()) {
        Some(objection) => refusal(StatusCode::FORBIDDEN, "forbidden", objection),
        None => next.run(request).await,
    }
}

async fn nothing_here() -> Response {
    let message = "there is nothing here: GET /health, /ready, /metrics, /streams, or POST /sql";
    refusal(StatusCode::NOT_FOUND, "not_found", message)
}

async fn not_this_way() -> Response {
    let message = "this path takes another method: GET /health, /ready, /metrics, /streams, or POST /sql";
    refusal(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn health() -> Response {
    Json(json!({"status": "alive"})).into_response()
}

async fn ready(Shared(state): Shared<Arc<State>>) -> Response {
    match state.parts() {
        Ok(_) => Json(json!({"status": "ready"})).into_response(),
        Err(reason) => refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason),
    }
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let parts = match state.parts() {
        Ok(parts) => parts,
        Err(reason) => return refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason),
    };
    let mut text = String::new();
    encode(&mut text, &parts.registry).expect("writing to a string does not fail");
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

async fn streams(Shared(state): Shared<Arc<State>>) -> Response {
    match state.parts() {
        Ok(parts) => Json(json!({"streams": parts.engine.streams()})).into_response(),
        Err(reason) => refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason),
    }
}
