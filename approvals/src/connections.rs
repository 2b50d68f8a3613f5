//! Connections: how many, and how long one can be silent.
//!
//! Anybody can open connections and be silent, but nobody can keep gateways out with them: a connection with a request
//! of a gateway under way, or answered before, has one of the seats of gateways. All others are strangers, and the
//! stranger who came first has to go when there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tracing::{debug, warn};

/// Connections of gateways at the same time: each request that waits has one. Further ones are strangers.
pub(crate) const MAX_GATEWAYS: usize = 8192;
/// Other connections at the same time: people, and those who have not said yet who they are.
const MAX_STRANGERS: usize = 4096;
/// How long the head of a request may take, and how long a connection may stay open without one: longer than proxies
/// keep theirs as a rule, so that they and not this service close what is idle.
const MAX_SILENCE: Duration = Duration::from_secs(300);
/// The pause after a connection could not be accepted: there may be too many open files.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Who is there.
#[derive(Debug)]
struct Room {
    strangers: Mutex<Strangers>,
    max_strangers: usize,
    gateways: Arc<Semaphore>,
}

/// Connections in the order in which they came; who loses the sender has to go.
#[derive(Debug, Default)]
struct Strangers {
    next: u64,
    seats: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Room {
    fn new(max_strangers: usize, max_gateways: usize) -> Arc<Self> {
        let gateways = Arc::new(Semaphore::new(max_gateways));
        Arc::new(Self { strangers: Mutex::default(), max_strangers, gateways })
    }

    /// Seats a stranger. What is returned besides is ready when this one has to go.
    fn enter(self: &Arc<Self>) -> (Arc<Seat>, oneshot::Receiver<()>) {
        let (stay, must_go) = oneshot::channel();
        let number = self.seat_stranger(stay);
        (Arc::new(Seat { room: Arc::clone(self), place: Mutex::new(Place::Stranger(number)) }), must_go)
    }

    fn seat_stranger(&self, stay: oneshot::Sender<()>) -> u64 {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        while strangers.seats.len() >= self.max_strangers.max(1) {
            strangers.seats.pop_first();
        }
        let number = strangers.next;
        strangers.next = number.wrapping_add(1);
        strangers.seats.insert(number, stay);
        number
    }

    /// Takes the seat of a stranger; `None` if that one has to go.
    fn take(&self, number: u64) -> Option<oneshot::Sender<()>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).seats.remove(&number)
    }

    /// Sends the stranger away who came first.
    fn make_space(&self) {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).seats.pop_first();
    }
}

/// The place of a connection.
#[derive(Debug)]
struct Seat {
    room: Arc<Room>,
    place: Mutex<Place>,
}

#[derive(Debug)]
enum Place {
    Stranger(u64),
    Gateway {
        stay: oneshot::Sender<()>,
        _seat: OwnedSemaphorePermit,
    },
    /// It has to go.
    Gone,
}

impl Seat {
    /// Takes one of the seats of gateways, if there is one.
    fn take_gateways_seat(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let Place::Stranger(number) = *place else { return };
        let Ok(seat) = Arc::clone(&self.room.gateways).try_acquire_owned() else { return };
        *place = self.room.take(number).map_or(Place::Gone, |stay| Place::Gateway { stay, _seat: seat });
    }

    /// Gives it back: it was no gateway.
    fn leave_gateways_seat(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        *place = match std::mem::replace(&mut *place, Place::Gone) {
            Place::Gateway { stay, .. } => Place::Stranger(self.room.seat_stranger(stay)),
            other @ (Place::Stranger(_) | Place::Gone) => other,
        };
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Place::Stranger(number) = *self.place.get_mut().unwrap_or_else(PoisonError::into_inner) {
            self.room.take(number);
        }
    }
}

/// Around the routes of gateways, which answer who has no credential before they wait for anything.
pub(crate) async fn of_gateways(request: Request, next: Next) -> Response {
    let seat = request.extensions().get::<Arc<Seat>>().cloned();
    if let Some(seat) = &seat {
        seat.take_gateways_seat();
    }
    let response = next.run(request).await;
    if let Some(seat) = seat.filter(|_| response.status() == StatusCode::UNAUTHORIZED) {
        seat.leave_gateways_seat();
    }
    response
}

/// The routes, with the seat of the connection.
#[derive(Debug)]
struct Seated {
    seat: Arc<Seat>,
    router: TowerToHyperService<Router>,
}

