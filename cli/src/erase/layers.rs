//! Text below the layers in which sinks wrap it: escapes of JSON, once for each string in a string, and Base64.
//!
//! Nothing is parsed, so that damaged lines are looked into as well, and every one of several members of one name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::log::line::START_IN_BASE64;

/// Layers that are looked into: no sink has more than three.
const MAX_LAYERS: usize = 6;

/// Characters of Base64 that stand for three bytes.
const QUANTUM: usize = 4;

/// Whether the text is wanted in one of its layers.
pub(super) fn any_layer(text: &str, is_wanted: &dyn Fn(&str) -> bool) -> bool {
    any_layer_below(text, 0, is_wanted)
}

fn any_layer_below(text: &str, depth: usize, is_wanted: &dyn Fn(&str) -> bool) -> bool {
    if is_wanted(text) {
        return true;
    }
    let depth = depth.saturating_add(1);
    if depth > MAX_LAYERS {
        return false;
    }
    let is_below = |text: String| any_layer_below(&text, depth, is_wanted);
    text.match_indices(START_IN_BASE64).any(|(start, _)| is_below(decoded(text.get(start..).unwrap_or_default())))
        || text.contains('\\') && is_below(unescaped(text))
}

/// What the Base64 is of that `text` begins with, except for what is damaged of it.
fn decoded(text: &str) -> String {
    let end = text.find(|character: char| character == '"' || character == '\\' || character.is_whitespace());
    let encoded = text.get(..end.unwrap_or(text.len())).unwrap_or_default().as_bytes();
    let bytes = STANDARD.decode(encoded).unwrap_or_else(|_| {
        encoded.chunks(QUANTUM).flat_map(|quantum| STANDARD.decode(quantum).unwrap_or_default()).collect()
    });
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text with each escape of JSON replaced by what it stands for, in strings and elsewhere.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('\\') {
        let (before, escape) = rest.split_at(start);
        plain.push_str(before);
        rest = unescape(escape, &mut plain);
    }
    plain.push_str(rest);
    plain
}

/// Takes the escapes that `text` begins with; what comes after them.
fn unescape<'a>(text: &'a str, plain: &mut String) -> &'a str {
    let mut units = Vec::new();
    let mut rest = text;
    while let Some((unit, after)) = code_unit(rest) {
        units.push(unit);
        rest = after;
    }
    if !units.is_empty() {
        // A character can be two escapes.
        plain.extend(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
        return rest;
    }
    let mut characters = text.chars();
    characters.next();
    match characters.next() {
        Some('n') => plain.push('\n'),
        Some('r') => plain.push('\r'),
        Some('t') => plain.push('\t'),
        Some('b') => plain.push('\u{8}'),
        Some('f') => plain.push('\u{c}'),
        Some(character @ ('"' | '\\' | '/')) => plain.push(character),
        Some(other) => plain.extend(['\\', other]),
        None => plain.push('\\'),
    }
    characters.as_str()
}

/// The code unit that `text` begins with as an escape, and the rest.
fn code_unit(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.strip_prefix("\\u")?.split_at_checked(4)?;
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal).map(|unit| (unit, rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn escapes_stand_for_what_json_says() {
        let text = "a\"b\\c/\n\r\t\u{8}\u{c}\u{1}ë😀";
        assert_eq!(unescaped(&json!(text).to_string()), format!("\"{text}\""));
        assert_eq!(unescaped(r"\ud83d\ude00\u00eb\/\ud83d."), "😀ë/\u{fffd}.");
        for odd in [r"\", r"\x", r"\u12", r"\u+123", r"\uééé"] {
            assert_eq!(unescaped(odd), odd);
        }
    }

    #[test]
    fn every_layer_is_looked_into() {
        let is_in = |text: &str| any_layer(text, &|text| text.contains("a\\b \"c\""));
        let mut text = r#"{"mac":"a\\b \"c\""}"#.to_owned();
        for _ in 0..4 {
            assert!(is_in(&text), "{text}");
            let encoded = json!([STANDARD.encode(&text)]).to_string();
            assert_eq!(is_in(&encoded), text.starts_with(r#"{"mac":"#));
            text = json!({"log": text}).to_string();
        }
        assert!(!is_in(r#"{"mac":"a\\c \"b\""}"#));
    }

    #[test]
    fn what_is_left_of_damaged_base64_is_looked_into() {
        let is_in = |text: &str| any_layer(text, &|text| text.contains("anna"));
        let encoded = STANDARD.encode(r#"{"mac":"x","a":"anna","b":"and more of it"}"#);
        let mut damaged = encoded.clone();
        damaged.replace_range(12..13, "!");
        assert!(is_in(&damaged));
        assert!(is_in(encoded.get(..41).unwrap()));
    }
}
