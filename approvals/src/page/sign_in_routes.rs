//! Signing in and out.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::HeaderMap;
use serde::Deserialize;

use super::frame::with_cookies;
use super::notice::Notice;
use super::{Web, origin};
use crate::body;
use crate::sign_in::{Answer, Destination, SignInError};

/// Where somebody wants to go after signing in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Next {
    next: String,
}

/// A form without content of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Bare {
    csrf: String,
}

/// `GET /sign-in?next=`.
pub(super) async fn begin(
    State(web): State<Web>,
    query: Result<Query<Next>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Query(query) = query.unwrap_or_default();
    let next = Destination::of(&query.next);
    if web.sign_in.session(&headers).is_some() {
        return Redirect::to(&next.to_string()).into_response();
    }
    match web.sign_in.begin(next).await {
        Ok((url, cookie)) => with_cookies(Redirect::to(url.as_str()).into_response(), [cookie]),
        Err(error) => failed(&web, &error),
    }
}

/// `GET /callback`: back from the provider.
pub(super) async fn finish(
    State(web): State<Web>,
    answer: Result<Query<Answer>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Ok(Query(answer)) = answer else { return failed(&web, &SignInError::Unknown) };
    match web.sign_in.finish(&headers, answer).await {
        Ok(signed_in) => {
            let response = Redirect::to(&signed_in.next.to_string()).into_response();
            with_cookies(response, signed_in.cookies)
        }
        Err(error) => failed(&web, &error),
    }
}

/// `POST /sign-out`.
pub(super) async fn end(State(web): State<Web>, headers: HeaderMap, request: Request) -> Response {
    let now = web.clock.now();
    let Some(session) = web.sign_in.session(&headers) else {
        return Notice::signed_out_now().answer(now);
    };
    if !origin::is_own(&headers, &web.origin) {
        return Notice::stale_form().answer(now);
    }
    let form: Bare = match body::form(request).await {
        Ok(form) => form,
        Err(error) => return Notice::bad_form(error).answer(now),
    };
    if !web.sign_in.is_csrf_token(&session, &form.csrf) {
        return Notice::stale_form().answer(now);
    }
    with_cookies(Notice::signed_out_now().answer(now), web.sign_in.end(&session))
}

fn failed(web: &Web, error: &SignInError) -> Response {
    tracing::warn!(%error, "nobody was signed in");
    Notice::not_signed_in(error).answer(web.clock.now())
}
