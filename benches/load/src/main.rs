//! Sends the requests of the benchmark, and times the answers.
//!
//! It stays for as long as a benchmark runs, so that no measurement has its start in it: each line of standard input is
//! a [`Command`] as JSON, and standard output has its result as a line of JSON, or `{"error": ...}`. The first line
//! that it writes says where its own [`events::Upstream`] listens. One thread, because it shares a core with the
//! upstream of the gateway that is measured.
#![expect(clippy::disallowed_methods, reason = "it takes the time; nothing here decides by it")]

mod connection;
mod events;
mod load;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::LocalSet;

use connection::Pool;

/// Whatever a measurement cannot go on after.
type Failure = Box<dyn Error>;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Command {
    /// Requests one after the other, as many as the connections carry or at a fixed rate.
    Load(load::Load),
    /// Many event streams at once.
    Streams(events::Streams),
}

/// What outlives a command.
#[derive(Default)]
struct Session {
    connections: Pool,
    bodies: BTreeMap<PathBuf, Bytes>,
    tokens: BTreeMap<PathBuf, Rc<[String]>>,
    /// How many tokens of a file a port has seen: the next command goes on from there.
    positions: BTreeMap<(u16, PathBuf), usize>,
}

impl Session {
    /// The body in this file.
    fn body(&mut self, path: &Path) -> Result<Bytes, Failure> {
        if let Some(body) = self.bodies.get(path) {
            return Ok(body.clone());
        }
        let body = Bytes::from(std::fs::read(path)?);
        self.bodies.insert(path.to_owned(), body.clone());
        Ok(body)
    }

    /// The tokens in this file, one a line.
    fn tokens(&mut self, path: &Path) -> Result<Rc<[String]>, Failure> {
        if let Some(tokens) = self.tokens.get(path) {
            return Ok(tokens.clone());
        }
        let tokens: Rc<[String]> = std::fs::read_to_string(path)?.lines().map(str::to_owned).collect();
        self.tokens.insert(path.to_owned(), tokens.clone());
        Ok(tokens)
    }
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve())
}

/// Does what standard input says, until it ends.
async fn serve() -> Result<(), Failure> {
    let upstream = events::Upstream::start().await?;
    say(&json!({"events_port": upstream.port}))?;
    let mut session = Session::default();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match obey(&line, &mut session).await {
            Ok(result) => say(&result)?,
            Err(failure) => say(&json!({"error": failure.to_string()}))?,
        }
    }
    Ok(())
}

/// One command.
async fn obey(line: &str, session: &mut Session) -> Result<serde_json::Value, Failure> {
    Ok(match serde_json::from_str(line)? {
        Command::Load(load) => serde_json::to_value(load.run(session).await?)?,
        Command::Streams(streams) => serde_json::to_value(streams.run().await?)?,
    })
}

/// Writes a line.
fn say(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout();
    stdout.write_all(&line)?;
    Ok(stdout.flush()?)
}
