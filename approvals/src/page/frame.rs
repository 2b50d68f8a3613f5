//! What all pages have around them, and how a page becomes an answer.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, SET_COOKIE};

use super::assets::{ASSETS, Assets};
use super::shown::Shown;
use crate::domain::UnixSeconds;

/// Around every page.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// The server's clock, for the countdown.
    pub(super) now: UnixSeconds,
    /// Where the script hears of changes.
    pub(super) events: Option<String>,
    /// What a screen reader is told when it differs from before.
    pub(super) news: Option<&'a str>,
    /// Who has signed in.
    pub(super) person: Option<Reader<'a>>,
    pub(super) assets: &'static Assets,
}

/// Who reads the page.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) name: Shown<'a>,
    pub(super) subject: Shown<'a>,
    pub(super) csrf: String,
}

impl Frame<'_> {
    /// Around a page that does not change, for somebody who is not known.
    pub(super) fn plain(now: UnixSeconds) -> Self {
        Self { now, events: None, news: None, person: None, assets: &ASSETS }
    }
}

/// A page as an answer.
pub(super) fn answer(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => {
            (status, [(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], html).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Adds cookies to an answer.
pub(super) fn with_cookies(mut response: Response, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}
