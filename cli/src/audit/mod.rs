//! `toolgate audit`: shows the records of a log to people.

mod filter;
mod row;
pub(crate) mod when;

use std::io::Write as _;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use toolgate::audit::record::{Kind, Record};

use crate::host::{Exit, Failure, Host};
use crate::log::{Entry, Log, PersonalPart, Source, visit};
use crate::table::Table;
use crate::text::printable_json;
use filter::Filters;
use row::{LAYOUT, row};

/// Shows the records of audit logs. Seals are not looked at: `verify-log` does that.
#[derive(Args, Debug)]
pub struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the records of requests.
    Show(Show),
    /// Shows the records that have a text in any of their values.
    Grep(Grep),
}

#[derive(Args, Debug)]
struct Show {
    /// Files of the log, compressed with gzip or not; `-` is standard input.
    #[arg(default_value = "-")]
    files: Vec<Source>,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Args, Debug)]
struct Grep {
    /// The text, in upper or lower case.
    pattern: String,
    /// Files of the log, compressed with gzip or not; `-` is standard input.
    #[arg(default_value = "-")]
    files: Vec<Source>,
    #[command(flatten)]
    selection: Selection,
}

/// Which records are shown, and how.
#[derive(Args, Debug)]
struct Selection {
    #[command(flatten)]
    filters: Filters,
    /// How to write them: `json` is one record on each line, as it was sealed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Runs `toolgate audit`.
///
/// # Errors
/// When something cannot be read or written.
pub fn audit(arguments: &Audit, host: &mut Host<'_>) -> Result<Exit, Failure> {
    match &arguments.command {
        Command::Show(Show { files, selection }) => show(files, selection, None, host),
        Command::Grep(Grep { pattern, files, selection }) => {
            show(files, selection, Some(&pattern.to_lowercase()), host)
        }
    }
}

fn show(files: &[Source], selection: &Selection, pattern: Option<&str>, host: &mut Host<'_>) -> Result<Exit, Failure> {
    let filter = selection.filters.at(host.now);
    let mut log = Log::new(files.to_vec(), host.take_stdin());
    let mut table = Table::new(&LAYOUT, host.columns);
    let output = &mut host.stdout;
    let is_terminal = host.columns.is_some();
    let passed_over = visit::<Failure>(&mut log, |_, entry, record, personal| {
        let is_shown = record.kind == Kind::Request
            && filter.takes(record, personal)
            && pattern.is_none_or(|pattern| has_text(pattern, entry));
        if !is_shown {
            return Ok(());
        }
        match selection.format {
            Format::Table => table.add(row(record, personal), output)?,
            Format::Json if is_terminal => writeln!(output, "{}", printable_json(&entry.envelope.to_line()))?,
            Format::Json => writeln!(output, "{}", entry.envelope.to_line())?,
        }
        Ok(())
    })?;
    table.finish(output)?;
    if passed_over.lines > 0 {
        writeln!(host.stderr, "{} lines are no records that can be read", passed_over.lines)?;
    }
    Ok(Exit::Clean)
}

/// Whether the text, which is in lower case, is in a value of the record.
fn has_text(text: &str, entry: &Entry<'_>) -> bool {
    let parts = std::iter::once(&entry.envelope.record).chain(&entry.envelope.personal);
    parts.into_iter().any(|part| serde_json::from_str::<Value>(part).is_ok_and(|value| is_in(text, &value)))
}

fn is_in(text: &str, value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => flag.to_string() == text,
        Value::Number(number) => number.to_string().contains(text),
        Value::String(string) => string.to_lowercase().contains(text),
        Value::Array(elements) => elements.iter().any(|element| is_in(text, element)),
        Value::Object(members) => members.values().any(|member| is_in(text, member)),
    }
}

/// Whom a record is about, as far as it says.
fn person_of(personal: Option<&PersonalPart<'_>>) -> Option<String> {
    match personal? {
        PersonalPart::Erased(_) => None,
        PersonalPart::Kept(personal) => {
            let known = personal.subject.as_ref().or(personal.pseudonym.as_ref());
            known.map(|known| known.clone().into_owned())
        }
    }
}

/// Those who decided about it, as far as it says.
fn approvers_of(personal: Option<&PersonalPart<'_>>) -> Vec<String> {
    let Some(PersonalPart::Kept(personal)) = personal else { return Vec::new() };
    let known =
        personal.approvers.iter().filter_map(|approver| approver.subject.as_ref().or(approver.pseudonym.as_ref()));
    known.map(|known| known.clone().into_owned()).collect()
}

/// The one who claims to be somebody in a token that was refused.
fn unverified_of(personal: Option<&PersonalPart<'_>>) -> Option<String> {
    match personal? {
        PersonalPart::Erased(_) => None,
        PersonalPart::Kept(personal) => {
            let unverified = personal.unverified.as_ref()?;
            unverified.subject.as_ref().map(|subject| subject.clone().into_owned())
        }
    }
}

/// The name of what was asked for.
fn target_of<'a>(record: &'a Record<'_>) -> Option<&'a str> {
    record.target.as_ref()?.name.as_deref()
}
