//! What gateways call: `/v1/approvals`. The contract is `openapi.yaml`.

mod credential;
mod preference;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::Serialize;

use crate::body;
use crate::config::{Config, ConfigError};
use crate::domain::{self, is_hex};
use crate::problem::Problem;
use crate::service::{Approvals, Asked, GatewayIdentity};
use crate::store::{Asker, Attached, Refusal};
use credential::Gateways;

/// Steps that can be asked for. The store knows which can be had.
const MAX_STEP: i64 = 1000;

/// The routes.
///
/// # Errors
/// When the credential of a gateway is missing.
pub fn router(approvals: Approvals, config: &Config) -> Result<Router, ConfigError> {
    let gateways = Arc::new(Gateways::load(&config.gateways)?);
    Ok(Router::new()
        .route("/v1/approvals", post(create))
        .route("/v1/approvals/{id}", get(look))
        .route("/v1/approvals/{id}/consume", post(consume))
        .route("/v1/approvals/{id}/cancel", post(cancel))
        .with_state(Api { approvals, gateways }))
}

#[derive(Clone, Debug)]
struct Api {
    approvals: Approvals,
    gateways: Arc<Gateways>,
}

impl Api {
    fn identify(&self, headers: &HeaderMap) -> Result<&GatewayIdentity, Problem> {
        let problem = || Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A gateway's bearer token is needed.");
        self.gateways.identify(headers).ok_or_else(problem)
    }
}

async fn create(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let gateway = api.identify(request.headers())?.clone();
    let wait = preference::wait(request.headers());
    let body: domain::Request = body::json(request).await?;
    body.validate().map_err(|invalid| Problem::malformed(format!("{invalid}.")))?;
    if !gateway.audiences.contains(&body.audience) {
        let detail = "This gateway may not ask for this audience.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "audience", detail));
    }
    match api.approvals.ask(&gateway, &body, wait).await? {
        Asked::State(state, Attached::Yes) => Ok(answer(StatusCode::OK, &state)),
        Asked::State(state, Attached::No) => Ok(answer(StatusCode::CREATED, &state)),
        Asked::TooMany => {
            let detail = "Too many approvals of this requester or gateway wait for people.";
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_pending", detail))
        }
    }
}

/// `?binding=…`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lookup {
    binding: String,
}

async fn look(
    State(api): State<Api>,
    Path(id): Path<String>,
    query: Result<Query<Lookup>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let gateway = api.identify(&headers)?;
    let Ok(Query(Lookup { binding })) = query else {
        return Err(Problem::malformed("The query must be the binding."));
    };
    let asker = asker(gateway, &binding)?;
    let state = api.approvals.look(asker, &id, preference::wait(&headers)).await?;
    state.map(|state| answer(StatusCode::OK, &state)).ok_or_else(Problem::not_found)
}

/// The body of `consume`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Consumption {
    binding: String,
    nonce: String,
    step: i64,
}

/// The answer to `consume`.
#[derive(Debug, Serialize)]
struct Grant<'a> {
    id: &'a str,
    grant: String,
}

async fn consume(State(api): State<Api>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let gateway = api.identify(request.headers())?.clone();
    let Consumption { binding, nonce, step } = body::json(request).await?;
    let asker = asker(&gateway, &binding)?;
    if !is_hex(&nonce, 32) {
        return Err(Problem::malformed("nonce must be 32 lower-case hexadecimal digits."));
    }
    if !(0..=MAX_STEP).contains(&step) {
        return Err(Problem::malformed("step must be 0 or more."));
    }
    match api.approvals.consume(asker, &id, &nonce, step).await? {
        Ok(grant) => Ok(answer(StatusCode::OK, &Grant { id: &id, grant })),
        Err(refusal) => Err(refused(refusal)),
    }
}

fn refused(refusal: Refusal) -> Problem {
    let (status, code, detail) = match refusal {
        Refusal::NotFound => return Problem::not_found(),
        Refusal::Used => (StatusCode::CONFLICT, "used", "The approval was used."),
        Refusal::NotApproved => (StatusCode::CONFLICT, "not_approved", "Nobody has decided yet."),
        Refusal::Ended(domain::State::Rejected) => (StatusCode::GONE, "rejected", "The call was rejected."),
        Refusal::Ended(domain::State::Cancelled) => (StatusCode::GONE, "cancelled", "The request was taken back."),
        Refusal::Ended(_) => (StatusCode::GONE, "expired", "The approval has expired."),
    };
    Problem::new(status, code, detail)
}

/// The body of `cancel`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancellation {
    binding: String,
}

async fn cancel(State(api): State<Api>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let gateway = api.identify(request.headers())?.clone();
    let Cancellation { binding } = body::json(request).await?;
    let state = api.approvals.cancel(asker(&gateway, &binding)?, &id).await?;
    state.map(|state| answer(StatusCode::OK, &state)).ok_or_else(Problem::not_found)
}

fn asker<'a>(gateway: &'a GatewayIdentity, binding: &'a str) -> Result<Asker<'a>, Problem> {
    if !is_hex(binding, 64) {
        return Err(Problem::malformed("binding must be 64 lower-case hexadecimal digits."));
    }
    Ok(Asker { audiences: &gateway.audiences, binding })
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
