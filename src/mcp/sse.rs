//! Server-sent events, as they arrive: each event is held until it is complete, judged, and sent on at once.
//!
//! The grammar is that of WHATWG HTML, "Server-sent events": lines end with LF, CR or CRLF, one leading byte order mark
//! is no part of the stream, the `data` lines of an event are joined, and an event without its blank line never
//! happened. Everything is done on bytes, so neither a chunk that ends between CR and LF nor one that ends inside of a
//! character changes what comes out.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2};

use crate::limits;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What becomes of an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Edit {
    /// It goes out byte for byte.
    Keep,
    /// It goes out with this data; all of its other lines stay.
    Replace(Vec<u8>),
    /// It does not go out. If it has an `id` or a `retry`, an event without data takes its place: the client may want
    /// to resume after it.
    Drop,
}

/// An event is larger than the bound of the stream. The stream cannot go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an event is too large")]
pub struct EventTooLarge;

/// A stream of events under inspection.
///
/// What is passed without a question: comments, blank lines, and events without data (MCP 2025-11-25 primes a stream
/// with one that has an `id` only). Whatever type an event has, its data is judged: some clients do not look at the type.
#[derive(Debug)]
pub struct EventStream {
    /// What earlier chunks had of the event at hand.
    held: Vec<u8>,
    /// Where in the event the line at hand begins.
    line: usize,
    /// What is known of its lines before that.
    found: Found,
    /// Bytes that may be held.
    most: usize,
    /// Whether bytes of the byte order mark may still come.
    at_start: bool,
    /// A line ended with CR; an LF now belongs to it.
    after_cr: bool,
    /// That line was not sent on, so its LF is not either.
    is_dropped: bool,
    /// Something has been sent on.
    has_begun: bool,
    failed: bool,
}

impl Default for EventStream {
    fn default() -> Self {
        Self::new(limits::MAX_EVENT_BYTES)
    }
}

impl EventStream {
    /// A stream of which events of up to `most` bytes are held.
    pub const fn new(most: usize) -> Self {
        Self {
            held: Vec::new(),
            line: 0,
            found: Found { data: Data::None, is_misleading: false, is_for_resumption: false },
            most,
            at_start: true,
            after_cr: false,
            is_dropped: false,
            has_begun: false,
            failed: false,
        }
    }

