//! `toolgate access-report`: who used what they may, and how much less would do.

mod edit;
mod yaml;
use clap::Args;
/// Todo
#[derive(Args, Debug)]
pub struct AccessReportArguments {}
/// Todo
pub fn run(_: AccessReportArguments, _: &mut crate::host::Host<'_>) -> Result<crate::host::Exit, crate::host::Failure> {
    Ok(crate::host::Exit::Clean)
}
