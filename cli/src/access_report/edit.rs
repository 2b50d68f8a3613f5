//! Edits of a list in a text: elements go, or give way to others, and all the rest stays as it was written.

use std::ops::Range;

use super::yaml::{Content, Node, Quotes};

/// What becomes of an element of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It stays.
    Kept,
    /// It gives way to these; to none, if it goes.
    Becomes(Vec<String>),
}

/// Bytes that give way to a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Edit {
    at: Range<usize>,
    text: String,
}

/// The edits of the list at `path`; `None` if it is written in a way that this does not know how to edit.
pub(super) fn edits(source: &str, root: &Node, path: &[String], fates: &[Fate]) -> Option<Vec<Edit>> {
    let (name, list) = root.at_path(path)?;
    let Content::List { is_flow, elements } = &list.content else { return None };
    if elements.len() != fates.len() || elements.iter().any(|element| is_odd(source, element)) {
        return None;
    }
    let goes = |fate: &Fate| matches!(fate, Fate::Becomes(texts) if texts.is_empty());
    if *is_flow {
        let inner = list.at.start.checked_add(1)?..list.at.end.checked_sub(1)?;
        if fates.iter().all(goes) {
            return Some(vec![Edit { at: inner, text: String::new() }]);
        }
        flow(elements, fates)
    } else {
        let mut edits = block(source, elements, fates)?;
        if fates.iter().all(goes) {
            let after_name = source.get(name.at.end..list.at.start)?;
            let colon = name.at.end.checked_add(after_name.find(':')?)?.checked_add(1)?;
            edits.push(Edit { at: colon..colon, text: " []".to_owned() });
        }
        Some(edits)
    }
}

/// Makes edits that do not overlap.
pub(super) fn apply(source: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
    let mut text = String::with_capacity(source.len());
    let mut end = 0;
    for edit in edits {
        text.push_str(source.get(end..edit.at.start)?);
        text.push_str(&edit.text);
        end = edit.at.end;
    }
    text.push_str(source.get(end..)?);
    Some(text)
}

/// Whether an element is not a text within one line.
fn is_odd(source: &str, element: &Node) -> bool {
    let is_text = matches!(element.content, Content::Scalar { .. });
    !is_text || source.get(element.at.clone()).is_none_or(|text| text.is_empty() || text.contains('\n'))
}

fn flow(elements: &[Node], fates: &[Fate]) -> Option<Vec<Edit>> {
    let mut edits = Vec::new();
    // Where the last element ends that stays, or that something takes the place of.
    let mut kept_until = None;
    for (index, (element, fate)) in elements.iter().zip(fates).enumerate() {
        let Fate::Becomes(texts) = fate else {
            kept_until = Some(element.at.end);
            continue;
        };
        if !texts.is_empty() {
            edits.push(Edit { at: element.at.clone(), text: written(element, texts).join(", ") });
            kept_until = Some(element.at.end);
            continue;
        }
        let rest = elements.iter().zip(fates).skip(index.saturating_add(1));
        let is_last = rest.clone().all(|(_, fate)| *fate == Fate::Becomes(Vec::new()));
        if is_last {
            // With the comma before it, and all that follows.
            edits.push(Edit { at: kept_until?..elements.last()?.at.end, text: String::new() });
            break;
        }
        let next = elements.get(index.saturating_add(1))?;
        edits.push(Edit { at: element.at.start..next.at.start, text: String::new() });
    }
    Some(edits)
}

fn block(source: &str, elements: &[Node], fates: &[Fate]) -> Option<Vec<Edit>> {
    let mut edits = Vec::new();
    for (element, fate) in elements.iter().zip(fates) {
        let Fate::Becomes(texts) = fate else { continue };
        let line_start = source.get(..element.at.start)?.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let rest = source.get(element.at.end..)?.split_inclusive('\n').next().unwrap_or_default();
        let next_line = element.at.end.checked_add(rest.len())?;
        let content = rest.trim_end_matches(['\r', '\n']);
        let content_end = element.at.end.checked_add(content.len())?;
        let before = source.get(line_start..element.at.start)?;
        let after = content.trim();
        if before.trim() != "-" || !(after.is_empty() || after.starts_with('#')) {
            return None;
        }
        match written(element, texts).split_first() {
            None => {
                edits.push(Edit { at: line_start..next_line, text: String::new() });
            }
            Some((first, others)) => {
                edits.push(Edit { at: element.at.clone(), text: first.clone() });
                let line_break = if rest.ends_with("\r\n") { "\r\n" } else { "\n" };
                let lines = others.iter().map(|text| format!("{line_break}{before}{text}")).collect();
                edits.push(Edit { at: content_end..content_end, text: lines });
            }
        }
    }
    Some(edits)
}

