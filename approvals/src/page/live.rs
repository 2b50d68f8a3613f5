//! News for pages that are open: server-sent events that say that something has changed, and nothing else.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Web;
use super::{detail, list};
use crate::Change;
use crate::domain::Person;

/// Streams open at a time, in this process.
pub(super) const MAX_STREAMS: usize = 512;
/// A stream ends after this, and the browser opens another: a session that has ended is noticed then at the latest.
const MAX_AGE: Duration = Duration::from_secs(300);
/// Time after which is looked, even if nothing is said to have changed: escalation and other processes are seen then.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Streams of one person at a time: those of a few browsers.
const MAX_STREAMS_OF_ONE: usize = 8;
/// Time for which changes are gathered.
const GATHER: Duration = Duration::from_millis(150);
/// The same for the list, which all changes concern, and which costs more to look at.
const GATHER_LIST: Duration = Duration::from_secs(1);
/// Browsers pass over events without data.
const NO_DATA: &str = "-";
/// Time between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a stream watches.
enum Watched {
    List(list::Query),
    One(String),
}

/// What the page shows that opens the stream: it is told at once if that has changed meanwhile.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    seen: Option<String>,
}

/// A stream.
struct Live {
    web: Web,
    headers: HeaderMap,
    person: Person,
    watched: Watched,
    changes: broadcast::Receiver<Change>,
    stopping: watch::Receiver<bool>,
    seen: Option<String>,
    ends_at: Instant,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
    _place: PlaceOfPerson,
}

/// `GET /events`: the list.
pub(super) async fn of_list(
    State(web): State<Web>,
    Query(query): Query<list::Query>,
    Query(Seen { seen }): Query<Seen>,
    headers: HeaderMap,
) -> Response {
    open(web, headers, Watched::List(query), seen)
}

/// `GET /approvals/{id}/events`: one request.
pub(super) async fn of_one(
    State(web): State<Web>,
    Path(id): Path<String>,
    Query(Seen { seen }): Query<Seen>,
    headers: HeaderMap,
) -> Response {
    open(web, headers, Watched::One(id), seen)
}

fn open(web: Web, headers: HeaderMap, watched: Watched, seen: Option<String>) -> Response {
    let Some(session) = web.sign_in.session(&headers) else {
        // A stream would be opened again and again.
        return StatusCode::NO_CONTENT.into_response();
    };
    let Ok(permit) = web.streams.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, HeaderValue::from_static("30"))]).into_response();
    };
    let Some(place) = web.stream_counts.take(session.person()) else {
        return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, HeaderValue::from_static("30"))]).into_response();
    };
    let last_event = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let live = Live {
        changes: web.approvals.changes(),
        stopping: web.approvals.stopping(),
        seen: last_event.or(seen),
        person: session.person(),
        web,
        headers,
        watched,
        ends_at: Instant::now().checked_add(MAX_AGE).unwrap_or_else(Instant::now),
        is_over: false,
        _permit: permit,
        _place: place,
    };
    let events = stream::unfold(live, |live| async { live.next().await });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// Lets changes come for that long: one look is for all of them.
async fn gather(changes: &mut broadcast::Receiver<Change>, time: Duration) {
    tokio::time::sleep(time).await;
    *changes = changes.resubscribe();
}

/// How many streams each person has open, by issuer and subject.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamCounts(Arc<Mutex<BTreeMap<(String, String), usize>>>);

/// The place of one stream among those of a person.
#[derive(Debug)]
struct PlaceOfPerson {
    counts: StreamCounts,
    person: (String, String),
}

impl StreamCounts {
    /// A place for one more stream, if this person has not too many.
    fn take(&self, person: Person) -> Option<PlaceOfPerson> {
        let person = (person.issuer, person.subject);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(person.clone()).or_default();
        if *count >= MAX_STREAMS_OF_ONE {
            return None;
        }
        *count = count.saturating_add(1);
        Some(PlaceOfPerson { counts: self.clone(), person })
    }
}

impl Drop for PlaceOfPerson {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.person) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.person);
            }
        }
    }
}

impl Live {
    /// Waits until there is something to say.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if self.is_over {
            return None;
        }
        loop {
            if self.web.sign_in.session(&self.headers).is_none() {
                self.is_over = true;
                return Some((Ok(Event::default().event("signed-out").data(NO_DATA)), self));
            }
            let version = self.version().await?;
            if self.seen.as_ref() != Some(&version) {
                self.seen = Some(version.clone());
                return Some((Ok(Event::default().event("changed").id(version).data(NO_DATA)), self));
            }
            self.wait().await?;
        }
    }

    /// Waits until there may be news; `None` when there will be none.
    async fn wait(&mut self) -> Option<()> {
        let look_at = Instant::now().checked_add(LOOK_EVERY)?;
        if look_at > self.ends_at {
            return None;
        }
        loop {
            let change = tokio::select! {
                // It fails only when there is nothing that could stop.
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                () = tokio::time::sleep_until(look_at) => return Some(()),
                change = self.changes.recv() => change,
            };
            match change {
                Err(RecvError::Closed) => return None,
                Ok(change) if !self.concerns(&change) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    let time = match self.watched {
                        Watched::List(_) => GATHER_LIST,
                        Watched::One(_) => GATHER,
                    };
                    gather(&mut self.changes, time).await;
                    return Some(());
                }
            }
        }
    }

    fn concerns(&self, change: &Change) -> bool {
        match &self.watched {
            Watched::List(_) => true,
            Watched::One(id) => *id == change.id,
        }
    }

    /// The version of what is watched, as this person sees it; `None` if it cannot be seen.
    async fn version(&self) -> Option<String> {
        match &self.watched {
            Watched::List(query) => {
                let views = self.web.approvals.inbox(&self.person, &query.filter()).await.ok()?;
                Some(list::version(&views))
            }
            Watched::One(id) => {
                let view = self.web.approvals.view(&self.person, id).await.ok()??;
                Some(detail::version(&view))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_look_is_for_all_changes_so_far() {
        let (sender, mut changes) = broadcast::channel(8);
        for _ in 0..20 {
            sender.send(Change { id: "x".to_owned() }).unwrap();
        }
        gather(&mut changes, Duration::ZERO).await;
        assert!(changes.is_empty());
        sender.send(Change { id: "y".to_owned() }).unwrap();
        assert_eq!(changes.recv().await.unwrap().id, "y");
    }
}
