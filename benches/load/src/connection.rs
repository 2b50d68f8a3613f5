//! Connections that are kept from one command to the next: what a new one costs is nobody's measurement.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Failure;

/// A connection to a port of this machine.
pub(crate) struct Connection {
    port: u16,
    sender: SendRequest<Full<Bytes>>,
    /// How often it was connected.
    pub(crate) connects: u64,
}

impl Connection {
    /// Connects.
    pub(crate) async fn new(port: u16) -> Result<Self, Failure> {
        Ok(Self { port, sender: connect(port).await?, connects: 1 })
    }

    /// Sends a request, over a new connection if the other side has closed this one.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        if self.sender.ready().await.is_err() {
            self.sender = connect(self.port).await?;
            self.connects = self.connects.saturating_add(1);
        }
        Ok(self.sender.send_request(request).await?)
    }
}

/// A connection, and a task that moves its bytes.
async fn connect(port: u16) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // However it ends: the sender says so.
    tokio::task::spawn_local(async { drop(connection.await) });
    Ok(sender)
}

/// The connections that nobody uses, by port.
#[derive(Default)]
pub(crate) struct Pool(BTreeMap<u16, Vec<Connection>>);

impl Pool {
    /// So many connections to a port.
    pub(crate) async fn take(&mut self, port: u16, count: usize) -> Result<Vec<Connection>, Failure> {
        let idle = self.0.entry(port).or_default();
        while idle.len() < count {
            idle.push(Connection::new(port).await?);
        }
        let mut taken: Vec<_> = idle.drain(..count).collect();
        taken.iter_mut().for_each(|connection| connection.connects = 0);
        Ok(taken)
    }

    /// Keeps connections for the next command.
    pub(crate) fn put(&mut self, port: u16, connections: Vec<Connection>) {
        self.0.entry(port).or_default().extend(connections);
    }
}

/// The headers of every request. `host` is added, which the other side requires.
pub(crate) fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::new();
    map.insert(HOST, HeaderValue::from_static("gateway.test"));
    for (name, value) in headers {
        map.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(map)
}
