//! Bodies of requests, read within bounds.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Bytes of a body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a body may take to come.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Reads a JSON body.
///
/// # Errors
/// When it is too long or too slow, is not said to be JSON, or is not what is expected.
pub async fn json<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Problem> {
    if !is_json(request.headers()) {
        let detail = "The body must be application/json.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
    }
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let Ok(body) = tokio::time::timeout(MAX_TIME, body).await else {
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The body did not come in time."));
    };
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body has more than 65536 bytes.")
        } else {
            Problem::malformed("The body could not be read.")
        }
    })?;
    // What serde says names members and places, and can hold a value that is not as expected: only the place is told.
    serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = if error.is_data() { "is not of the expected form" } else { "is not valid JSON" };
        Problem::malformed(format!("The body {what}, at line {line}, column {column}."))
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
