//! The `toolgate-approvals` command.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use toolgate_approvals::clock::Clock;
use toolgate_approvals::config::{Config, ConfigError};
use toolgate_approvals::metrics::Metrics;
use toolgate_approvals::service::StartError;
use toolgate_approvals::signing::{self, KeyKind};
use toolgate_approvals::store::{Head, Store};
use toolgate_approvals::webhooks::Announcer;
use toolgate_approvals::{Approvals, server};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// The reference approval service of Toolgate.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve gateways and approvers.
    Serve(At),
    /// Make a key that signs decisions, and print its public half, which gateways pin.
    Keygen {
        /// Where to write the key: PKCS#8 PEM. The file must not be there.
        #[arg(long)]
        out: PathBuf,
        /// Its id. Default: the name of the file without its extension.
        #[arg(long)]
        kid: Option<String>,
        /// What kind of key.
        #[arg(long, value_enum, default_value_t)]
        kind: KeyKind,
    },
    /// Check the history: every entry, and every approval against its entries. Exit codes: 0 whole, 1 not, 2 cannot say.
    VerifyHistory {
        #[command(flatten)]
        at: At,
        /// An entry that was noted down before, and must still be there: its number and hash, as printed as `head`.
        #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
        known: Option<Head>,
    },
    /// List messages that no webhook has taken, or try them again.
    DeadLetters {
        #[command(flatten)]
        at: At,
        /// What to do with them.
        #[arg(value_enum)]
        action: DeadLetters,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum DeadLetters {
    List,
    Retry,
}

#[derive(clap::Args, Debug)]
struct At {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] toolgate_approvals::store::StoreError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

fn head(text: &str) -> Result<Head, String> {
    let (seq, hash) = text.split_once(':').ok_or("must be SEQ:HASH")?;
    let seq = seq.parse().map_err(|_| "must begin with a number")?;
    Ok(Head { seq, hash: hash.to_owned() })
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What this program writes holds keys or personal data: the files are for its own user.
    umask(Mode::RWXG | Mode::RWXO);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).json().init();
    let outcome = match arguments.command {
        Command::Serve(At { config }) => serve(&config).await,
        Command::Keygen { out, kid, kind } => keygen(&out, kid, kind),
        Command::VerifyHistory { at, known } => verify_history(&at.config, known.as_ref()).await,
        Command::DeadLetters { at, action } => dead_letters(&at.config, action).await,
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            // There is nowhere to report that standard error is closed.
            let _ = writeln!(std::io::stderr(), "toolgate-approvals: {failure}");
            ExitCode::from(2)
        }
    }
}

/// The database of the configuration, or of the environment, which goes before it.
fn database(config: &Config) -> Result<String, ConfigError> {
    let database = std::env::var("DATABASE_URL").ok().or_else(|| config.database.clone());
    database.ok_or_else(|| ConfigError::Unusable("database".to_owned(), "is missing".to_owned()))
}

async fn serve(path: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(path)?;
    raise_open_files();
    // Before anything takes time, so that no signal is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let approvals = Approvals::open(&config, &database(&config)?, Clock::default()).await?;
    let router = server::router(&approvals, &config)?;
    let listener = TcpListener::bind(config.listen).await?;
    info!(address = %listener.local_addr()?, "listening");
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server::serve(listener, router, &approvals, stop).await;
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Each request that waits has a connection of its own, and systems start programs with a low limit of open files.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn keygen(out: &Path, kid: Option<String>, kind: KeyKind) -> Result<ExitCode, Failure> {
    let stem = || out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let jwk = signing::generate(kind, &kid.unwrap_or_else(stem), out)?;
    writeln!(std::io::stdout(), "{jwk}")?;
    Ok(ExitCode::SUCCESS)
}

async fn open_store(path: &Path) -> Result<Store, Failure> {
    let config = Config::load(path)?;
    let announcer = Arc::new(Announcer::new(&config.public_url, Vec::new()));
    Ok(Store::open(&database(&config)?, config.pending_per_requester, announcer, Arc::new(Metrics::default())).await?)
}

async fn verify_history(path: &Path, known: Option<&Head>) -> Result<ExitCode, Failure> {
    let report = open_store(path).await?.verify_history(known).await?;
    let text = serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if report.problem_count == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn dead_letters(path: &Path, action: DeadLetters) -> Result<ExitCode, Failure> {
    const LISTED: i64 = 1000;
    let store = open_store(path).await?;
    if action == DeadLetters::Retry {
        let count = store.retry_dead_letters(Clock::default().now()).await?;
        writeln!(std::io::stdout(), "{count} will be tried again")?;
        return Ok(ExitCode::SUCCESS);
    }
    for letter in store.dead_letters(LISTED).await? {
        let text = serde_json::to_string(&letter).map_err(std::io::Error::from)?;
        writeln!(std::io::stdout(), "{text}")?;
    }
    Ok(ExitCode::SUCCESS)
}
