//! `toolgate verify-log`: whether a log is whole, and what cannot be known of it.

mod chain;
mod claims;
mod defect;
mod erasures;
mod recent;
mod report;
mod tally;
mod verifier;

use std::fs;
use std::io::Write;

use clap::{Args, ValueEnum};

pub use defect::DefectKind;

use crate::host::{Exit, Failure, Host};
use crate::log::{KeyArgument, Keys, Log, Names, Source};
use crate::text::printable_json;
use report::Report;
use verifier::{Demands, Verifier};

/// Bytes between two messages about progress.
const PROGRESS_BYTES: u64 = 64 << 20;

/// Tells whether an audit log is whole.
///
/// Every record is held against its seal, and every chain against its own numbers, the checkpoints, and what other chains
/// saw of it. Exit codes: 0 the log is whole, 1 it has defects, 2 the log could not be read.
#[derive(Args, Debug)]
pub struct VerifyLog {
    /// Files of the log, in the order in which they were written, compressed with gzip or not; `-` is standard input.
    ///
    /// Files that were written side by side can come in any order.
    #[arg(required = true)]
    files: Vec<Source>,
    /// Files with checkpoints that were stored elsewhere; they show whether the end of a chain was cut off.
    #[arg(long, value_name = "FILE")]
    checkpoints: Vec<Source>,
    /// The key ID is in the environment variable VARIABLE, in base64 [default: k1=TOOLGATE_AUDIT_KEY].
    #[arg(long = "key", value_name = "ID=VARIABLE")]
    keys: Vec<KeyArgument>,
    /// Each chain must be closed: its worker has ended, and no record can follow.
    #[arg(long)]
    closed: bool,
    /// The log goes on from another one, so that chains may begin before it.
    #[arg(long)]
    continued: bool,
    /// Pass over lines that are no records, for streams that others write into as well.
    #[arg(long)]
    ignore_other_lines: bool,
    /// Defects to list; all are counted.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    max_defects: usize,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Leave out the summary of what is whole.
    #[arg(long)]
    quiet: bool,
    /// Show how far it is, as is always done on a terminal.
    #[arg(long)]
    progress: bool,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs `toolgate verify-log`.
///
/// # Errors
/// When a key is missing, or something cannot be read or written.
pub fn verify_log(arguments: &VerifyLog, host: &mut Host<'_>) -> Result<Exit, Failure> {
    let keys = Keys::load(&arguments.keys, &*host.variables)?;
    let VerifyLog { closed, continued, ignore_other_lines, .. } = *arguments;
    let mut verifier = Verifier::new(&keys, Demands { closed, continued, ignore_other_lines }, arguments.max_defects);
    read_checkpoints(arguments, &mut verifier)?;
    read_log(arguments, host, &mut verifier)?;
    verifier.finish();

    let names = Names::new(arguments.files.iter().chain(&arguments.checkpoints));
    let report = Report::new(&verifier, &names, !arguments.checkpoints.is_empty(), continued);
    match arguments.format {
        Format::Text => report.write_text(&mut host.stdout, arguments.quiet)?,
        Format::Json => {
            let text = serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?;
            // In JSON, a line feed stands between values only.
            for line in text.lines() {
                writeln!(host.stdout, "{}", printable_json(line))?;
            }
        }
    }
    Ok(if report.is_whole() { Exit::Clean } else { Exit::Defects })
}

/// Checkpoints come first, so that each record can be held against them when it comes.
fn read_checkpoints(arguments: &VerifyLog, verifier: &mut Verifier<'_>) -> Result<(), Failure> {
    if arguments.checkpoints.contains(&Source::Stdin) {
        return Err(Failure::Other("checkpoints cannot come from standard input: name a file".to_owned()));
    }
    let nothing = Box::new(std::io::empty());
    let mut stored = Log::new(arguments.checkpoints.clone(), nothing).counting_from(arguments.files.len());
    while let Some(raw) = stored.next_line()? {
        verifier.stored_checkpoint(&raw);
    }
    Ok(())
}

fn read_log(arguments: &VerifyLog, host: &mut Host<'_>, verifier: &mut Verifier<'_>) -> Result<(), Failure> {
    let shows_progress = arguments.progress || host.shows_progress;
    let total = total_bytes(&arguments.files);
    let mut log = Log::new(arguments.files.clone(), host.take_stdin());
    let mut next_message = PROGRESS_BYTES;
    while let Some(raw) = log.next_line()? {
        verifier.line(&raw);
        if shows_progress && log.bytes_read() >= next_message {
            next_message = log.bytes_read().saturating_add(PROGRESS_BYTES);
            let (read, found) = (log.bytes_read() >> 20, verifier.defects.found());
            let of = total.map_or_else(String::new, |total| format!(" of {}", total >> 20));
            // Progress is not worth a failure.
            let _ = write!(host.stderr, "\r{read}{of} MiB read, {found} defects");
        }
    }
    if shows_progress && next_message > PROGRESS_BYTES {
        let _ = writeln!(host.stderr);
    }
    Ok(())
}

/// `None` if there is standard input among the sources.
fn total_bytes(sources: &[Source]) -> Option<u64> {
    sources.iter().try_fold(0_u64, |total, source| match source {
        Source::Stdin => None,
        Source::File(path) => Some(total.saturating_add(fs::metadata(path).ok()?.len())),
    })
}
