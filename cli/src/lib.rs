//! The parts of the `toolgate` command.

pub mod access_report;
pub mod judge;
pub mod policy_file;
