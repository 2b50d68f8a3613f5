//! `/v1/inbox`: what the page does, for programs that people use, such as a terminal or a chat.
//!
//! The caller is a person with an access token of the sign-in's issuer. Who may see and decide what is the same as on
//! the page.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use serde::{Deserialize, Serialize};

use crate::domain::{Ballot, Filter, HistoryEvent, MAX_PAGE, Person, State as ApprovalState, View, VoteRefusal};
use crate::page::Web;
use crate::sign_in::BearerError;
use crate::store::StoreError;

/// Bytes of a body.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Approvals on one page if the caller does not say.
const DEFAULT_LIMIT: usize = 50;

/// The approvers' API.
pub fn router(web: Web) -> Router {
    Router::new()
        .route("/v1/inbox", get(list))
        .route("/v1/inbox/{id}", get(show))
        .route("/v1/inbox/{id}/decision", post(decide))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(web)
}

/// The person whose access token came with the request.
struct Caller(Person);

impl FromRequestParts<Web> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).ok_or(Problem::UNAUTHENTICATED)?;
        web.sign_in.bearer(token).await.map(Self).map_err(|error| match error {
            BearerError::Invalid => Problem::INVALID_TOKEN,
            BearerError::Unavailable => Problem::NO_KEYS,
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
    let filter = parameters.ok().and_then(|Query(parameters)| parameters.filter()).ok_or(Problem::PARAMETERS)?;
    let approvals = web.approvals.inbox(&person, &filter).await?;
    let next = approvals.last().filter(|_| approvals.len() >= filter.limit).map(|last| last.cursor);
    Ok(answer(&Page { approvals, next }))
}

/// `GET /v1/inbox/{id}`.
async fn show(State(web): State<Web>, Caller(person): Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    let view = web.approvals.view(&person, &id).await?.ok_or(Problem::NOT_FOUND)?;
    let history = web.approvals.history(&person, &id).await?.ok_or(Problem::NOT_FOUND)?;
    Ok(answer(&Detail { view, history }))
}

/// `POST /v1/inbox/{id}/decision`.
async fn decide(
    State(web): State<Web>,
    Caller(person): Caller,
    Path(id): Path<String>,
    ballot: Result<Json<Ballot>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(ballot) = ballot.map_err(|rejection| Problem::of_body(&rejection))?;
    let view = web.approvals.vote(&person, &id, ballot).await?.map_err(Problem::of_vote)?;
    Ok(answer(&view))
}

fn answer(body: &impl Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store"), (NOSNIFF.0, NOSNIFF.1)], Json(body)).into_response()
}

const NOSNIFF: (HeaderName, &str) = (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff");

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

/// An error, as RFC 9457 wants it.
#[derive(Clone, Copy, Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: &'static str,
}

impl Problem {
    const UNAUTHENTICATED: Self =
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "An access token of a person is needed.");
    const INVALID_TOKEN: Self =
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "This access token is not taken here.");
    const NO_KEYS: Self =
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_keys", "The issuer's keys cannot be had just now.");
    const PARAMETERS: Self = Self::new(StatusCode::BAD_REQUEST, "malformed", "A parameter is unknown or has no sense.");
    const NOT_FOUND: Self =
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such approval that you may see.");
    const UNAVAILABLE: Self =
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The service cannot reach its data just now.");

    const fn new(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self { status, code, detail }
    }

    fn of_body(rejection: &JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body may have 64 KiB.")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", "The body must be application/json.")
            }
            _ => Self::new(
                StatusCode::BAD_REQUEST,
                "malformed",
                "The body must be an object with `decision` (approve or reject), and `reason` if there is one.",
            ),
        }
    }

    fn of_vote(refusal: VoteRefusal) -> Self {
        let detail = match refusal {
            VoteRefusal::NotFound => return Self::NOT_FOUND,
            VoteRefusal::Requester => "The requester cannot decide.",
            VoteRefusal::RequestersAgent => "Nobody can decide through the client or agent that asks.",
            VoteRefusal::Role => "None of your roles may decide on it now.",
            VoteRefusal::AlreadyVoted => "You have decided already.",
            VoteRefusal::Closed(ApprovalState::Expired) => "Its time has passed.",
            VoteRefusal::Closed(_) => "It is decided.",
            VoteRefusal::ReasonRequired => "A reason is required.",
            VoteRefusal::ReasonTooLong => "A reason may have 500 characters.",
        };
        Self::new(status(refusal), refusal.code(), detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the database fails");
        Self::UNAVAILABLE
    }
}

#[derive(Serialize)]
struct ProblemBody {
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'static str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, detail } = self;
        let title = status.canonical_reason().unwrap_or("Error");
        let mut response = answer(&ProblemBody { title, status: status.as_u16(), code, detail });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = if code == Self::INVALID_TOKEN.code { "Bearer error=\"invalid_token\"" } else { "Bearer" };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
