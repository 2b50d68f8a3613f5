//! W3C trace context, as far as a record needs it.

use super::record;

/// Where a request belongs in a trace. From the client: well-formed, and nothing more is known of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    id: [u8; 32],
    parent: [u8; 16],
    source: &'static str,
}

impl TraceContext {
    /// Reads a `traceparent` (W3C Trace Context, section 3.2): version 00, or a later one, of which the first parts count.
    pub fn parse(text: &str, source: &'static str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut hexadecimal = |size: usize| {
            let part = parts.next()?;
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            (part.len() == size && part.bytes().all(is_digit)).then_some(part)
        };
        let version = hexadecimal(2).filter(|version| *version != "ff")?;
        let is_set = |id: &&str| id.bytes().any(|byte| byte != b'0');
        let id = hexadecimal(32).filter(is_set)?;
        let parent = hexadecimal(16).filter(is_set)?;
        hexadecimal(2)?;
        let is_whole = version != "00" || parts.next().is_none();
        let (id, parent) = (id.as_bytes().try_into().ok()?, parent.as_bytes().try_into().ok()?);
        is_whole.then_some(Self { id, parent, source })
    }

    /// The same in a record.
    pub fn to_record(&self) -> record::Trace<'_> {
        let digits = |digits| str::from_utf8(digits).unwrap_or_default().into();
        record::Trace { id: digits(&self.id), parent: digits(&self.parent), source: self.source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_contexts_are_recorded() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = TraceContext::parse(good, "header").unwrap();
        let read = read.to_record();
        assert_eq!((&*read.id, &*read.parent), ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"));
        assert!(TraceContext::parse(&good.replacen("00", "01", 1).replace("-01", "-01-later"), "header").is_some());
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-00f067aa0ba902b7-1",
            "x\n00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong, "header"), None, "{wrong}");
        }
    }
}
