//! Pages that say why there is nothing to see.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};

use super::frame::{Frame, answer};
use crate::body::BodyError;
use crate::domain::UnixSeconds;
use crate::sign_in::{Destination, SignInError};

/// A short page: a title, some lines, and ways out.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Notice {
    status: StatusCode,
    title: &'static str,
    lines: Vec<&'static str>,
    links: Vec<Link>,
}

#[derive(Debug, Eq, PartialEq)]
struct Link {
    label: &'static str,
    href: String,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct Page<'a> {
    frame: Frame<'a>,
    notice: &'a Notice,
}

impl Notice {
    fn new(status: StatusCode, title: &'static str, lines: &[&'static str]) -> Self {
        Self { status, title, lines: lines.to_vec(), links: Vec::new() }
    }

    fn link(mut self, label: &'static str, href: impl Into<String>) -> Self {
        self.links.push(Link { label, href: href.into() });
        self
    }

    /// Nobody has signed in. The same for every address, whether there is something or not.
    pub(super) fn signed_out(next: &Destination) -> Self {
        let lines = ["People decide here on calls that a gateway holds.", "Sign in to see what waits for you."];
        Self::new(StatusCode::UNAUTHORIZED, "Sign in to approvals", &lines).link("Sign in", next.sign_in())
    }

    /// Somebody has just signed out.
    pub(super) fn signed_out_now() -> Self {
        let lines = ["You have signed out of approvals. Your identity provider may still know you."];
        Self::new(StatusCode::OK, "Signed out", &lines).link("Sign in again", Destination::home().sign_in())
    }

    /// There is nothing, or not for this person: one answer.
    pub(super) fn not_found() -> Self {
        let lines = [
            "There is no such request, or your account has no role that may see it.",
            "If somebody has sent you this link, ask them which role is needed.",
        ];
        Self::new(StatusCode::NOT_FOUND, "Nothing to see here", &lines).link("All requests", "/approvals")
    }

    /// A form that did not come from a page of this session.
    pub(super) fn stale_form() -> Self {
        let lines = [
            "The form was not sent from a page of your present session, so nothing was decided.",
            "Open the request again and decide there.",
        ];
        Self::new(StatusCode::FORBIDDEN, "Nothing was decided", &lines).link("All requests", "/approvals")
    }

    /// A form that is not one of ours, or did not come as a whole.
    pub(super) fn bad_form(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            BodyError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Unreadable => StatusCode::BAD_REQUEST,
        };
        let lines = ["The form could not be read, so nothing was decided."];
        Self::new(status, "Nothing was decided", &lines).link("All requests", "/approvals")
    }

    /// The database fails.
    pub(super) fn broken() -> Self {
        let lines = ["The service cannot reach its data. Nothing was changed. Try again in a moment."];
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Not available now", &lines).link("Try again", "/approvals")
    }

    /// Somebody was not signed in.
    pub(super) fn not_signed_in(error: &SignInError) -> Self {
        let (status, title, line) = match error {
            SignInError::Unavailable(_) => (
                StatusCode::BAD_GATEWAY,
                "Signing in is not possible now",
                "The identity provider does not answer. Try again in a moment.",
            ),
            SignInError::Unfit(_) => (
                StatusCode::BAD_GATEWAY,
                "You were not signed in",
                "The identity provider cannot be used as it is. Tell those who run this service: its log says why.",
            ),
            SignInError::Refused(_) => (
                StatusCode::FORBIDDEN,
                "You were not signed in",
                "The identity provider has refused, or you have cancelled.",
            ),
            SignInError::Unknown => (
                StatusCode::BAD_REQUEST,
                "You were not signed in",
                "This sign-in was not begun in this browser, or it took too long. Begin again.",
            ),
            SignInError::Token(_) => (
                StatusCode::BAD_GATEWAY,
                "You were not signed in",
                "What the identity provider has sent cannot be relied on. Tell those who run this service.",
            ),
            SignInError::TooLarge => (
                StatusCode::FORBIDDEN,
                "You were not signed in",
                "Your account has more roles than fit. Those who run this service can choose a narrower claim.",
            ),
            SignInError::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "You were not signed in",
                "The service could not begin a session. Tell those who run it.",
            ),
        };
        Self::new(status, title, &[line]).link("Sign in again", Destination::home().sign_in())
    }

    /// As an answer.
    pub(super) fn answer(&self, now: UnixSeconds) -> Response {
        self.answer_in(Frame::plain(now))
    }

    /// As an answer to somebody who has signed in.
    pub(super) fn answer_in(&self, frame: Frame<'_>) -> Response {
        let mut response = answer(self.status, &Page { frame, notice: self });
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 wants a challenge; there is no scheme for pages that set cookies.
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Cookie realm=\"approvals\""));
        }
        response
    }
}
