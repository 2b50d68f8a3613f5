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

use axum::response::Redirect;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::sync::Semaphore;
use url::Url;

use crate::Approvals;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::sign_in::{Secrets, SignIn};

/// What pages and the approvers' API need.
#[derive(Clone, Debug)]
pub struct Web {
    pub(crate) approvals: Approvals,
    pub(crate) sign_in: Arc<SignIn>,
    pub(crate) clock: Clock,
    /// Scheme, host and port under which people reach the page.
    origin: Arc<str>,
    streams: Arc<Semaphore>,
    stream_counts: live::StreamCounts,
}

impl Web {
    /// For people who reach the service under `public_url`.
    #[must_use]
    pub fn new(approvals: Approvals, sign_in: SignIn, public_url: &Url) -> Self {
        Self {
            clock: approvals.clock().clone(),
            approvals,
            sign_in: Arc::new(sign_in),
            origin: public_url.origin().ascii_serialization().into(),
            streams: Arc::new(Semaphore::new(live::MAX_STREAMS)),
            stream_counts: live::StreamCounts::default(),
        }
    }

    /// As configured; `None` if nobody can sign in.
    ///
    /// # Errors
    /// When a secret is missing, or the configuration cannot be used.
    pub fn from_config(approvals: &Approvals, config: &Config) -> Result<Option<Self>, ConfigError> {
        let Some(sign_in) = &config.sign_in else {
            if config.approver_tokens.is_some() {
                let problem = "needs sign_in, whose issuer makes the tokens".to_owned();
                return Err(ConfigError::Unusable("approver_tokens".to_owned(), problem));
            }
            return Ok(None);
        };
        let (secrets, clock) = (Secrets::from_env(config)?, approvals.clock().clone());
        let sign_in = SignIn::new(sign_in, config.approver_tokens.as_ref(), &config.public_url, secrets, clock)?;
        Ok(Some(Self::new(approvals.clone(), sign_in, &config.public_url)))
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
        .layer(middleware::from_fn(headers::secure))
        .with_state(web)
}

/// `GET /`.
async fn home() -> Redirect {
    Redirect::to("/approvals")
}
