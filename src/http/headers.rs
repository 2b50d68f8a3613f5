//! Request and response header lists: bytes, in order, with repetitions visible.

use std::ops::Range;

/// A header list exactly as the proxy holds it, pseudo-headers included.
///
/// Names compare case-insensitively. Values are bytes: a client may send any, and none may be trusted to be UTF-8.
#[derive(Clone, Default)]
pub struct HeaderList {
    /// All names and values, as the proxy has handed them over.
    bytes: Vec<u8>,
    /// Where in them each name and its value are.
    fields: Vec<Field>,
}

/// Where a name and its value are.
pub type Field = (Range<usize>, Range<usize>);

/// What a header that may appear only once holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Single<'a> {
    /// The header is absent.
    Absent,
    /// It appears once, in visible ASCII with inner blanks, white space around it removed (RFC 9110 section 5.5).
    Value(&'a str),
    /// It is repeated, or holds bytes beyond visible ASCII: two readers could take it for different things.
    Ambiguous,
}

impl HeaderList {
    /// The list of the fields that are at these places of `bytes`.
    pub const fn new(bytes: Vec<u8>, fields: Vec<Field>) -> Self {
        Self { bytes, fields }
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// All values of `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        // Most names differ in their length already.
        let fields = self.fields.iter().filter(|(candidate, _)| candidate.len() == name.len());
        fields
            .filter(move |(candidate, _)| self.part(candidate).eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| self.part(value))
    }

    /// The only value of `name`.
    pub fn single<'a>(&'a self, name: &'a str) -> Single<'a> {
        let mut values = self.all(name);
        let Some(value) = values.next() else { return Single::Absent };
        // Without a branch for each byte, many are looked at at once.
        let is_visible = value.iter().fold(true, |all, byte| all & matches!(byte, b' '..=b'~' | b'\t'));
        if values.next().is_some() || !is_visible {
            return Single::Ambiguous;
        }
        core::str::from_utf8(value).map_or(Single::Ambiguous, |text| Single::Value(text.trim_matches([' ', '\t'])))
    }

    /// The only value of `name`, when there is one that can be read in one way.
    pub fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.single(name) {
            Single::Value(value) => Some(value),
            Single::Absent | Single::Ambiguous => None,
        }
    }

    /// Whether `name` appears at all.
    pub fn contains(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The names in the list, as sent.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().map(|(name, _)| self.part(name))
    }
}

impl std::fmt::Debug for HeaderList {
    /// Names only: values hold credentials.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.names().map(String::from_utf8_lossy)).finish()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for HeaderList {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut list = Self::default();
        for (name, value) in pairs {
            let mut keep = |part: &[u8]| {
                let start = list.bytes.len();
                list.bytes.extend_from_slice(part);
                start..list.bytes.len()
            };
            let field = (keep(name.as_ref()), keep(value.as_ref()));
            list.fields.push(field);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_or_unreadable_header_is_ambiguous() {
        let list = HeaderList::from_iter([
            ("Once", b" a b\t".as_slice()),
            ("twice", b"a"),
            ("TWICE", b"b"),
            ("binary", b"\xff"),
            ("newline", b"a\r\nb"),
            ("empty", b""),
        ]);
        assert_eq!(list.single("once"), Single::Value("a b"));
        assert_eq!(list.single("absent"), Single::Absent);
        assert_eq!(list.single("empty"), Single::Value(""));
        for name in ["twice", "binary", "newline"] {
            assert_eq!(list.single(name), Single::Ambiguous, "{name}");
        }
    }

    #[test]
    fn every_byte_of_a_value_counts() {
        for byte in 0..=u8::MAX {
            for at in 0..40 {
                let mut value = [b'a'; 40];
                value[at] = byte;
                let list = HeaderList::from_iter([("name", value)]);
                let is_visible = byte == b'\t' || char::from(byte) == ' ' || byte.is_ascii_graphic();
                assert_eq!(matches!(list.single("name"), Single::Value(_)), is_visible, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn debug_output_holds_no_value() {
        let list = HeaderList::from_iter([("authorization", "Bearer secret")]);
        assert!(!format!("{list:?}").contains("secret"));
    }
}