    /// Takes in the next bytes, asks `edit` about the joined data of each event that is complete with them, and returns
    /// what may go on: a part of the chunk as long as nothing else must come before, within or behind it.
    ///
    /// # Errors
    /// When an event has more bytes than may be held; from then on always.
    pub fn feed<'c>(
        &mut self,
        chunk: &'c [u8],
        edit: &mut dyn FnMut(&[u8]) -> Edit,
    ) -> Result<Cow<'c, [u8]>, EventTooLarge> {
        let mut out = Output { chunk, kept: 0..0, copied: Vec::new() };
        // Where in the chunk the event at hand begins, or what is not held of it yet, and where its line goes on.
        let (mut event, mut at) = (0, 0_usize);
        while let Some(&first) = chunk.get(at) {
            if (std::mem::take(&mut self.after_cr) && first == b'\n' && self.finish_cr_lf(at, &mut out))
                || (self.at_start && self.take_mark(first, &mut out)?)
            {
                at = at.saturating_add(1);
                event = at;
                continue;
            }
            let rest = chunk.get(at..).unwrap_or_default();
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                self.hold(chunk.get(event..).unwrap_or_default())?;
                return Ok(out.finish());
            };
            at = at.saturating_add(length).saturating_add(1);
            self.check(at.saturating_sub(event))?;
            if rest.get(length) == Some(&b'\r') {
                match chunk.get(at) {
                    Some(b'\n') => at = at.saturating_add(1),
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            let (part, mut held) = (event..at, std::mem::take(&mut self.held));
            let fresh = chunk.get(part.clone()).unwrap_or_default();
            if held.is_empty() {
                match self.end_line(fresh, edit, &mut out) {
                    LineEnd::WithinEvent => continue,
                    LineEnd::Kept => out.keep(part),
                    LineEnd::Settled => {}
                }
            } else {
                held.extend_from_slice(fresh);
                match self.end_line(&held, edit, &mut out) {
                    LineEnd::WithinEvent => self.held = held,
                    LineEnd::Kept => out.push(held),
                    LineEnd::Settled => {}
                }
            }
            event = at;
        }
        // These lines were checked.
        self.held.extend_from_slice(chunk.get(event..).unwrap_or_default());
        Ok(out.finish())
    }

    /// The stream has ended: an event that is not complete is none. Says whether there was one.
    pub fn end(&mut self) -> bool {
        self.failed = true;
        !std::mem::take(&mut self.held).is_empty()
    }

    /// Bytes held at the moment.
    pub const fn held_bytes(&self) -> usize {
        self.held.len()
    }

    fn check(&mut self, more: usize) -> Result<(), EventTooLarge> {
        if self.failed || self.held.len().saturating_add(more) > self.most {
            self.failed = true;
            self.held = Vec::new();
            return Err(EventTooLarge);
        }
        Ok(())
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        self.check(bytes.len())?;
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// The LF, at `at` of the chunk, of a line whose CR was the last byte of the chunk before.
    fn finish_cr_lf(&mut self, at: usize, out: &mut Output<'_>) -> bool {
        if !self.held.is_empty() {
            self.held.push(b'\n');
            self.line = self.held.len();
        } else if !self.is_dropped {
            out.keep(at..at.saturating_add(1));
        }
        true
    }

    /// Takes `byte` if it is a part of the byte order mark at the start of the stream.
    fn take_mark(&mut self, byte: u8, out: &mut Output<'_>) -> Result<bool, EventTooLarge> {
        if BYTE_ORDER_MARK.get(self.held.len()) != Some(&byte) {
            self.at_start = false;
            return Ok(false);
        }
        self.hold(&[byte])?;
        if self.held == BYTE_ORDER_MARK {
            self.at_start = false;
            self.has_begun = true;
            out.push(std::mem::take(&mut self.held));
        }
        Ok(true)
    }

    /// The last line of `event` is complete, with its end as far as it has come.
    fn end_line(&mut self, event: &[u8], edit: &mut dyn FnMut(&[u8]) -> Edit, out: &mut Output<'_>) -> LineEnd {
        let first = event.get(self.line);
        let is_blank = matches!(first, Some(b'\n' | b'\r'));
        self.is_dropped = false;
        if self.line == 0 && (is_blank || first == Some(&b':')) {
            // A comment to some, and more than that to others.
            self.is_dropped = has_other_line_end(event);
            self.has_begun |= !self.is_dropped;
            return if self.is_dropped { LineEnd::Settled } else { LineEnd::Kept };
        }
        if !is_blank {
            self.found.note(event, self.line);
            self.line = event.len();
            return LineEnd::WithinEvent;
        }
        self.line = 0;
        let found = std::mem::take(&mut self.found);
        let end = match found.judge(event, edit) {
            Edit::Keep => LineEnd::Kept,
            Edit::Replace(data) => {
                rewrite(Lines { rest: event }, Some(&data), out.copied());
                LineEnd::Settled
            }
            Edit::Drop if found.is_for_resumption => {
                rewrite(Lines { rest: event }, None, out.copied());
                LineEnd::Settled
            }
            Edit::Drop => {
                self.is_dropped = true;
                if !self.has_begun {
                    // Else a byte order mark before the next event would come to stand at the start, and be none of it.
                    out.copied().push(b'\n');
                }
                LineEnd::Settled
            }
        };
        self.has_begun = true;
        end
    }
}

/// What a complete line was.
enum LineEnd {
    /// One of an event of which more is to come.
    WithinEvent,
    /// The last one of what goes out byte for byte.
    Kept,
    /// The last one of what does not, and in whose place everything is out.
    Settled,
}

/// What goes out for one chunk. Most of the time that is a part of the chunk, and nothing is copied.
struct Output<'c> {
    chunk: &'c [u8],
    /// What of the chunk goes out after `copied`.
    kept: Range<usize>,
    copied: Vec<u8>,
}

impl<'c> Output<'c> {
    /// This part of the chunk goes out.
    fn keep(&mut self, part: Range<usize>) {
        if self.kept.end == part.start {
            self.kept.end = part.end;
        } else {
            self.copy();
            self.kept = part;
        }
    }

    /// These bytes go out.
    fn push(&mut self, bytes: Vec<u8>) {
        if self.copied.is_empty() && self.kept.is_empty() {
            self.copied = bytes;
        } else {
            self.copied().extend_from_slice(&bytes);
        }
    }

    /// What goes out so far, to be added to.
    fn copied(&mut self) -> &mut Vec<u8> {
        self.copy();
        &mut self.copied
    }

    fn copy(&mut self) {
        let kept = std::mem::replace(&mut self.kept, 0..0);
        self.copied.extend_from_slice(self.chunk.get(kept).unwrap_or_default());
    }

    fn finish(mut self) -> Cow<'c, [u8]> {
        if self.copied.is_empty() {
            return Cow::Borrowed(self.chunk.get(self.kept).unwrap_or_default());
        }
        self.copy();
        Cow::Owned(self.copied)
    }
}

/// What is known of the lines of an event.
#[derive(Debug, Default)]
struct Found {
    data: Data,
    /// Some line could be taken for data, and is none.
    is_misleading: bool,
    is_for_resumption: bool,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    /// There in the event.
    OneLine(Range<usize>),
    Lines,
}

