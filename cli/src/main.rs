//! The `toolgate` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Works with Toolgate's audit logs and policies.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

fn main() -> ExitCode {
    match Arguments::parse().command {}
}
