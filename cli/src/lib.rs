//! The parts of the `toolgate` command.
//!
//! Everything that a command has to do with its surroundings goes through [`host::Host`].

pub mod access_report;
pub mod approvals;
pub mod audit;
pub mod erase;
pub mod host;
pub mod judge;
pub mod log;
pub mod period;
pub mod policy_file;
mod ranges;
pub mod replay;
mod table;
pub mod text;
pub mod verify;

use clap::{Parser, Subcommand};

use access_report::AccessReportArguments;
use approvals::ApprovalsArguments;
use audit::{Audit, audit};
use erase::{Erase, erase};
use host::{Exit, Host};
use replay::ReplayArguments;
use verify::{VerifyLog, verify_log};

/// Works with Toolgate's audit logs, policies and approvals.
#[derive(Debug, Parser)]
#[command(name = "toolgate", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    AccessReport(AccessReportArguments),
    Approvals(ApprovalsArguments),
    Replay(ReplayArguments),
    VerifyLog(VerifyLog),
    Erase(Erase),
    Audit(Audit),
}

/// Runs the command. Why it cannot run is said on the error stream.
pub fn run(arguments: &Arguments, host: &mut Host<'_>) -> Exit {
    let result = match &arguments.command {
        Command::AccessReport(arguments) => access_report::run(arguments, host),
        Command::Approvals(arguments) => approvals::run(arguments, host),
        Command::Replay(arguments) => replay::run(arguments, host),
        Command::VerifyLog(arguments) => verify_log(arguments, host),
        Command::Erase(arguments) => erase(arguments, host),
        Command::Audit(arguments) => audit(arguments, host),
    };
    result.unwrap_or_else(|failure| host.report(&failure))
}
