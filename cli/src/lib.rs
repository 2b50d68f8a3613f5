//! The parts of the `toolgate` command.
//!
//! Everything that a command has to do with its surroundings goes through [`Host`].

pub mod access_report;
pub mod host;
pub mod judge;
pub mod log;
pub mod period;
pub mod policy_file;
pub mod printable;
pub mod replay;

use clap::{Parser, Subcommand};

use host::{Exit, Failure, Host};

/// Works with Toolgate's audit logs and policies.
#[derive(Debug, Parser)]
#[command(name = "toolgate", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(replay::ReplayArguments),
    AccessReport(access_report::AccessReportArguments),
}

/// Runs the command. Why it cannot run is said on the error stream.
pub fn run(arguments: Arguments, host: &mut Host<'_>) -> Exit {
    let result: Result<Exit, Failure> = match arguments.command {
        Command::Replay(arguments) => replay::run(arguments, host),
        Command::AccessReport(arguments) => access_report::run(arguments, host),
    };
    result.unwrap_or_else(|failure| host.report(&failure))
}
