//! The surroundings of a command: streams, environment, time. Tests bring their own.

use std::fmt;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use time::OffsetDateTime;

use crate::log::keys::Variables;
use crate::log::{InputError, KeyError};

/// The surroundings of a command.
pub struct Host<'a> {
    /// Standard input. Whoever reads it takes it.
    pub stdin: Option<Box<dyn Read + 'a>>,
    /// Standard output.
    pub stdout: Box<dyn Write + 'a>,
    /// Standard error.
    pub stderr: Box<dyn Write + 'a>,
    /// Columns of the terminal that standard output goes to; `None` if it goes elsewhere.
    pub columns: Option<usize>,
    /// Whether standard error goes to a terminal.
    pub shows_progress: bool,
    /// Environment variables.
    pub variables: Box<Variables<'a>>,
    /// When the command was started.
    pub now: OffsetDateTime,
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Host").field("columns", &self.columns).field("now", &self.now).finish_non_exhaustive()
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// It did what it should, and found nothing wrong: code 0.
    Clean,
    /// It did what it should, and found something wrong: code 1.
    Defects,
    /// It could not do what it should: code 2.
    CannotRun,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Clean => Self::SUCCESS,
            Exit::Defects => Self::FAILURE,
            Exit::CannotRun => Self::from(2),
        }
    }
}

/// Why a command cannot do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An input cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Standard output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// Anything else: problem and remedy in one sentence.
    #[error("{0}")]
    Other(String),
}

impl<'a> Host<'a> {
    /// Standard input, once; nothing after that.
    pub fn take_stdin(&mut self) -> Box<dyn Read + 'a> {
        self.stdin.take().unwrap_or_else(|| Box::new(io::empty()))
    }

    pub(crate) fn report(&mut self, failure: &Failure) -> Exit {
        // Whoever reads the output has seen enough of it: nothing to complain of.
        let is_unread = matches!(failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe);
        if !is_unread {
            // There is no other place left where a failure to write could be told.
            let _ = writeln!(self.stderr, "toolgate: {failure}");
        }
        Exit::CannotRun
    }
}
