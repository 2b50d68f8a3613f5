//! `toolgate erase`: takes what a log says of one person out of it, so that the log stays whole.

mod layers;
mod record;
mod replace;
mod rewrite;
mod whom;

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use toolgate::audit::Pseudonyms;
use toolgate::oauth::ResourceUri;

use crate::host::{Exit, Failure, Host};
use crate::log::input::Lines;
use crate::log::keys::Variables;
use crate::log::{KeyArgument, Keys};
use crate::text::{printable, timestamp};
use record::Signature;
use replace::{ReplaceError, replace};
use rewrite::{Done, Rewrite, RewriteError, Unsealed};
use whom::Whom;

/// Longest text that says who or why, in characters.
const MAX_REMARK: usize = 200;

/// Erases a person from audit logs.
///
/// The personal part is taken out of every record that is about the person. The seals stay valid, and a sealed record of
/// the erasure is appended to each file that had one. A file is replaced as a whole or not at all; a run that was
/// interrupted is finished by running it again. Erase from files that nothing writes to any more.
///
/// If a record of the person is not as it was sealed, or names a key that is not given, nothing is erased: an erasure
/// would hide that it was forged. Damaged records stay as they are: if one has the subject, a pseudonym or a mention in it,
/// the exit code is 1.
#[derive(Args, Debug)]
pub struct Erase {
    /// Subject of the person (`sub`).
    #[arg(long)]
    subject: String,
    /// Only as a subject of this issuer (`iss`).
    #[arg(long)]
    issuer: Option<String>,
    /// A pseudonym of the person.
    #[arg(long = "pseudonym", value_name = "PSEUDONYM")]
    pseudonyms: Vec<String>,
    /// The protected resource whose policy writes pseudonyms: that of the person is computed from issuer and subject.
    #[arg(long = "resource", value_name = "URI", requires_all = ["issuer", "pseudonym_key"])]
    resources: Vec<String>,
    /// The key of the pseudonyms is in the environment variable VARIABLE, in base64: the filter's own, which is that of
    /// `audit.pseudonym_key`, else TOOLGATE_PSEUDONYM_KEY, else the one of the seals.
    #[arg(long, value_name = "VARIABLE", value_parser = pseudonym_key, requires = "resources")]
    pseudonym_key: Option<KeyArgument>,
    /// Records of others as well, if their personal part has this text in it, such as a mail address.
    #[arg(long = "mention", value_name = "TEXT")]
    mentions: Vec<String>,
    /// Who erases, for the record of it.
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Why, for the record of it.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// The key ID is in the environment variable VARIABLE, in base64; the first one seals the record of the erasure
    /// [default: k1=TOOLGATE_AUDIT_KEY].
    #[arg(long = "key", value_name = "ID=VARIABLE")]
    keys: Vec<KeyArgument>,
    /// Erase records as well that are not as they were sealed. The record of the erasure does not vouch for them, so
    /// that `verify-log` goes on reporting them.
    #[arg(long)]
    even_if_changed: bool,
    /// Say what would be erased, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Files of the log, compressed with gzip or not.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs `toolgate erase`.
///
/// # Errors
/// When an argument will not do, a key is missing, or a record of the person is not as it was sealed: nothing is done.
/// When a file cannot be read or replaced: files before that one are done.
pub fn erase(arguments: &Erase, host: &mut Host<'_>) -> Result<Exit, Failure> {
    let pseudonyms = pseudonyms(arguments, &*host.variables)?;
    check(arguments, &pseudonyms)?;
    let keys = Keys::load(&arguments.keys, &*host.variables)?;
    let key = keys.first();
    let at = timestamp(host.now);
    let signature = Signature { key, at: &at, by: arguments.by.as_deref(), why: arguments.why.as_deref() };
    let whom = Whom {
        subject: &arguments.subject,
        issuer: arguments.issuer.as_deref(),
        pseudonyms: &pseudonyms,
        mentions: arguments.mentions.iter().map(|mention| mention.to_lowercase()).collect(),
    };
    let rewrite = || Rewrite::new(&whom, &keys, signature, arguments.even_if_changed);
    for path in &arguments.files {
        // Whatever else is the matter with a file is said when it is its turn.
        if let Err(ReplaceError::Content(RewriteError::Unsealed(unsealed))) = try_out(path, rewrite()) {
            return Err(Failure::Other(refusal(path, &unsealed)));
        }
    }
    let mut has_damaged = false;
    for path in &arguments.files {
        let rewrite = rewrite();
        let done = if arguments.dry_run { try_out(path, rewrite) } else { erase_from(path, rewrite) };
        let done = done.map_err(|error| Failure::Other(format!("{} is as it was: {error}", path.display())))?;
        report(path, done, arguments.dry_run, host)?;
        has_damaged |= done.damaged > 0;
    }
    Ok(if has_damaged { Exit::Defects } else { Exit::Clean })
}

fn pseudonym_key(variable: &str) -> Result<KeyArgument, String> {
    let problem = |_| "write the name of the environment variable that holds it".to_owned();
    format!("pseudonyms={variable}").parse().map_err(problem)
}

/// The pseudonyms that are given, and those that are computed.
fn pseudonyms(arguments: &Erase, variables: &Variables<'_>) -> Result<Vec<String>, Failure> {
    let Erase { subject, issuer, pseudonyms, resources, pseudonym_key, .. } = arguments;
    let mut pseudonyms = pseudonyms.clone();
    let (Some(issuer), Some(key)) = (issuer, pseudonym_key) else { return Ok(pseudonyms) };
    let keys = Keys::load(std::slice::from_ref(key), variables)?;
    for resource in resources {
        // As the policy has it, or else nothing would be found.
        let resource =
            ResourceUri::parse(resource).map_err(|problem| Failure::Other(format!("--resource {problem}")))?;
        let of_resource = Pseudonyms::new(keys.first().secret(), resource.as_str());
        pseudonyms.push(of_resource.of(issuer, subject.as_bytes()));
    }
    Ok(pseudonyms)
}

fn check(arguments: &Erase, pseudonyms: &[String]) -> Result<(), Failure> {
    let refuse = |problem: &str| Err(Failure::Other(problem.to_owned()));
    let Erase { subject, mentions, by, why, files, .. } = arguments;
    if subject.is_empty() || pseudonyms.iter().chain(mentions).any(String::is_empty) {
        return refuse("--subject, --pseudonym and --mention cannot be empty: that would be everybody");
    }
    if files.iter().any(|path| path == Path::new("-")) {
        return refuse("a stream cannot be erased from: name files");
    }
    for remark in by.iter().chain(why) {
        if remark.chars().count() > MAX_REMARK || remark.chars().any(char::is_control) {
            return refuse("--by and --why are one line of at most 200 characters each");
        }
        let remark = remark.to_lowercase();
        let names = |text: &String| remark.contains(&text.to_lowercase());
        if std::iter::once(subject).chain(pseudonyms).chain(mentions).any(names) {
            return refuse("--by and --why cannot name the person: they stay in the log; a ticket number can");
        }
    }
    Ok(())
}

fn refusal(path: &Path, unsealed: &Unsealed) -> String {
    let path = path.display().to_string();
    format!("nothing was erased: {}:{}: {unsealed}", printable(&path), unsealed.line)
}

fn erase_from(path: &Path, rewrite: Rewrite<'_>) -> Result<Done, ReplaceError<RewriteError>> {
    let mut done = Done::default();
    replace(path, |file| {
        done = rewrite.into_file(&mut Lines::open(path)?, file)?;
        Ok(done.erased > 0)
    })?;
    Ok(done)
}

fn try_out(path: &Path, rewrite: Rewrite<'_>) -> Result<Done, ReplaceError<RewriteError>> {
    rewrite.copy(&mut Lines::open(path)?, &mut io::sink()).map_err(ReplaceError::Content)
}

fn report(path: &Path, done: Done, is_dry: bool, host: &mut Host<'_>) -> io::Result<()> {
    let path = path.display().to_string();
    let path = printable(&path);
    let verb = if is_dry { "would be erased" } else { "erased" };
    writeln!(host.stdout, "{path}: {} records {verb}", done.erased)?;
    if done.unsealed > 0 {
        writeln!(host.stdout, "{path}: {} of them are not as they were sealed", done.unsealed)?;
    }
    if done.mentions > 0 {
        writeln!(
            host.stdout,
            "{path}: {} lines still have the text of the subject, a pseudonym or a mention in them: --mention takes the \
             records whose personal part has it",
            done.mentions
        )?;
    }
    if done.damaged > 0 {
        writeln!(
            host.stdout,
            "{path}: {} lines have such a text in a record that is damaged or of no known form: they stay as they are, edit \
             them by hand",
            done.damaged
        )?;
    }
    Ok(())
}
