//! Files and standard input, compressed or not, as lines.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use flate2::read::MultiGzDecoder;

/// Longest line that is read whole, in bytes. Exporters of OpenTelemetry write thousands of records as one line.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// What gzip begins with (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Where lines come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// Standard input, written `-`.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::Stdin } else { Self::File(text.into()) })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => formatter.write_str("(standard input)"),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

/// A line of one of the sources; they order as the lines were read.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Index of the source.
    pub source: usize,
    /// Number of the line, from 1.
    pub line: u64,
}

/// The names of sources, for [`Place`]s.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<String>);

impl Names {
    /// The names of `sources`, in their order.
    pub fn new<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Self {
        Self(sources.into_iter().map(Source::to_string).collect())
    }

    /// The name of the source of `place`.
    pub fn source(&self, place: Place) -> &str {
        self.0.get(place.source).map_or("?", String::as_str)
    }

    /// `name:line`.
    pub fn show(&self, place: Place) -> String {
        format!("{}:{}", self.source(place), place.line)
    }
}

/// An input that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {name}: {error}")]
pub struct InputError {
    name: String,
    #[source]
    error: io::Error,
}

/// How a line ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// With a line feed.
    LineFeed,
    /// With the input.
    Input,
    /// It is longer than [`MAX_LINE_BYTES`]; the rest was passed over.
    TooLong,
    /// The compressed data is cut off or damaged, with the reason; nothing after it can be read.
    Broken(String),
}

/// A line as it was read.
#[derive(Debug)]
pub struct RawLine<'a> {
    /// Where it is.
    pub place: Place,
    /// Its bytes, without the line feed.
    pub bytes: &'a [u8],
    /// How it ends.
    pub end: &'a End,
}

/// Several sources as one log, in their order.
pub struct Log<'a> {
    sources: Vec<Source>,
    stdin: Option<Box<dyn Read + 'a>>,
    first: usize,
    next: usize,
    current: Option<Lines<'a>>,
    bytes_read: Rc<Cell<u64>>,
}

impl fmt::Debug for Log<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Log").field("sources", &self.sources).field("next", &self.next).finish_non_exhaustive()
    }
}

impl<'a> Log<'a> {
    /// The log in `sources`; `stdin` is what a [`Source::Stdin`] among them reads.
    pub fn new(sources: Vec<Source>, stdin: Box<dyn Read + 'a>) -> Self {
        let bytes_read = Rc::default();
        Self { sources, stdin: Some(stdin), first: 0, next: 0, current: None, bytes_read }
    }

    /// The same, with sources that count from `first` in [`Place::source`].
    #[must_use]
    pub fn counting_from(mut self, first: usize) -> Self {
        self.first = first;
        self
    }

    /// Bytes read up to now, compressed ones as they are in the file.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// The next line, of whichever source has one.
    ///
    /// # Errors
    /// When a source cannot be opened or read. That compressed data is damaged is no error, but an [`End::Broken`].
    pub fn next_line(&mut self) -> Result<Option<RawLine<'_>>, InputError> {
        loop {
            if let Some(lines) = &mut self.current
                && lines.advance().map_err(|error| input_error(self.sources.get(self.next.saturating_sub(1)), error))?
            {
                break;
            }
            let Some(source) = self.sources.get(self.next) else { return Ok(None) };
            let opened = open(source, &mut self.stdin, &self.bytes_read);
            self.current = Some(opened.map_err(|error| input_error(Some(source), error))?);
            self.next = self.next.saturating_add(1);
        }
        let source = self.first.saturating_add(self.next.saturating_sub(1));
        Ok(self.current.as_ref().map(|lines| RawLine {
            place: Place { source, line: lines.number },
            bytes: &lines.buffer,
            end: &lines.end,
        }))
    }
}

fn input_error(source: Option<&Source>, error: io::Error) -> InputError {
    InputError { name: source.map_or_else(String::new, Source::to_string), error }
}

fn open<'a>(
    source: &Source,
    stdin: &mut Option<Box<dyn Read + 'a>>,
    bytes_read: &Rc<Cell<u64>>,
) -> io::Result<Lines<'a>> {
    let input: Box<dyn Read + 'a> = match source {
        Source::Stdin => stdin.take().ok_or_else(|| io::Error::other("it can be read only once"))?,
        Source::File(path) => Box::new(File::open(path)?),
    };
    Lines::new(Counted { input, bytes_read: Rc::clone(bytes_read) })
}

/// Counts what goes through.
struct Counted<'a> {
    input: Box<dyn Read + 'a>,
    bytes_read: Rc<Cell<u64>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.bytes_read.set(self.bytes_read.get().saturating_add(u64::try_from(count).unwrap_or(u64::MAX)));
        Ok(count)
    }
}

/// The lines of one input. The one that was read last is in `buffer`.
pub struct Lines<'a> {
    input: Box<dyn BufRead + 'a>,
    is_gzip: bool,
    buffer: Vec<u8>,
    end: End,
    number: u64,
}

