//! The parts of the `toolgate` command.
//!
//! Everything that a command has to do with its surroundings goes through [`host::Host`].

pub mod audit;
pub mod erase;
pub mod host;
pub mod log;
mod ranges;
pub mod text;
pub mod verify;

use clap::{Parser, Subcommand};

use audit::{Audit, audit};
use erase::{Erase, erase};
use host::{Exit, Host};
use verify::{VerifyLog, verify_log};

/// Works with Toolgate's audit logs and policies.
#[derive(Debug, Parser)]
#[command(name = "toolgate", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    VerifyLog(VerifyLog),
    Erase(Erase),
    Audit(Audit),
}

/// Runs the command. Why it cannot run is said on the error stream.
pub fn run(arguments: &Arguments, host: &mut Host<'_>) -> Exit {
    let result = match &arguments.command {
        Command::VerifyLog(arguments) => verify_log(arguments, host),
        Command::Erase(arguments) => erase(arguments, host),
        Command::Audit(arguments) => audit(arguments, host),
    };
    result.unwrap_or_else(|failure| host.report(&failure))
}