impl Service<Request<Incoming>> for Seated {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(Arc::clone(&self.seat));
        self.router.call(request)
    }
}

/// Accepts connections until the service stops, and returns when all have ended.
pub(crate) async fn serve(listener: TcpListener, router: Router, stopping: watch::Receiver<bool>) {
    serve_in(Room::new(MAX_STRANGERS, MAX_GATEWAYS), listener, router, stopping).await;
}

async fn serve_in(room: Arc<Room>, listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(MAX_SILENCE);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        let Some(stream) = accepted else { continue };
        let (seat, must_go) = room.enter();
        let service = Seated { seat, router: TowerToHyperService::new(router.clone()) };
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        debug!(%error, "a connection ended early");
                    }
                }
                _ = must_go => debug!("a connection had to go: there are too many"),
            }
        });
    }
    // Nobody is accepted any more.
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(listener: &TcpListener, room: &Room) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Without it, an answer can wait for an acknowledgement. That it cannot be had is no reason to refuse.
            let _ = stream.set_nodelay(true);
            Some(stream)
        }
        Err(error) => {
            warn!(%error, "a connection could not be accepted");
            room.make_space();
            tokio::time::sleep(AFTER_FAILURE).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::middleware::from_fn;
    use axum::routing::get;
    use http::HeaderMap;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Two strangers at a time, and two gateways. A request of a gateway waits until the service stops.
    async fn start() -> (SocketAddr, watch::Sender<bool>) {
        let (stop, stopping) = watch::channel(false);
        let waits = stopping.clone();
        let gateway = move |headers: HeaderMap| async move {
            if !headers.contains_key("authorization") {
                return StatusCode::UNAUTHORIZED;
            }
            if headers.contains_key("prefer") {
                let _ = waits.clone().wait_for(|stopping| *stopping).await;
            }
            StatusCode::OK
        };
        let router = Router::new().route("/gateway", get(gateway)).layer(from_fn(of_gateways));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_in(Room::new(2, 2), listener, router, stopping));
        (address, stop)
    }

    async fn open(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.unwrap()
    }

    async fn send(stream: &mut TcpStream, headers: &str) {
        stream.write_all(format!("GET /gateway HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
    }

    /// The status of the next answer; nothing if the connection has ended.
    async fn status(stream: &mut TcpStream) -> Option<String> {
        let mut answer = [0; 1024];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await.expect("silence");
        let text = String::from_utf8_lossy(&answer[..read.unwrap_or_default()]).into_owned();
        text.split(' ').nth(1).map(str::to_owned)
    }

    #[tokio::test]
    async fn strangers_cannot_keep_gateways_out() {
        let (address, stop) = start().await;
        let (mut idle, mut waiting) = (open(address).await, open(address).await);
        send(&mut idle, "authorization: x\r\n").await;
        assert_eq!(status(&mut idle).await.unwrap(), "200");
        send(&mut waiting, "authorization: x\r\nprefer: wait=55\r\n").await;
        let mut strangers = Vec::new();
        for _ in 0..6 {
            let mut stranger = open(address).await;
            send(&mut stranger, "").await;
            assert_eq!(status(&mut stranger).await.unwrap(), "401", "the newest one is heard");
            strangers.push(stranger);
        }
        assert_eq!(status(&mut strangers[0]).await, None, "the one who came first had to go");
        send(&mut idle, "authorization: x\r\n").await;
        assert_eq!(status(&mut idle).await.unwrap(), "200");
        // A gateway for which there is no seat is a stranger.
        let mut third = open(address).await;
        send(&mut third, "authorization: x\r\n").await;
        assert_eq!(status(&mut third).await.unwrap(), "200");
        stop.send(true).unwrap();
        assert_eq!(status(&mut waiting).await.unwrap(), "200", "nobody took its place");
    }

    #[tokio::test]
    async fn seats_are_given_back() {
        let room = Room::new(4, 1);
        let (seat, _stays) = room.enter();
        seat.take_gateways_seat();
        assert_eq!((room.gateways.available_permits(), room.strangers.lock().unwrap().seats.len()), (0, 0));
        seat.leave_gateways_seat();
        assert_eq!((room.gateways.available_permits(), room.strangers.lock().unwrap().seats.len()), (1, 1));
        drop(seat);
        assert!(room.strangers.lock().unwrap().seats.is_empty());
    }
}
