//! Many event streams at once, and the upstream that they come from. Both are in one process, so one clock times them.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Interval, interval, sleep};

use crate::connection::{self, Connection};
use crate::load::{Latency, histogram};
use crate::{Failure, say};

/// What a stream waits between two events.
const PERIOD: Duration = Duration::from_secs(1);
/// Streams that are opened at once: fewer than a socket queues.
const OPENING: usize = 64;
/// In each event, before the nanoseconds since [`EPOCH`].
const SENT: &str = "\"data\":";

thread_local! {
    /// What the times in events count from.
    static EPOCH: Instant = Instant::now();
}

fn since_epoch() -> Duration {
    EPOCH.with(Instant::elapsed)
}

/// Answers every request with events that say when they were sent, without end.
pub(crate) struct Upstream {
    pub(crate) port: u16,
}

impl Upstream {
    /// Listens on a port of this machine.
    pub(crate) async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = service_fn(|_| async { answer() });
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                // It ends when the client has seen enough.
                tokio::task::spawn_local(async { drop(connection.await) });
            }
        });
        Ok(Self { port })
    }
}

fn answer() -> Result<Response<Events>, hyper::http::Error> {
    Response::builder().header("content-type", "text/event-stream").body(Events(interval(PERIOD)))
}

/// An event each [`PERIOD`].
struct Events(Interval);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.0.poll_tick(context));
        let event = format!(
            "event: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\
             \"params\":{{\"level\":\"info\",{SENT}{}}}}}\n\n",
            since_epoch().as_nanos()
        );
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}

/// Streams to open, and how long to listen to them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Streams {
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
    streams: usize,
    seconds: f64,
}

/// What they were like.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    events: u64,
    /// From an event's creation until it was read, in microseconds.
    delay_us: Latency,
}

/// What all streams share.
struct Listening {
    path: String,
    headers: Vec<(String, String)>,
    opening: Semaphore,
    /// Not while streams are still opened.
    counts: Cell<bool>,
    delays: RefCell<Histogram<u64>>,
}

impl Streams {
    /// Opens them, says `{"open": ...}` once each has had an event, and listens.
    pub(crate) async fn run(self) -> Result<Outcome, Failure> {
        let listening = Rc::new(Listening {
            path: self.path,
            headers: self.headers,
            opening: Semaphore::new(OPENING),
            counts: Cell::new(false),
            delays: RefCell::new(histogram()?),
        });
        let (opened, mut openings) = mpsc::unbounded_channel();
        let mut streams = JoinSet::new();
        for _ in 0..self.streams {
            let (listening, opened) = (listening.clone(), opened.clone());
            streams.spawn_local(async move {
                let failure = listening.stream(self.port, &opened).await.err();
                // A stream has no end of its own.
                drop(
                    opened
                        .send(Err(failure.map_or_else(|| "a stream ended".to_owned(), |failure| failure.to_string()))),
                );
            });
        }
        for _ in 0..self.streams {
            openings.recv().await.ok_or("no streams")??;
        }
        say(&json!({"open": self.streams}))?;
        listening.counts.set(true);
        sleep(Duration::from_secs_f64(self.seconds)).await;
        streams.shutdown().await;
        if let Ok(ended) = openings.try_recv() {
            ended?;
        }
        let delays = listening.delays.borrow();
        Ok(Outcome { events: delays.len(), delay_us: Latency::of(&delays) })
    }
}

impl Listening {
    /// Reads one stream for as long as it lasts.
    async fn stream(&self, port: u16, opened: &mpsc::UnboundedSender<Result<(), String>>) -> Result<(), Failure> {
        let permit = self.opening.acquire().await?;
        let mut request = Request::get(&self.path).body(Full::default())?;
        *request.headers_mut() = connection::header_map(&self.headers)?;
        let mut connection = Connection::new(port).await?;
        let response = connection.send(request).await?;
        if response.status() != 200 {
            return Err(format!("a stream was answered with {}", response.status()).into());
        }
        let mut permit = Some(permit);
        let (mut body, mut pending) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            pending.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = pending.drain(..end.saturating_add(2)).collect();
                self.note(&event)?;
                if permit.take().is_some() {
                    opened.send(Ok(()))?;
                }
            }
        }
        Ok(())
    }

    /// How long ago an event was sent.
    fn note(&self, event: &[u8]) -> Result<(), Failure> {
        let now = since_epoch();
        let (_, sent) = std::str::from_utf8(event)?.split_once(SENT).ok_or("an event without its time")?;
        let sent: u64 = sent.split(|symbol: char| !symbol.is_ascii_digit()).next().unwrap_or_default().parse()?;
        if self.counts.get() {
            self.delays.borrow_mut().saturating_record(u64::try_from(now.as_nanos())?.saturating_sub(sent));
        }
        Ok(())
    }
}
