//! Copies a log, without what it says of one person.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use toolgate::audit::record::{Kind, Link};
use toolgate::audit::seal::personal_digest;

use super::layers::any_layer;
use super::record::{Pending, Signature};
use super::whom::Whom;
use crate::log::input::Lines;
use crate::log::line::START;
use crate::log::{End, Entry, Keys, Line, Seal};
use crate::text::printable;

/// What was done to a file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Done {
    /// Records whose personal part was erased.
    pub(super) erased: u64,
    /// Those of them that are not as they were sealed; no record of an erasure counts them.
    pub(super) unsealed: u64,
    /// Records of erasures that were appended.
    pub(super) erasures: u64,
    /// Lines that have the subject, a pseudonym or a mention somewhere still.
    pub(super) mentions: u64,
    /// Others like them, with a record that cannot be read.
    pub(super) damaged: u64,
}

/// Why a file cannot be rewritten.
#[derive(Debug, thiserror::Error)]
pub(super) enum RewriteError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("the compressed data cannot be read: {0}")]
    Broken(String),
    #[error("line {0} is longer than any line of a log")]
    TooLong(u64),
    #[error(
        "none of its records is sealed with the key `{0}`, so that nobody could verify a record of the erasure: give the \
         log's own key first"
    )]
    OtherKey(String),
    #[error("line {}: {}", .0.line, .0)]
    Unsealed(Unsealed),
}

/// A record of the person that cannot be vouched for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{problem}; run `toolgate verify-log` first, and erase with --even-if-changed if that is to be erased as well")]
pub(super) struct Unsealed {
    /// Number of the line, from 1.
    pub(super) line: u64,
    problem: String,
}

/// One file that is being copied.
pub(super) struct Rewrite<'a> {
    pub(super) whom: &'a Whom<'a>,
    pub(super) keys: &'a Keys,
    pub(super) signature: Signature<'a>,
    /// Whether records that are not as they were sealed are erased as well.
    pub(super) even_if_changed: bool,
    done: Done,
    pending: Option<Pending>,
    has_valid_seal: bool,
}

impl<'a> Rewrite<'a> {
    pub(super) const fn new(
        whom: &'a Whom<'a>,
        keys: &'a Keys,
        signature: Signature<'a>,
        even_if_changed: bool,
    ) -> Self {
        let done = Done { erased: 0, unsealed: 0, erasures: 0, mentions: 0, damaged: 0 };
        Self { whom, keys, signature, even_if_changed, done, pending: None, has_valid_seal: false }
    }

    /// Copies into `file`, compressed if the original is.
    pub(super) fn into_file(self, lines: &mut Lines<'_>, file: &mut File) -> Result<Done, RewriteError> {
        let mut output = BufWriter::new(file);
        let done = if lines.is_gzip() {
            let mut encoder = GzEncoder::new(&mut output, Compression::default());
            let done = self.copy(lines, &mut encoder)?;
            encoder.finish()?;
            done
        } else {
            self.copy(lines, &mut output)?
        };
        output.flush()?;
        Ok(done)
    }

    pub(super) fn copy(mut self, lines: &mut Lines<'_>, output: &mut dyn Write) -> Result<Done, RewriteError> {
        let mut number = 0_u64;
        let mut erasures = Vec::new();
        let mut needs_line_feed = false;
        while lines.advance()? {
            number = number.saturating_add(1);
            match lines.end() {
                End::LineFeed | End::Input => {}
                End::TooLong => return Err(RewriteError::TooLong(number)),
                End::Broken(reason) => return Err(RewriteError::Broken(reason.clone())),
            }
            let line = self.line(number, lines.bytes())?;
            output.write_all(line.as_deref().map_or(lines.bytes(), str::as_bytes))?;
            self.count_mentions(line.as_deref().map_or(lines.bytes(), str::as_bytes));
            needs_line_feed = *lines.end() == End::Input;
            if !needs_line_feed {
                output.write_all(b"\n")?;
            }
            if let Some(full) = self.pending.take_if(|pending| pending.is_full()) {
                erasures.push(full.sealed(self.signature)?);
            }
        }
        if let Some(last) = self.pending.take() {
            erasures.push(last.sealed(self.signature)?);
        }
        if !self.has_valid_seal && !erasures.is_empty() {
            return Err(RewriteError::OtherKey(self.signature.key.id().to_owned()));
        }
        if needs_line_feed && !erasures.is_empty() {
            output.write_all(b"\n")?;
        }
        for erasure in erasures {
            self.done.erasures = self.done.erasures.saturating_add(1);
            writeln!(output, "{erasure}")?;
        }
        Ok(self.done)
    }

