//! Seeing and deciding.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::HeaderMap;
use http::{StatusCode, Uri};
use serde::Deserialize;

use super::assets::ASSETS;
use super::detail::{self, RequestPage};
use super::frame::{Frame, Reader, answer, with_cookies};
use super::list::{self, ListPage};
use super::notice::Notice;
use super::shown::Shown;
use super::words::{Standing, Status};
use super::{Web, origin};
use crate::approver_api;
use crate::body::{self, BodyError};
use crate::domain::{Ballot, Choice, Person, VoteRefusal};
use crate::sign_in::{Destination, Session};
use crate::store::StoreError;

/// The form of a decision.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Decision {
    csrf: String,
    decision: String,
    reason: String,
}

/// `GET /approvals`.
pub(super) async fn list(
    State(web): State<Web>,
    query: Result<Query<list::Query>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(session) = web.sign_in.session(&headers) else { return signed_out(&web, &uri) };
    let person = session.person();
    // An address that makes no sense leads to the list all the same.
    let Query(query) = query.unwrap_or_default();
    let views = match web.approvals.inbox(&person, &query.filter()).await {
        Ok(views) => views,
        Err(error) => return broken(&web, &error),
    };
    let now = web.clock.now();
    let query_text = uri.query().unwrap_or_default();
    let events = format!("/events?seen={}&{query_text}", list::version(&views));
    let frame = frame(&web, &session, &person, Some(events), None);
    let page = ListPage::new(frame, &query, &views, !person.roles.is_empty(), now);
    renewed(&web, &session, &headers, answer(StatusCode::OK, &page))
}

/// `GET /approvals/{id}`.
pub(super) async fn show(State(web): State<Web>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(session) = web.sign_in.session(&headers) else { return signed_out(&web, &uri) };
    let response = one(&web, &session, &id, StatusCode::OK, None).await;
    renewed(&web, &session, &headers, response)
}

/// `POST /approvals/{id}/decision`.
pub(super) async fn decide(
    State(web): State<Web>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let now = web.clock.now();
    let Some(session) = web.sign_in.session(&headers) else {
        return Notice::signed_out(&Destination::of(&format!("/approvals/{id}"))).answer(now);
    };
    if !origin::is_own(&headers, &web.origin) {
        return Notice::stale_form().answer(now);
    }
    // Nobody else can make the service wait for a body.
    let form: Decision = match body::form(request).await {
        Ok(form) => form,
        Err(error) => return Notice::bad_form(error).answer(now),
    };
    if !web.sign_in.is_csrf_token(&session, &form.csrf) {
        return Notice::stale_form().answer(now);
    }
    let decision = match form.decision.as_str() {
        "approve" => Choice::Approve,
        "reject" => Choice::Reject,
        _ => return Notice::bad_form(BodyError::Unreadable).answer(now),
    };
    // A form sends line breaks as CR and LF, which count twice.
    let reason = form.reason.replace("\r\n", "\n");
    let ballot = Ballot { decision, reason: (!reason.trim().is_empty()).then(|| reason.clone()) };
    match web.approvals.vote(&session.person(), &id, ballot).await {
        Ok(Ok(_)) => Redirect::to(&Destination::of(&format!("/approvals/{id}")).to_string()).into_response(),
        Ok(Err(refusal)) => {
            let status = approver_api::status(refusal);
            one(&web, &session, &id, status, Some((refusal, reason))).await
        }
        Err(error) => broken(&web, &error),
    }
}

/// The page of a request; with what went wrong, if somebody has tried to decide.
async fn one(
    web: &Web,
    session: &Session,
    id: &str,
    status: StatusCode,
    refused: Option<(VoteRefusal, String)>,
) -> Response {
    let person = session.person();
    let found = async {
        let view = web.approvals.view(&person, id).await?;
        let history = web.approvals.history(&person, id).await?;
        Ok::<_, StoreError>(view.zip(history))
    };
    let (view, history) = match found.await {
        Ok(Some(found)) => found,
        Ok(None) => return Notice::not_found().answer_in(frame(web, session, &person, None, None)),
        Err(error) => return broken(web, &error),
    };
    let events = format!("/approvals/{}/events?seen={}", view.id, detail::version(&view));
    let frame = frame(web, session, &person, Some(events), Some(Status::of(view.state).sentence));
    let mut page = RequestPage::new(frame, &view, &history, &person, web.clock.now());
    page.csrf = web.sign_in.csrf_token(session);
    if let Some((refusal, reason)) = refused {
        page.alert = Some(Standing::of_code(refusal.code()));
        page.reason_is_wrong = matches!(refusal, VoteRefusal::ReasonRequired | VoteRefusal::ReasonTooLong);
        page.reason = reason;
    }
    answer(status, &page)
}

fn frame<'a>(
    web: &Web,
    session: &Session,
    person: &'a Person,
    events: Option<String>,
    news: Option<&'a str>,
) -> Frame<'a> {
    let reader = Reader {
        name: Shown::new(person.name.as_deref().unwrap_or(&person.subject)),
        subject: Shown::plain(&person.subject),
        csrf: web.sign_in.csrf_token(session),
    };
    Frame { now: web.clock.now(), events, news, person: Some(reader), assets: &ASSETS }
}

fn signed_out(web: &Web, uri: &Uri) -> Response {
    let next = uri.path_and_query().map_or_else(Destination::home, |next| Destination::of(next.as_str()));
    Notice::signed_out(&next).answer(web.clock.now())
}

fn broken(web: &Web, error: &StoreError) -> Response {
    tracing::error!(%error, "the database fails");
    Notice::broken().answer(web.clock.now())
}

/// Lets the session last, if a person has opened the page: a page that is only left open does not.
fn renewed(web: &Web, session: &Session, headers: &HeaderMap, response: Response) -> Response {
    let cookie = origin::is_navigation(headers).then(|| web.sign_in.renew(session)).flatten();
    with_cookies(response, cookie)
}
