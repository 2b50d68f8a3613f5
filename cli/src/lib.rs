//! The parts of the `toolgate` command.
//!
//! Everything that a command has to do with its surroundings goes through [`Host`].

pub mod host;
pub mod log;

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
enum Command {}

/// Runs the command. Why it cannot run is said on the error stream.
pub fn run(arguments: Arguments, host: &mut Host<'_>) -> Exit {
    let result: Result<Exit, Failure> = match arguments.command {};
    result.unwrap_or_else(|failure| host.report(&failure))
}