impl Found {
    /// Takes note of the last line of what has come of an event, which begins at `start`.
    fn note(&mut self, event: &[u8], start: usize) {
        let line = Line::parse(event.get(start..).unwrap_or_default());
        self.is_misleading |= line.is_misleading();
        self.is_for_resumption |= line.is_for_resumption();
        if line.is_data() {
            let end = event.len().saturating_sub(line.end.len());
            self.data = match self.data {
                Data::None => Data::OneLine(end.saturating_sub(line.value.len())..end),
                Data::OneLine(_) | Data::Lines => Data::Lines,
            };
        }
    }

    /// Judges the event, which is complete.
    fn judge(&self, event: &[u8], edit: &mut dyn FnMut(&[u8]) -> Edit) -> Edit {
        let data = match &self.data {
            // What a careless client could take for data is not judged, so it does not pass.
            _ if self.is_misleading => return Edit::Drop,
            Data::None => return Edit::Keep,
            Data::OneLine(span) => Cow::Borrowed(event.get(span.clone()).unwrap_or_default()),
            Data::Lines => {
                let lines: Vec<_> = Lines { rest: event }.filter(Line::is_data).map(|line| line.value).collect();
                Cow::Owned(lines.join(&b'\n'))
            }
        };
        if data.is_empty() { Edit::Keep } else { edit(&data) }
    }
}

/// Writes an event with other data in place of its own, or without data.
fn rewrite(lines: Lines<'_>, data: Option<&[u8]>, out: &mut Vec<u8>) {
    let mut is_written = false;
    for line in lines {
        if line.is_data() || line.is_misleading() {
            if !std::mem::replace(&mut is_written, true) {
                // Line ends within JSON are white space, whichever they are.
                let mut rest = Some(data.unwrap_or_default());
                while let Some(text) = rest {
                    let end = memchr2(b'\n', b'\r', text).and_then(|end| text.split_at_checked(end));
                    let (part, after) = end.unwrap_or((text, &[]));
                    out.extend_from_slice(if part.is_empty() { b"data:" } else { b"data: " });
                    out.extend_from_slice(part);
                    out.extend_from_slice(line.end);
                    rest = after.get(1..);
                }
            }
        } else if data.is_some() || line.name.is_empty() || line.is_for_resumption() {
            // A line that went may have been all that kept this LF from being the end of a CR before it.
            if line.whole == b"\n" && out.ends_with(b"\r") {
                out.push(b'\r');
            }
            out.extend_from_slice(line.whole);
        }
    }
}

/// A line of an event.
struct Line<'a> {
    /// With its end.
    whole: &'a [u8],
    /// The name of the field; empty for a comment and for the blank line.
    name: &'a [u8],
    value: &'a [u8],
    /// LF, CR or CRLF.
    end: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads a line with its end.
    fn parse(whole: &'a [u8]) -> Self {
        let content = whole.strip_suffix(b"\n").unwrap_or(whole);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let end = whole.get(content.len()..).unwrap_or_default();
        let (name, value) = match memchr(b':', content).and_then(|colon| content.split_at_checked(colon)) {
            None => (content, &[][..]),
            Some((name, value)) => {
                let value = value.strip_prefix(b":").unwrap_or(value);
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
        };
        Self { whole, name, value, end }
    }

    fn is_data(&self) -> bool {
        self.name == b"data"
    }

    /// Whether a careless parser could take the field, or a part of it, for `data`: other case, padded, behind a second
    /// byte order mark, or behind what it takes for the end of a line.
    fn is_misleading(&self) -> bool {
        let letters = self.name.iter().filter(|byte| byte.is_ascii_alphabetic());
        !self.is_data()
            && (letters.map(u8::to_ascii_lowercase).eq(*b"data")
                || has_other_line_end(self.name)
                || has_other_line_end(self.value))
    }

    /// Whether the field is for a client that resumes the stream.
    fn is_for_resumption(&self) -> bool {
        matches!(self.name, b"id" | b"retry")
    }
}

/// Whether there is a character at which some languages end lines, and event streams do not: VT, FF, FS, GS, RS, NEL,
/// LINE SEPARATOR, PARAGRAPH SEPARATOR.
fn has_other_line_end(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, 0x0b | 0x0c | 0x1c..=0x1e))
        || text.windows(2).any(|pair| pair == b"\xc2\x85")
        || text.windows(3).any(|triple| matches!(triple, b"\xe2\x80\xa8" | b"\xe2\x80\xa9"))
}

/// The lines of an event.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let end = memchr2(b'\n', b'\r', self.rest)?;
        let (_, from_end) = self.rest.split_at_checked(end)?;
        let length = if from_end.starts_with(b"\r\n") { 2 } else { 1 };
        let (whole, after) = self.rest.split_at_checked(end.saturating_add(length))?;
        self.rest = after;
        Some(Line::parse(whole))
    }
}
