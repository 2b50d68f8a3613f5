//! `toolgate replay`: what another policy would have decided.

mod summary;
mod text;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::host::{Exit, Failure, Host};
use crate::judge::Judge;
use crate::log::{self, Log, PersonalPart, Source};
use crate::period::PeriodArguments;
use crate::policy_file::PolicyFile;
pub use summary::{Change, Counts, Example, FailedSide, Group, MAX_GROUPS, Outcome, Replay, Ruling, Span, Summary};

/// Decides the requests of a log again by another policy, and says what would change.
///
/// Exit code 0: nothing would; 1: something would; 2: it cannot run. Seals are not verified: see `verify-log`.
#[derive(Args, Debug)]
pub struct ReplayArguments {
    /// The policy to decide by, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Logs, in any form that `verify-log` reads; `-` is standard input
    #[arg(default_value = "-", value_name = "LOG")]
    logs: Vec<Source>,
    /// Form of the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    period: PeriodArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Runs it.
///
/// # Errors
/// When the policy or a log cannot be read, or the result not be written.
pub fn run(arguments: &ReplayArguments, host: &mut Host<'_>) -> Result<Exit, Failure> {
    let ReplayArguments { policy, logs, format, period } = arguments;
    let policy = PolicyFile::read(policy)?;
    let period = period.at(host.now);
    let mut replay = Replay::new(Judge::new(&policy.compiled));
    let mut log = Log::new(logs.clone(), host.take_stdin());
    let passed_over = log::visit(&mut log, |_, _, record, personal| {
        if period.contains(record) {
            replay.add(record, personal.and_then(PersonalPart::kept));
        }
        Ok::<_, Failure>(())
    })?;
    if passed_over.lines > 0 {
        writeln!(host.stderr, "toolgate: {} lines without a legible record were passed over", passed_over.lines)?;
    }
    let summary = replay.finish();
    match format {
        Format::Text => text::write(&summary, &mut host.stdout)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut host.stdout, &summary).map_err(std::io::Error::from)?;
            writeln!(host.stdout)?;
        }
    }
    Ok(if summary.is_change() { Exit::Defects } else { Exit::Clean })
}
