//! Requests one after the other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinSet;

use crate::connection::{self, Connection};
use crate::{Failure, Session};

/// What is sent where, for how long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    port: u16,
    connections: usize,
    seconds: f64,
    /// No more than these.
    requests: Option<u64>,
    /// Requests per second. Without it, each connection sends the next request once it has the whole answer.
    rate: Option<f64>,
    #[serde(default = "post")]
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    /// The file with the body.
    body: Option<PathBuf>,
    /// A file with bearer tokens, one a line: each request has the next one.
    tokens: Option<PathBuf>,
}

fn post() -> String {
    "POST".to_owned()
}

/// What came back.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    requests: u64,
    statuses: BTreeMap<u16, u64>,
    /// Of bodies.
    bytes: u64,
    /// Connections that the other side had closed.
    reconnects: u64,
    seconds: f64,
    /// From when a request was to be sent until the end of its answer, in microseconds.
    latency_us: Latency,
}

/// Percentiles of a distribution.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
}

impl Latency {
    /// Of nanoseconds, in microseconds.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of less than a month")]
    pub(crate) fn of(nanoseconds: &Histogram<u64>) -> Self {
        let at = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1000.0;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99) }
    }
}

/// Of nanoseconds, to three digits; what takes longer counts as this long.
pub(crate) fn histogram() -> Result<Histogram<u64>, Failure> {
    const MINUTE: u64 = 60_000_000_000;
    Ok(Histogram::new_with_max(MINUTE, 3)?)
}

/// When requests are to be sent.
enum Pace {
    Closed { until: Instant, left: Cell<u64> },
    Open(Mutex<UnboundedReceiver<Instant>>),
}

impl Pace {
    /// Waits for the time of the next request; none once time is up.
    async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { until, left } => {
                left.set(left.get().checked_sub(1)?);
                Some(Instant::now()).filter(|now| now < until)
            }
            Self::Open(ticks) => ticks.lock().await.recv().await,
        }
    }

    /// At this rate. A thread keeps the time, because the runtime's timers are a millisecond wide.
    fn open(rate: f64, duration: Duration) -> Self {
        let (sender, ticks) = mpsc::unbounded_channel();
        let (start, step) = (Instant::now(), Duration::from_secs_f64(1.0 / rate));
        thread::spawn(move || {
            let times = (0_u32..).map_while(|number| step.checked_mul(number)).take_while(|time| *time < duration);
            for intended in times.filter_map(|time| start.checked_add(time)) {
                thread::sleep(intended.saturating_duration_since(Instant::now()));
                if sender.send(intended).is_err() {
                    break;
                }
            }
        });
        Self::Open(Mutex::new(ticks))
    }
}

/// What requests are made of, and what came of them.
struct Run {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    tokens: Rc<[String]>,
    pace: Pace,
    tally: RefCell<Tally>,
}

struct Tally {
    next_token: usize,
    statuses: BTreeMap<u16, u64>,
    bytes: u64,
    latency: Histogram<u64>,
}

impl Load {
    /// Sends, and waits for the last answer.
    pub(crate) async fn run(self, session: &mut Session) -> Result<Outcome, Failure> {
        let tokens = self.tokens.as_deref().map(|path| session.tokens(path)).transpose()?.unwrap_or_default();
        let position = self.tokens.clone().map(|path| session.positions.entry((self.port, path)).or_default());
        let next_token = position.as_deref().copied().unwrap_or_default();
        let tally = Tally { next_token, statuses: BTreeMap::new(), bytes: 0, latency: histogram()? };
        let (method, uri) = (self.method.parse()?, self.path.parse()?);
        let headers = connection::header_map(&self.headers)?;
        let connections = session.connections.take(self.port, self.connections).await?;
        let body = self.body.as_deref().map(|path| session.body(path)).transpose()?.unwrap_or_default();
        let (start, duration) = (Instant::now(), Duration::from_secs_f64(self.seconds));
        let pace = match self.rate {
            None => Pace::Closed {
                until: start.checked_add(duration).ok_or("too long")?,
                left: Cell::new(self.requests.unwrap_or(u64::MAX)),
            },
            Some(rate) => Pace::open(rate, duration),
        };
        let run = Rc::new(Run { method, uri, headers, body, tokens, pace, tally: RefCell::new(tally) });

        let mut workers = JoinSet::new();
        for connection in connections {
            workers.spawn_local(run.clone().repeat(connection));
        }
        let mut idle = Vec::new();
        while let Some(connection) = workers.join_next().await {
            idle.push(connection??);
        }
        let reconnects = idle.iter().map(|connection| connection.connects).sum();
        session.connections.put(self.port, idle);

        let tally = run.tally.borrow();
        if let Some(path) = self.tokens {
            session.positions.insert((self.port, path), tally.next_token);
        }
        Ok(Outcome {
            requests: tally.latency.len(),
            statuses: tally.statuses.clone(),
            bytes: tally.bytes,
            reconnects,
            seconds: start.elapsed().as_secs_f64(),
            latency_us: Latency::of(&tally.latency),
        })
    }
}

impl Run {
    /// Sends over one connection for as long as there is time.
    async fn repeat(self: Rc<Self>, mut connection: Connection) -> Result<Connection, Failure> {
        while let Some(intended) = self.pace.next().await {
            let answer = connection.send(self.request()?).await?;
            let (status, mut body, mut bytes) = (answer.status().as_u16(), answer.into_body(), 0_usize);
            while let Some(frame) = body.frame().await {
                bytes = bytes.saturating_add(frame?.data_ref().map_or(0, Bytes::len));
            }
            self.tally.borrow_mut().note(status, bytes, intended.elapsed())?;
        }
        Ok(connection)
    }

    /// The next request.
    fn request(&self) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let mut tally = self.tally.borrow_mut();
        if let Some(token) = tally.next_token.checked_rem(self.tokens.len()).and_then(|index| self.tokens.get(index)) {
            let value = HeaderValue::try_from(format!("Bearer {token}"))?;
            request.headers_mut().insert(AUTHORIZATION, value);
            tally.next_token = tally.next_token.wrapping_add(1);
        }
        Ok(request)
    }
}

impl Tally {
    /// Counts an answer.
    fn note(&mut self, status: u16, bytes: usize, latency: Duration) -> Result<(), Failure> {
        let count = self.statuses.entry(status).or_default();
        *count = count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes)?);
        self.latency.saturating_record(u64::try_from(latency.as_nanos())?);
        Ok(())
    }
}
