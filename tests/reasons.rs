//! The tables of codes in docs/audit.md hold what the code can say, and nothing else.
#![cfg(not(target_family = "wasm"))]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

type Words = BTreeSet<String>;

/// Where requests are decided about, and answers cut off: files, and folders whose every file counts.
const SOURCES: [&str; 8] = [
    "src/approval/reason.rs",
    "src/exchange",
    "src/filter/stream.rs",
    "src/jwt/error.rs",
    "src/mcp/classify.rs",
    "src/mcp/error_reply.rs",
    "src/oauth/challenge.rs",
    "src/policy/denial.rs",
];

/// Words in them that are something else. One that is new is a code, or belongs here.
const NO_CODES: [&str; 72] = [
    // Metrics of approvals.
    "asked",
    "circuit_opened",
    "escalated",
    "granted",
    // Verdicts, kinds of targets and the like, in records.
    "allow",
    "deny",
    "serve",
    "header",
    "prompt",
    "resource",
    "response",
    "task",
    "tool",
    // Members of JSON.
    "arguments",
    // Names of headers, and what is in them.
    "authorization",
    "charset",
    "digest",
    "etag",
    "host",
    "identity",
    "location",
    "origin",
    "trailer",
    "traceparent",
    "vary",
    // Members of JSON, and errors of OAuth.
    "acr_values",
    "agent",
    "amr",
    "approval_",
    "approval_id",
    "approval_url",
    "complete",
    "content",
    "elicitations",
    "escalated_from",
    "input_required",
    "method",
    "mode",
    "params",
    "text",
    "type",
    "url",
    "client",
    "decision_id",
    "error",
    "error_description",
    "expires_at",
    "failing_sides",
    "initialize",
    "invalid_token",
    "issuer",
    "max_age",
    "missing_scopes",
    "name",
    "policy",
    "reason",
    "requested",
    "required_scopes",
    "roles",
    "scope",
    "scopes",
    "subject",
    "supported",
    "tenant",
    "unauthorized",
    "uri",
    // Metrics: what of an answer was withheld, and why nobody waits.
    "element",
    "event_unreadable",
    "message",
    "too_many_waiting",
    // Envoy's own word for the end of a stream that has lasted too long.
    "max_duration_timeout",
    // Before there is a policy, there are no records.
    "no_policy",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files_in(path: PathBuf) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path];
    }
    fs::read_dir(path).unwrap().flat_map(|entry| files_in(entry.unwrap().path())).collect()
}

/// Strings of small letters, digits and underscores in the code of a file, its tests aside.
fn words_in(code: &str) -> Words {
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with("#["));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(|word| is_code(word)).map(str::to_owned).collect()
}

fn is_code(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(is_plain)
}

/// The first column of the table under a heading of docs/audit.md.
fn table(heading: &str) -> Words {
    let guide = read(&root().join("docs/audit.md"));
    let section = guide.split(&format!("\n### {heading}\n")).nth(1).unwrap().split("\n#").next().unwrap();
    let rows: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|it| is_code(it))
        .collect();
    let codes: Words = rows.iter().map(|row| (*row).to_owned()).collect();
    assert_eq!(codes.len(), rows.len(), "a code is in the table of {heading} twice");
    codes
}

fn words_in_sources() -> Words {
    let no_codes: Words = NO_CODES.iter().map(|word| (*word).to_owned()).collect();
    let files = SOURCES.iter().flat_map(|source| files_in(root().join(source)));
    let words: Words = files.flat_map(|file| words_in(&read(&file))).collect();
    let unused: Vec<_> = no_codes.difference(&words).collect();
    assert!(unused.is_empty(), "words of NO_CODES that the source does not have: {unused:?}");
    words.difference(&no_codes).cloned().collect()
}

#[test]
fn every_code_of_the_source_is_in_the_tables_and_the_other_way_round() {
    let listed: Words = table("`reason`").union(&table("`response.cut_off`")).cloned().collect();
    let found = words_in_sources();
    let unlisted: Vec<_> = found.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&found).collect();
    assert!(unlisted.is_empty(), "codes without a line in docs/audit.md, or words for NO_CODES: {unlisted:?}");
    assert!(unknown.is_empty(), "codes of docs/audit.md that the source does not have: {unknown:?}");
}

#[test]
fn every_side_and_its_codes_are_in_the_table() {
    let source = read(&root().join("src/identity/side.rs"));
    let body = |start: &str| {
        let rest = source.split(start).nth(1).unwrap();
        words_in(rest.split("\n    }\n").next().unwrap())
    };
    assert_eq!(body("pub const fn code(&self)"), table("`sides`"));
    let guide = read(&root().join("docs/audit.md"));
    for side in body("pub const fn name(self)") {
        assert!(guide.contains(&format!("`{side}`")), "{side}");
    }
}

#[test]
fn every_reason_of_the_corpus_is_in_the_table() {
    let listed = table("`reason`");
    let mut seen = Words::new();
    for file in files_in(root().join("tests/corpus/decisions")) {
        let text = read(&file);
        let reasons = text.split(r#""reason": ""#).skip(1).filter_map(|rest| rest.split('"').next());
        seen.extend(reasons.filter(|reason| is_code(reason)).map(str::to_owned));
    }
    assert!(seen.len() > 30, "the corpus was not read");
    assert!(seen.is_subset(&listed), "{:?}", seen.difference(&listed));
}
