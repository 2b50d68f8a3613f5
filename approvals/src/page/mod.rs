//! The page on which people decide.
//!
//! It works without the script; the script counts down and puts in what has changed. Nothing of what others wrote is
//! markup: it goes through `shown`. Answers tell nobody whether an approval that they may not see is there.
//!
//! - `approvals`: the list, one request, and the decision
//! - `sign_in_routes`: signing in and out
//! - `list`, `detail`, `notice`: what pages show; `frame`: what is around them
//! - `shown`, `when`, `words`: text by others, times, and our own words
//! - `live`: news for pages that are open
//! - `headers`, `origin`: what keeps other sites out

mod approvals;
mod assets;
mod detail;
mod frame;
mod headers;
mod list;
mod live;
mod notice;
mod origin;
mod shown;
mod sign_in_routes;
mod when;
mod words;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::sync::Semaphore;
use url::Url;

use crate::Approvals;
use crate::clock::Clock;
use crate::sign_in::SignIn;

/// Bytes of a form.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// What pages and the approvers' API need.
#[derive(Clone, Debug)]
pub struct Web {
    pub(crate) approvals: Approvals,
    pub(crate) sign_in: Arc<SignIn>,
    pub(crate) clock: Clock,
    /// Scheme, host and port under which people reach the page.
    origin: Arc<str>,
    streams: Arc<Semaphore>,
}

impl Web {
    /// For people who reach the service under `public_url`.
    #[must_use]
    pub fn new(approvals: Approvals, sign_in: SignIn, public_url: &Url, clock: Clock) -> Self {
        Self {
            approvals,
            sign_in: Arc::new(sign_in),
            clock,
            origin: public_url.origin().ascii_serialization().into(),
            streams: Arc::new(Semaphore::new(live::MAX_STREAMS)),
        }
    }
}

/// The pages.
pub fn router(web: Web) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/approvals", get(approvals::list))
        .route("/approvals/{id}", get(approvals::show))
        .route("/approvals/{id}/decision", post(approvals::decide))
        .route("/approvals/{id}/events", get(live::of_one))
        .route("/events", get(live::of_list))
        .route("/sign-in", get(sign_in_routes::begin))
        .route("/callback", get(sign_in_routes::finish))
        .route("/sign-out", post(sign_in_routes::end))
        .route("/assets/{name}", get(assets::asset))
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(middleware::from_fn(headers::secure))
        .with_state(web)
}

/// `GET /`.
async fn home() -> Redirect {
    Redirect::to("/approvals")
}

/// Any other address.
async fn nothing(State(web): State<Web>) -> Response {
    notice::Notice::not_found().answer(web.clock.now())
}
