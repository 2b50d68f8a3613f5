//! `toolgate approvals`: what waits for a person's decision, and the decision, over the service's API for approvers.
//!
//! ```text
//! arguments, environment ──► Service (address, token) ──► Client ──► View ──► list or text
//! ```

mod client;
mod list;
mod service;
mod text;
mod view;

use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::host::{Exit, Failure, Host};
use crate::text::printable_json;
use client::{Client, Refusal};
use list::List;
use service::Service;
use view::Inbox;

/// Shows approvals that a person has to decide on, and decides.
///
/// Needs the address of the approval service, and an access token of the person who decides: from TOOLGATE_APPROVALS_TOKEN,
/// or from a file. Exit code 0: done; 1: the service refuses: there is no such approval, it has been decided or has expired,
/// or this person may not decide on it; 2: it cannot run.
#[derive(Args, Debug)]
pub struct ApprovalsArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists approvals, the newest first.
    List(ListArguments),
    /// Shows all about one approval.
    Show(ShowArguments),
    /// Lets a call go on.
    Approve(DecideArguments),
    /// Refuses a call.
    Reject(DecideArguments),
}

#[derive(Args, Debug)]
struct ListArguments {
    /// In which state
    #[arg(long, value_enum, default_value_t = StateName::Pending)]
    state: StateName,
    /// Only calls of this tool, prompt or resource
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Only what this subject has asked for
    #[arg(long, value_name = "SUBJECT")]
    requester: Option<String>,
    /// How many at most
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct ShowArguments {
    /// Id of the approval: the end of its link
    #[arg(allow_hyphen_values = true)]
    id: Id,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct DecideArguments {
    /// Id of the approval: the end of its link
    #[arg(allow_hyphen_values = true)]
    id: Id,
    /// Why. Of a rejection, the caller is told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Common {
    /// Address of the approval service [default: TOOLGATE_APPROVALS_URL]
    #[arg(long)]
    url: Option<String>,
    /// File that holds the access token, in place of TOOLGATE_APPROVALS_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Writes what the service says: an approval on each line, in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum StateName {
    Pending,
    Approved,
    Rejected,
    Expired,
    Cancelled,
    Consumed,
    /// Whatever it is
    Any,
}

impl StateName {
    const fn query(self) -> Option<&'static str> {
        match self {
            Self::Pending => Some("pending"),
            Self::Approved => Some("approved"),
            Self::Rejected => Some("rejected"),
            Self::Expired => Some("expired"),
            Self::Cancelled => Some("cancelled"),
            Self::Consumed => Some("consumed"),
            Self::Any => None,
        }
    }
}

/// Id of an approval, fit for a path.
#[derive(Clone, Debug)]
struct Id(String);

impl FromStr for Id {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if (1..=64).contains(&text.len()) && text.bytes().all(is_id) {
            return Ok(Self(text.to_owned()));
        }
        Err("an id has letters, digits, - and _ only: it is what comes last in the link to an approval")
    }
}

#[derive(Serialize)]
struct Ballot<'a> {
    decision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Why nothing came of it.
enum Stop {
    Refused(Refusal),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(Failure::Output(error))
    }
}

/// Runs it.
///
/// # Errors
/// When the service cannot be asked, or its answer not be written.
pub fn run(arguments: &ApprovalsArguments, host: &mut Host<'_>) -> Result<Exit, Failure> {
    let done = match &arguments.command {
        Command::List(arguments) => list(arguments, host),
        Command::Show(ShowArguments { id, common }) => client(common, host)
            .and_then(|client| show(&client.get(&format!("/v1/inbox/{}", id.0), &[])?, common, host)),
        Command::Approve(arguments) => decide("approve", arguments, host),
        Command::Reject(arguments) => decide("reject", arguments, host),
    };
    match done {
        Ok(()) => Ok(Exit::Clean),
        Err(Stop::Failed(failure)) => Err(failure),
        Err(Stop::Refused(refusal)) => {
            writeln!(host.stderr, "toolgate: {refusal}")?;
            Ok(Exit::Defects)
        }
    }
}

fn client(common: &Common, host: &Host<'_>) -> Result<Client, Stop> {
    let service = Service::find(common.url.as_deref(), common.token_file.as_deref(), &*host.variables)?;
    Ok(Client::new(service)?)
}

fn list(arguments: &ListArguments, host: &mut Host<'_>) -> Result<(), Stop> {
    let ListArguments { state, tool, requester, limit, common } = arguments;
    let client = client(common, host)?;
    let mut list = List::new(host.columns, host.now);
    let mut left = *limit;
    let mut before: Option<String> = None;
    while left > 0 {
        let page_size = left.min(client::MAX_PAGE).to_string();
        let query = [
            ("state", state.query()),
            ("tool", tool.as_deref()),
            ("requester", requester.as_deref()),
            ("limit", Some(page_size.as_str())),
            ("before", before.as_deref()),
        ];
        let page = client.get("/v1/inbox", &query)?;
        let inbox = client::parse::<Inbox<'_>>(&page)?;
        for approval in &inbox.approvals {
            match left.checked_sub(1) {
                Some(rest) => left = rest,
                None => break,
            }
            if common.json {
                write_json(approval.get(), host)?;
            } else {
                list.add(&client::parse(approval.get())?, &mut host.stdout)?;
            }
        }
        match inbox.next() {
            // A service that says the same again would never end.
            Some(next) if !inbox.approvals.is_empty() && before.as_ref() != Some(&next) => before = Some(next),
            Some(_) | None => break,
        }
    }
    list.finish(&mut host.stdout)?;
    Ok(())
}

fn decide(decision: &str, arguments: &DecideArguments, host: &mut Host<'_>) -> Result<(), Stop> {
    let DecideArguments { id, reason, common } = arguments;
    let ballot = Ballot { decision, reason: reason.as_deref() };
    let answer = client(common, host)?.post(&format!("/v1/inbox/{}/decision", id.0), &ballot)?;
    if common.json {
        return Ok(write_json(&answer, host)?);
    }
    Ok(text::outcome(&client::parse(&answer)?, &mut host.stdout)?)
}

fn show(answer: &str, common: &Common, host: &mut Host<'_>) -> Result<(), Stop> {
    if common.json {
        return Ok(write_json(answer, host)?);
    }
    Ok(text::show(&client::parse(answer)?, host.now, &mut host.stdout)?)
}

/// One line, as the service wrote it. On a terminal nothing in it is obeyed.
fn write_json(json: &str, host: &mut Host<'_>) -> std::io::Result<()> {
    let line: String = json.chars().filter(|character| !matches!(character, '\n' | '\r')).collect();
    if host.columns.is_some() {
        writeln!(host.stdout, "{}", printable_json(&line))
    } else {
        writeln!(host.stdout, "{line}")
    }
}
