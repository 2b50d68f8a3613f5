//! Databases for tests: a file of SQLite, or a private PostgreSQL that ends with the test.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Which {
    Sqlite,
    Postgres,
}

/// A database, as long as it is there.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) url: String,
    directory: TempDir,
    server: Option<PathBuf>,
}

impl Database {
    /// An empty database; `None` when PostgreSQL is not installed, unless REQUIRE_POSTGRES=1 says that it must be.
    pub(crate) fn new(which: Which) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        if which == Which::Sqlite {
            let url = format!("sqlite:{}", directory.path().join("approvals.db").display());
            return Some(Self { url, directory, server: None });
        }
        let Some(programs) = programs() else {
            assert_ne!(std::env::var("REQUIRE_POSTGRES").as_deref(), Ok("1"), "PostgreSQL is missing");
            let _ = writeln!(std::io::stderr(), "skipped: PostgreSQL is not installed");
            return None;
        };
        start(&programs, directory.path());
        let url = format!("postgres://postgres@localhost/postgres?host={}", directory.path().display());
        Some(Self { url, directory, server: Some(programs) })
    }

    /// A directory that goes with it.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some(programs) = &self.server else { return };
        let data = self.directory.path().join("data");
        let _ = as_owner(&programs.join("pg_ctl")).args(["stop", "-m", "immediate", "-D"]).arg(data).output();
    }
}

/// Where PostgreSQL's programs are.
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    places.into_iter().find(|place| place.join("initdb").is_file() && place.join("postgres").is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// PostgreSQL refuses to run as root.
fn as_owner(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn start(programs: &Path, directory: &Path) {
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(directory));
    }
    let data = directory.join("data");
    run(as_owner(&programs.join("initdb")).args(["--auth=trust", "--username=postgres", "--no-sync", "-D"]).arg(&data));
    let options = format!("-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off", directory.display());
    let mut server = as_owner(&programs.join("pg_ctl"));
    server.args(["start", "--wait", "--options", &options, "--log"]).arg(directory.join("log")).arg("-D").arg(&data);
    run(&mut server);
}

/// Runs a program that must not fail. It inherits no pipe: a server that it starts would hold it open.
fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
