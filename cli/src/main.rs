//! The `toolgate` command.

use std::env;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use time::OffsetDateTime;
use toolgate_cli::host::{Exit, Host};
use toolgate_cli::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut host = Host {
        stdin: Some(Box::new(io::stdin())),
        stdout: Box::new(BufWriter::new(io::stdout())),
        stderr: Box::new(io::stderr()),
        columns: columns(),
        shows_progress: io::stderr().is_terminal(),
        variables: Box::new(|name| env::var(name).ok()),
        now: OffsetDateTime::now_utc(),
    };
    let exit = run(&arguments, &mut host);
    match host.stdout.flush() {
        Ok(()) => exit.into(),
        Err(_) => Exit::CannotRun.into(),
    }
}

/// Columns of the terminal that standard output goes to.
fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}
