//! Where things stand in a YAML or JSON text, so that it can be edited without being written anew.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// Its bytes: of a collection in brackets from the first bracket to the last.
    pub(super) at: Range<usize>,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar {
        text: String,
        quotes: Quotes,
    },
    List {
        is_flow: bool,
        elements: Vec<Node>,
    },
    Map(Vec<(Node, Node)>),
    /// Stands for another value.
    Alias,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Quotes {
    None,
    Double,
    /// Single quotes, or a block.
    Other,
}

impl Node {
    /// The value of the only document of a text; `None` if it cannot be read.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut events = Parser::new_from_str(text);
        loop {
            let (event, span) = next(&mut events)?;
            if !matches!(event, Event::StreamStart | Event::DocumentStart(..)) {
                return Self::read(event, span, &mut events);
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the parser's events can become more; those are no values")]
    fn read<'t>(event: Event<'t>, span: Span, events: &mut impl Events<'t>) -> Option<Self> {
        let mut at = span.byte_range()?;
        let content = match event {
            Event::Scalar(text, style, ..) => {
                let quotes = match style {
                    ScalarStyle::Plain => Quotes::None,
                    ScalarStyle::DoubleQuoted => Quotes::Double,
                    ScalarStyle::SingleQuoted | ScalarStyle::Literal | ScalarStyle::Folded => Quotes::Other,
                };
                Content::Scalar { text: text.into_owned(), quotes }
            }
            Event::SequenceStart(style, ..) => {
                let mut elements = Vec::new();
                loop {
                    match next(events)? {
                        (Event::SequenceEnd, span) => {
                            at.end = span.byte_range()?.end;
                            break;
                        }
                        (event, span) => elements.push(Self::read(event, span, events)?),
                    }
                }
                Content::List { is_flow: style == StructureStyle::Flow, elements }
            }
            Event::MappingStart(..) => {
                let mut members = Vec::new();
                loop {
                    match next(events)? {
                        (Event::MappingEnd, span) => {
                            at.end = span.byte_range()?.end;
                            break;
                        }
                        (event, span) => {
                            let name = Self::read(event, span, events)?;
                            let (event, span) = next(events)?;
                            members.push((name, Self::read(event, span, events)?));
                        }
                    }
                }
                Content::Map(members)
            }
            Event::Alias(_) => Content::Alias,
            _ => return None,
        };
        Some(Self { at, content })
    }

    /// The member of that name, with its name.
    pub(super) fn member(&self, name: &str) -> Option<(&Self, &Self)> {
        let Content::Map(members) = &self.content else { return None };
        let is_meant = |key: &Self| matches!(&key.content, Content::Scalar { text, .. } if text == name);
        members.iter().find(|(key, _)| is_meant(key)).map(|(key, value)| (key, value))
    }

    /// The value at the end of a path, with its name.
    pub(super) fn at_path(&self, path: &[String]) -> Option<(&Self, &Self)> {
        let (first, rest) = path.split_first()?;
        let found = self.member(first)?;
        if rest.is_empty() { Some(found) } else { found.1.at_path(rest) }
    }
}

trait Events<'t>: Iterator<Item = Result<(Event<'t>, Span), granit_parser::ScanError>> {}

impl<'t, T: Iterator<Item = Result<(Event<'t>, Span), granit_parser::ScanError>>> Events<'t> for T {}

/// The next event that is not about presentation.
fn next<'t>(events: &mut impl Events<'t>) -> Option<(Event<'t>, Span)> {
    loop {
        let (event, span) = events.next()?.ok()?;
        if !matches!(event, Event::Comment(..)) {
            return Some((event, span));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_of_the_text() {
        let text = "# über\na: [x, \"y z\" , 'w']  # c\nb:\n  c:\n    - one # first\n    - two\n";
        let of = |node: &Node| text.get(node.at.clone()).unwrap();
        let root = Node::parse(text).unwrap();
        let (name, list) = root.member("a").unwrap();
        assert_eq!(of(name), "a");
        assert_eq!(of(list), "[x, \"y z\" , 'w']");
        let Content::List { elements, is_flow: true } = &list.content else { panic!("no list") };
        let texts: Vec<&str> = elements.iter().map(of).collect();
        assert_eq!(texts, ["x", "\"y z\"", "'w'"]);
        let (_, list) = root.at_path(&["b".to_owned(), "c".to_owned()]).unwrap();
        let Content::List { elements, is_flow: false } = &list.content else { panic!("no list") };
        let texts: Vec<&str> = elements.iter().map(of).collect();
        assert_eq!(texts, ["one", "two"]);
    }
}
