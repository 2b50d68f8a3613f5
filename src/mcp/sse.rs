//! Server-sent events, as they arrive: each event is held until it is complete, judged, and sent on at once.
//!
//! The grammar is that of WHATWG HTML, "Server-sent events": lines end with LF, CR or CRLF, one leading byte order mark
//! is no part of the stream, the `data` lines of an event are joined, and an event without its blank line never
//! happened. Everything is done on bytes, so neither a chunk that ends between CR and LF nor one that ends inside of a
//! character changes what comes out.

use std::borrow::Cow;

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
    /// The lines of the event at hand, and the line at hand.
    held: Vec<u8>,
    /// Where in `held` the line at hand begins.
    line: usize,
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
            most,
            at_start: true,
            after_cr: false,
            is_dropped: false,
            has_begun: false,
            failed: false,
        }
    }

    /// Takes in the next bytes, asks `edit` about the joined data of each event that is complete with them, and appends
    /// to `out` what may go on.
    ///
    /// # Errors
    /// When an event has more bytes than may be held; from then on always.
    pub fn feed(
        &mut self,
        chunk: &[u8],
        edit: &mut dyn FnMut(&[u8]) -> Edit,
        out: &mut Vec<u8>,
    ) -> Result<(), EventTooLarge> {
        let mut rest = chunk;
        while let Some((&first, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                self.finish_cr_lf(out);
                rest = after;
                continue;
            }
            if self.at_start && self.take_mark(first, out)? {
                rest = after;
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                return self.hold(rest);
            };
            let (line, after) = rest.split_at_checked(end.saturating_add(1)).unwrap_or((rest, &[]));
            self.hold(line)?;
            rest = after;
            if line.ends_with(b"\r") {
                match rest.split_first() {
                    Some((b'\n', after)) => {
                        self.held.push(b'\n');
                        rest = after;
                    }
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.end_line(edit, out);
        }
        Ok(())
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

    fn hold(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        if self.failed || self.held.len().saturating_add(bytes.len()) > self.most {
            self.failed = true;
            self.held = Vec::new();
            return Err(EventTooLarge);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// The LF of a line whose CR was the last byte of the chunk before.
    fn finish_cr_lf(&mut self, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.held.push(b'\n');
            self.line = self.held.len();
        } else if !self.is_dropped {
            out.push(b'\n');
        }
    }

    /// Takes `byte` if it is a part of the byte order mark at the start of the stream.
    fn take_mark(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<bool, EventTooLarge> {
        if BYTE_ORDER_MARK.get(self.held.len()) != Some(&byte) {
            self.at_start = false;
            return Ok(false);
        }
        self.hold(&[byte])?;
        if self.held == BYTE_ORDER_MARK {
            self.at_start = false;
            self.has_begun = true;
            out.append(&mut self.held);
        }
        Ok(true)
    }

    /// A line is complete, with its end as far as it has come.
    fn end_line(&mut self, edit: &mut dyn FnMut(&[u8]) -> Edit, out: &mut Vec<u8>) {
        let is_first = self.line == 0;
        let is_blank = matches!(self.held.get(self.line), Some(b'\n' | b'\r'));
        self.is_dropped = false;
        if is_first && (is_blank || self.held.first() == Some(&b':')) {
            if has_other_line_end(&self.held) {
                // A comment to some, and more than that to others.
                self.is_dropped = true;
                self.held.clear();
                return;
            }
            out.append(&mut self.held);
            self.has_begun = true;
        } else if is_blank {
            self.is_dropped = !judge(&self.held, edit, out);
            if self.is_dropped && !self.has_begun {
                // Else a byte order mark before the next event would come to stand at the start, and be none of it.
                out.push(b'\n');
            }
            self.has_begun = true;
            self.line = 0;
            self.held.clear();
            // One large event must not cost the stream its size for ever.
            self.held.shrink_to(KEPT_CAPACITY);
        } else {
            self.line = self.held.len();
        }
    }
}

/// Bytes that stay allocated between events.
const KEPT_CAPACITY: usize = 16 * 1024;

/// Judges one event with its blank line; says whether anything of it goes out.
fn judge(event: &[u8], edit: &mut dyn FnMut(&[u8]) -> Edit, out: &mut Vec<u8>) -> bool {
    let lines = || Lines { rest: event };
    let mut data: Option<Cow<'_, [u8]>> = None;
    let mut is_readable = true;
    for line in lines() {
        is_readable &= !line.is_misleading();
        if line.is_data() {
            match &mut data {
                None => data = Some(Cow::Borrowed(line.value)),
                Some(data) => {
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(line.value);
                }
            }
        }
    }
    let edit = match data {
        // What a careless client could take for data is not judged, so it does not pass.
        _ if !is_readable => Edit::Drop,
        Some(data) if !data.is_empty() => edit(&data),
        Some(_) | None => Edit::Keep,
    };
    match edit {
        Edit::Keep => out.extend_from_slice(event),
        Edit::Replace(data) => rewrite(lines(), Some(&data), out),
        Edit::Drop if lines().any(|line| line.is_for_resumption()) => rewrite(lines(), None, out),
        Edit::Drop => return false,
    }
    true
}

/// Writes an event with other data in place of its own, or without data.
fn rewrite(lines: Lines<'_>, data: Option<&[u8]>, out: &mut Vec<u8>) {
    let mut is_written = false;
    for line in lines {
        if line.is_data() || line.is_misleading() {
            if !std::mem::replace(&mut is_written, true) {
                // Line ends within JSON are white space, whichever they are.
                for part in data.unwrap_or_default().split(|byte| matches!(byte, b'\n' | b'\r')) {
                    out.extend_from_slice(if part.is_empty() { b"data:" } else { b"data: " });
                    out.extend_from_slice(part);
                    out.extend_from_slice(line.end);
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

impl Line<'_> {
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
        let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
        let (content, from_end) = self.rest.split_at_checked(end)?;
        let length = if from_end.starts_with(b"\r\n") { 2 } else { 1 };
        let (end, after) = from_end.split_at_checked(length)?;
        let (whole, _) = self.rest.split_at_checked(content.len().saturating_add(length))?;
        self.rest = after;
        let (name, value) = match content.iter().position(|byte| *byte == b':') {
            None => (content, &[][..]),
            Some(colon) => {
                let (name, value) = content.split_at_checked(colon)?;
                let value = value.strip_prefix(b":").unwrap_or(value);
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
        };
        Some(Line { whole, name, value, end })
    }
}
