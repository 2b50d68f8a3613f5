//! Bodies of requests, read within bounds.

use std::time::Duration;

use axum::Form;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Request};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Bytes of a body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Bytes of a form.
const MAX_FORM_BYTES: usize = 16 * 1024;
/// How long a body may take to come.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Reads a JSON body.
///
/// # Errors
/// When it is too long or too slow, is not said to be JSON, or is not what is expected.
pub async fn json<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Problem> {
    if !has_type(request.headers(), "application/json") {
        let detail = "The body must be application/json.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
    }
    let body = bytes(request, MAX_BODY_BYTES).await.map_err(|error| match error {
        BodyError::TooSlow => Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The body did not come in time."),
        BodyError::TooLong => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body has more than 65536 bytes.")
        }
        BodyError::Unreadable => Problem::malformed("The body could not be read."),
    })?;
    // What serde says names members and places, and can hold a value that is not as expected: only the place is told.
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = if error.is_data() { "is not of the expected form" } else { "is not valid JSON" };
        Problem::malformed(format!("The body {what}, at line {line}, column {column}."))
    })
}

/// Reads a form.
///
/// # Errors
/// When it is too long or too slow, or is not such a form.
pub(crate) async fn form<T: DeserializeOwned>(request: Request<Body>) -> Result<T, BodyError> {
    if !has_type(request.headers(), "application/x-www-form-urlencoded") {
        return Err(BodyError::Unreadable);
    }
    let (parts, body) = request.into_parts();
    let body = bytes(Request::from_parts(parts.clone(), body), MAX_FORM_BYTES).await?;
    let Form(form) = Form::from_request(Request::from_parts(parts, Body::from(body)), &())
        .await
        .map_err(|_| BodyError::Unreadable)?;
    Ok(form)
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BodyError {
    /// It did not come in time.
    TooSlow,
    /// It has too many bytes.
    TooLong,
    /// It broke off, or is not of the expected form.
    Unreadable,
}

async fn bytes(request: Request<Body>, max: usize) -> Result<Bytes, BodyError> {
    let body = Limited::new(request.into_body(), max).collect();
    let body = tokio::time::timeout(MAX_TIME, body).await.map_err(|_| BodyError::TooSlow)?;
    let body =
        body.map_err(|error| if error.is::<LengthLimitError>() { BodyError::TooLong } else { BodyError::Unreadable })?;
    Ok(body.to_bytes())
}

fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(expected)
}