impl fmt::Debug for Lines<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lines").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<'a> Lines<'a> {
    /// The lines of the file at `path`.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// The lines of `input`, which is decompressed if it begins as gzip does.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(mut input: impl Read + 'a) -> io::Result<Self> {
        let mut start = Vec::with_capacity(GZIP.len());
        input.by_ref().take(2).read_to_end(&mut start)?;
        let is_gzip = start == GZIP;
        let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(start).chain(input));
        let input: Box<dyn BufRead + 'a> = if is_gzip {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(whole)))
        } else {
            Box::new(whole)
        };
        Ok(Self { input, is_gzip, buffer: Vec::new(), end: End::LineFeed, number: 0 })
    }

    /// Whether the input is compressed.
    pub const fn is_gzip(&self) -> bool {
        self.is_gzip
    }

    /// The line that [`Lines::advance`] has read, without the line feed.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// How that line ends.
    pub const fn end(&self) -> &End {
        &self.end
    }

    /// Reads the next line; `false` if there is none.
    ///
    /// # Errors
    /// When the input cannot be read. That compressed data is damaged is no error, but an [`End::Broken`].
    pub fn advance(&mut self) -> io::Result<bool> {
        if matches!(self.end, End::Broken(_)) {
            return Ok(false);
        }
        self.buffer.clear();
        match self.read_line() {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if self.is_gzip && is_damage(error.kind()) => self.end = End::Broken(error.to_string()),
            Err(error) => return Err(error),
        }
        self.number = self.number.saturating_add(1);
        Ok(true)
    }

    fn read_line(&mut self) -> io::Result<bool> {
        let limit = MAX_LINE_BYTES.saturating_add(1);
        self.input.by_ref().take(as_u64(limit)).read_until(b'\n', &mut self.buffer)?;
        self.end = if self.buffer.pop_if(|last| *last == b'\n').is_some() {
            End::LineFeed
        } else if self.buffer.len() == limit {
            self.input.skip_until(b'\n')?;
            End::TooLong
        } else if self.buffer.is_empty() {
            return Ok(false);
        } else {
            End::Input
        };
        Ok(true)
    }
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What a decompressor says of its input. Trouble with the file itself is of other kinds.
const fn is_damage(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn lines(input: &[u8]) -> Vec<(String, End)> {
        let mut lines = Lines::new(input).unwrap();
        let mut read = Vec::new();
        while lines.advance().unwrap() {
            read.push((String::from_utf8_lossy(lines.bytes()).into_owned(), lines.end().clone()));
        }
        read
    }

    #[test]
    fn a_line_says_how_it_ends() {
        let line = |text: &str, end| (text.to_owned(), end);
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"a"), [line("a", End::Input)]);
        assert_eq!(lines(b"a\n\nb"), [line("a", End::LineFeed), line("", End::LineFeed), line("b", End::Input)]);
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes() {
        let mut members = gzip(b"a\nb");
        members.extend(gzip(b"c\n"));
        let texts: Vec<String> = lines(&members).into_iter().map(|(text, _)| text).collect();
        assert_eq!(texts, ["a", "bc"]);
    }

    #[test]
    fn damaged_gzip_ends_the_input_visibly() {
        let whole = gzip("a line of the log\n".repeat(50).as_bytes());
        let cut = whole.split_at(whole.len() - 9).0;
        assert!(matches!(lines(cut).last(), Some((_, End::Broken(_)))));
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        assert!(matches!(lines(&changed).last(), Some((_, End::Broken(_)))));
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let long = io::repeat(b'x').take(as_u64(3 * MAX_LINE_BYTES)).chain(&b"\nshort\n"[..]);
        let mut lines = Lines::new(long).unwrap();
        assert!(lines.advance().unwrap());
        assert_eq!(lines.end(), &End::TooLong);
        assert!(lines.bytes().len() <= MAX_LINE_BYTES + 1);
        assert!(lines.advance().unwrap());
        assert_eq!(lines.bytes(), b"short");
    }

    #[test]
    fn a_line_of_the_greatest_length_is_whole() {
        let mut text = "x".repeat(MAX_LINE_BYTES);
        text.push_str("\ny\n");
        let read = lines(text.as_bytes());
        assert_eq!(read.iter().map(|(_, end)| end).collect::<Vec<_>>(), [&End::LineFeed, &End::LineFeed]);
        assert_eq!(read[0].0.len(), MAX_LINE_BYTES);
    }

    #[test]
    fn sources_follow_one_another() {
        let stdin = Box::new(&b"one\ntwo\n"[..]);
        let mut log = Log::new(vec!["-".parse().unwrap()], stdin).counting_from(4);
        let first = log.next_line().unwrap().unwrap().place;
        assert_eq!(first, Place { source: 4, line: 1 });
        assert_eq!(log.next_line().unwrap().unwrap().bytes, b"two");
        assert!(log.next_line().unwrap().is_none());
        assert_eq!(log.bytes_read(), 8);
    }

    #[test]
    fn a_missing_file_is_named() {
        let mut log = Log::new(vec!["no/such.log".parse().unwrap()], Box::new(io::empty()));
        assert!(log.next_line().unwrap_err().to_string().starts_with("cannot read no/such.log: "));
    }
}