    /// The line to write in place of this one, if it is another one.
    fn line(&mut self, number: u64, line: &[u8]) -> Result<Option<String>, RewriteError> {
        let Line::Records(entries) = Line::read(line) else { return Ok(None) };
        let mut edits = Vec::new();
        for entry in &entries {
            let seal = self.seal(entry);
            if !self.whom.is_in(&entry.envelope) {
                continue;
            }
            let place = vouched(entry, seal);
            if let Err(problem) = &place
                && !self.even_if_changed
            {
                return Err(RewriteError::Unsealed(Unsealed { line: number, problem: problem.clone() }));
            }
            let pending = match &mut self.pending {
                Some(pending) => pending,
                none @ None => none.insert(Pending::new()?),
            };
            edits.extend(entry.erasure(&pending.id));
            self.done.erased = self.done.erased.saturating_add(1);
            match place {
                Ok(link) => pending.add(link.as_ref().map(|link| (&*link.id, link.seq))),
                Err(_) => self.done.unsealed = self.done.unsealed.saturating_add(1),
            }
        }
        if edits.is_empty() {
            return Ok(None);
        }
        // A line with records is text. The last edit comes first, so that the others stay where they are.
        let mut text = String::from_utf8_lossy(line).into_owned();
        edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
        for (span, replacement) in edits {
            text.replace_range(span, &replacement);
        }
        Ok(Some(text))
    }

    fn seal(&mut self, entry: &Entry<'_>) -> Seal {
        let chain = entry.envelope.claim().chain;
        let key = chain.as_ref().map_or("", |link| &link.key);
        let seal = self.keys.check(&entry.envelope, key);
        self.has_valid_seal |= seal == Seal::Valid && key == self.signature.key.id();
        seal
    }

    fn count_mentions(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        if !any_layer(&text, &|text| self.whom.is_written_in(text)) {
            return;
        }
        let is_damaged = match Line::read(line) {
            Line::Damaged(_) => true,
            // JSON around a record that was cut off, or that is not where records are looked for.
            Line::Other => any_layer(&text, &|text| text.contains(START)),
            Line::Records(_) | Line::NoRecord => false,
        };
        let count = if is_damaged { &mut self.done.damaged } else { &mut self.done.mentions };
        *count = count.saturating_add(1);
    }
}

/// The place in a chain, if it has one, of a record that is as it was sealed and whose personal part is its own. Nothing
/// else may be in the record of an erasure: once the personal part is gone, nobody can see any more that it was forged.
fn vouched<'e>(entry: &'e Entry<'_>, seal: Seal) -> Result<Option<Link<'e>>, String> {
    let envelope = &entry.envelope;
    match seal {
        Seal::Valid if entry.is_exact => {}
        Seal::Valid | Seal::Wrong => return Err("the record is not as it was sealed".to_owned()),
        Seal::UnknownKey => {
            let Some(link) = envelope.claim().chain else {
                return Err("the record does not say where it belongs".to_owned());
            };
            let key = printable(&link.key);
            return Err(format!("the record names the key `{key}`: give it with --key {key}=VARIABLE"));
        }
    }
    let record = envelope.record().map_err(|error| format!("the record is of no form that is known here: {error}"))?;
    let digest = envelope.personal.as_deref().map(|personal| personal_digest(personal.as_bytes()));
    if record.personal.as_deref() != digest.as_deref() {
        return Err("the personal part is not as it was written".to_owned());
    }
    Ok(record.chain.filter(|_| record.kind == Kind::Request))
}
