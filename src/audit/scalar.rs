//! Strings, numbers and booleans of others, as a record shows them.

use serde_json::Value;

use super::mask::masked;
use crate::json::{self, Text};
use crate::limits;

/// Whole numbers below this are the same in every JSON parser (RFC 7493 section 2.2).
const FIRST_INEXACT: u64 = 1 << 53;

/// What is shown for the JSON text of a value: strings masked and cut, whole numbers below 2^53 as numbers, others as
/// strings with their text.
///
/// `None` for `null`, for objects and arrays, and for a string with half of a surrogate pair.
pub(super) fn shown(raw: &str) -> Option<Value> {
    let show = |text: &str| masked(text, limits::MAX_AUDIT_VALUE_BYTES);
    match raw.as_bytes().first()? {
        b'"' => json::parse(raw.as_bytes(), Text).ok().map(|text| show(&text).into()),
        b't' | b'f' => raw.parse::<bool>().ok().map(Value::from),
        b'-' | b'0'..=b'9' => {
            let text = show(raw);
            let is_exact = |number: &i64| number.unsigned_abs() < FIRST_INEXACT && text != "-0";
            Some(text.parse::<i64>().ok().filter(is_exact).map_or_else(|| text.as_str().into(), Value::from))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shown_in_a_form_that_every_sink_keeps() {
        for (raw, expected) in [
            (r#""a\u0062\n""#, json!("ab\u{fffd}")),
            (r#""""#, json!("")),
            (r#""jo@example.com""#, json!("[email]")),
            ("true", json!(true)),
            ("false", json!(false)),
            ("0", json!(0)),
            ("-7", json!(-7)),
            ("9007199254740991", json!(9_007_199_254_740_991_u64)),
            ("-9007199254740991", json!(-9_007_199_254_740_991_i64)),
            ("9007199254740992", json!("9007199254740992")),
            ("-9007199254740992", json!("-9007199254740992")),
            ("18446744073709551616", json!("18446744073709551616")),
            ("-0", json!("-0")),
            ("1.0", json!("1.0")),
            ("1e3", json!("1e3")),
            ("0.10", json!("0.10")),
            ("4111111111111111", json!("[card]")),
        ] {
            assert_eq!(shown(raw), Some(expected), "{raw}");
        }
        for nothing in ["null", "{}", "[]", r#""\ud800""#, ""] {
            assert_eq!(shown(nothing), None, "{nothing}");
        }
        assert_eq!(shown(&"7".repeat(300)), Some(json!(format!("{}…[+44]", "7".repeat(256)))));
    }
}