/// Texts as YAML, plain if the element was plain and everybody reads them as texts.
fn written(element: &Node, texts: &[String]) -> Vec<String> {
    let is_plain = matches!(element.content, Content::Scalar { quotes: Quotes::None, .. });
    let is_plain_text = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|char| char.is_ascii_alphanumeric() || "_-./:".contains(char))
            && !text.ends_with(':')
            && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&&*text.to_ascii_lowercase())
    };
    let write = |text: &String| {
        if is_plain && is_plain_text(text) { text.clone() } else { serde_json::Value::from(text.as_str()).to_string() }
    };
    texts.iter().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(source: &str, fates: &[Option<&[&str]>]) -> Option<String> {
        let fates: Vec<Fate> = fates
            .iter()
            .map(|fate| match fate {
                None => Fate::Kept,
                Some(texts) => Fate::Becomes(texts.iter().map(|&text| text.to_owned()).collect()),
            })
            .collect();
        let root = Node::parse(source)?;
        apply(source, edits(source, &root, &["l".to_owned()], &fates)?)
    }

    #[test]
    fn elements_in_brackets_go_with_one_comma() {
        let source = "l: [a, \"b\", c] # kept\nm: 1\n";
        for (fates, expected) in [
            ([None, None, None], "[a, \"b\", c]"),
            ([Some(&[][..]), None, None], "[\"b\", c]"),
            ([None, Some(&[][..]), None], "[a, c]"),
            ([None, None, Some(&[][..])], "[a, \"b\"]"),
            ([None, Some(&[][..]), Some(&[][..])], "[a]"),
            ([Some(&[][..]), Some(&[][..]), None], "[c]"),
            ([Some(&[][..]), Some(&[][..]), Some(&[][..])], "[]"),
            ([Some(&["x:y", "no"][..]), Some(&["z"][..]), None], "[x:y, \"no\", \"z\", c]"),
        ] {
            assert_eq!(edited(source, &fates).unwrap(), format!("l: {expected} # kept\nm: 1\n"));
        }
    }

    #[test]
    fn elements_on_lines_go_with_their_lines() {
        let source = "l:  # why\n  # first\n  - a  # about a\n  - b\nm: 1\n";
        assert_eq!(edited(source, &[None, Some(&[])]).unwrap(), "l:  # why\n  # first\n  - a  # about a\nm: 1\n");
        assert_eq!(
            edited(source, &[Some(&["x", "z"]), None]).unwrap(),
            "l:  # why\n  # first\n  - x  # about a\n  - z\n  - b\nm: 1\n"
        );
        assert_eq!(edited(source, &[Some(&[]), Some(&[])]).unwrap(), "l: []  # why\n  # first\nm: 1\n");
        assert_eq!(
            edited("l:\r\n- a # c\r\n- b\r\n", &[Some(&["x", "z"]), Some(&[])]).unwrap(),
            "l:\r\n- x # c\r\n- z\r\n"
        );
        assert_eq!(edited("l:\n- a\n- b", &[None, Some(&["c"])]).unwrap(), "l:\n- a\n- c");
    }

    #[test]
    fn json_is_edited_too() {
        let source = "{\n  \"l\": [\n    \"a\",\n    \"b\"\n  ]\n}\n";
        assert_eq!(edited(source, &[None, Some(&[])]).unwrap(), "{\n  \"l\": [\n    \"a\"\n  ]\n}\n");
        assert_eq!(edited(source, &[Some(&["x"]), None]).unwrap(), "{\n  \"l\": [\n    \"x\",\n    \"b\"\n  ]\n}\n");
    }

    #[test]
    fn what_is_written_in_an_odd_way_is_left_alone() {
        for source in [
            "l: &x [a]\nm: *x\nl2: 1\n",
            "m: &x [a]\nl: *x\n",
            "l:\n  - |\n    a\n",
            "l: a\n",
            "m: [a]\n",
            "l:\n  - - a\n",
        ] {
            let result = edited(source, &[Some(&[])]);
            assert!(result.is_none() || source.starts_with("l: &x"), "{source}: {result:?}");
        }
    }
}
