//! `/v1/inbox`: what the page does, for programs that people use, such as a terminal or a chat.
//!
//! The caller is a person with an access token of the sign-in's issuer. Who may see and decide what is the same as on
//! the page.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::body;
use crate::domain::{Ballot, Filter, HistoryEvent, MAX_PAGE, Person, State as ApprovalState, View, VoteRefusal};
use crate::page::Web;
use crate::problem::Problem;
use crate::sign_in::BearerError;

/// Approvals on one page if the caller does not say.
const DEFAULT_LIMIT: usize = 50;

/// The approvers' API.
pub fn router(web: Web) -> Router {
    Router::new()
        .route("/v1/inbox", get(list))
        .route("/v1/inbox/{id}", get(show))
        .route("/v1/inbox/{id}/decision", post(decide))
        .with_state(web)
}

/// The person whose access token came with the request.
struct Caller(Person);

impl FromRequestParts<Web> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let refused = |code, detail| Problem::new(StatusCode::UNAUTHORIZED, code, detail);
        let missing = || refused("unauthorized", "An access token of a person is needed.");
        let token = bearer(&parts.headers).ok_or_else(missing)?;
        web.sign_in.bearer(token).await.map(Self).map_err(|error| match error {
            BearerError::Invalid => refused("invalid_token", "This access token is not taken here."),
            BearerError::Unavailable => Problem::unavailable(),
        })
    }
}

/// The one bearer token of a request (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

/// Which approvals to list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    state: Option<String>,
    tool: Option<String>,
    requester: Option<String>,
    before: Option<i64>,
    limit: Option<usize>,
}

impl Parameters {
    fn filter(self) -> Option<Filter> {
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let states = match text(self.state) {
            Some(words) => words.split(',').map(ApprovalState::parse).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        (1..=MAX_PAGE).contains(&limit).then(|| Filter {
            states,
            tool: text(self.tool),
            requester: text(self.requester),
            before: self.before,
            limit,
        })
    }
}

#[derive(Serialize)]
struct Page {
    approvals: Vec<View>,
    /// For `before`, where there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

#[derive(Serialize)]
struct Detail {
    #[serde(flatten)]
    view: View,
    history: Vec<HistoryEvent>,
}

/// `GET /v1/inbox`.
async fn list(
    State(web): State<Web>,
    Caller(person): Caller,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let filter = parameters
        .ok()
        .and_then(|Query(parameters)| parameters.filter())
        .ok_or_else(|| Problem::malformed("A parameter is unknown or has no sense."))?;
    let approvals = web.approvals.inbox(&person, &filter).await?;
    let next = approvals.last().filter(|_| approvals.len() >= filter.limit).map(|last| last.cursor);
    Ok(answer(&Page { approvals, next }))
}

/// `GET /v1/inbox/{id}`.
async fn show(State(web): State<Web>, Caller(person): Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    let view = web.approvals.view(&person, &id).await?.ok_or_else(Problem::not_found)?;
    let history = web.approvals.history(&person, &id).await?.ok_or_else(Problem::not_found)?;
    Ok(answer(&Detail { view, history }))
}

/// `POST /v1/inbox/{id}/decision`.
async fn decide(
    State(web): State<Web>,
    Caller(person): Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let ballot: Ballot = body::json(request).await?;
    let view = web.approvals.vote(&person, &id, ballot).await?.map_err(refused)?;
    Ok(answer(&view))
}

fn answer(body: &impl Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")], Json(body)).into_response()
}

/// The HTTP status that goes with a vote that does not count.
pub(crate) const fn status(refusal: VoteRefusal) -> StatusCode {
    match refusal {
        VoteRefusal::NotFound => StatusCode::NOT_FOUND,
        VoteRefusal::Requester | VoteRefusal::RequestersAgent | VoteRefusal::Role | VoteRefusal::AlreadyVoted => {
            StatusCode::FORBIDDEN
        }
        VoteRefusal::Closed(_) => StatusCode::CONFLICT,
        VoteRefusal::ReasonRequired | VoteRefusal::ReasonTooLong => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// A vote that does not count, in words.
fn refused(refusal: VoteRefusal) -> Problem {
    let detail = match refusal {
        VoteRefusal::NotFound => return Problem::not_found(),
        VoteRefusal::Requester => "The requester cannot decide.",
        VoteRefusal::RequestersAgent => "Nobody can decide through the client or agent that asks.",
        VoteRefusal::Role => "None of your roles may decide on it now.",
        VoteRefusal::AlreadyVoted => "You have decided already.",
        VoteRefusal::Closed(ApprovalState::Expired) => "Its time has passed.",
        VoteRefusal::Closed(_) => "It is decided.",
        VoteRefusal::ReasonRequired => "A reason is required.",
        VoteRefusal::ReasonTooLong => "A reason may have 500 characters.",
    };
    Problem::new(status(refusal), refusal.code(), detail)
}
