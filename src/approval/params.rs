//! `params` in the one form that is hashed, and what of them is the gateway's own.
//!
//! The canonical form: members sorted by the bytes of their names, strings escaped as serde_json escapes them, numbers as
//! they are written, no blanks. Left out are `_meta`, which says nothing about the call, and the gateway's own fields,
//! which the upstream never sees. So what is approved is what is forwarded.

use std::borrow::Cow;
use std::ops::Range;

use crate::json::Defect;
use crate::limits;
use crate::mcp::walk::{Edits, Sieve, Walker};
use crate::mcp::{APPROVAL_INPUT, Unreadable};
use crate::session::SessionKeys;

const META: &str = "_meta";
const STATE: &str = "requestState";
const RESPONSES: &str = "inputResponses";

/// The members of `params` that are looked at. Others in a misleading spelling of one of these were refused before.
const PARAMS: [&str; 3] = [META, STATE, RESPONSES];

/// Which attempt of a call it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Round {
    /// The one that was approved, or is to be. What the client brings back to the upstream is part of it.
    First,
    /// One that follows because the upstream asked for input.
    Continuation,
}

/// `params` in canonical form.
#[derive(Debug)]
pub(super) struct Canonical(String);

impl Canonical {
    /// Reads one message. It is never longer than the message itself, and takes as much memory again while it is made.
    pub(super) fn params_of(body: &[u8], round: Round) -> Result<Self, Unreadable> {
        let mut writer = Writer { out: String::new() };
        let mut walker = Walker::new(body)?;
        walker.members(&["params"], |walker, name, _| {
            if name == "params" { writer.params(walker, round) } else { walker.skip().map(drop) }
        })?;
        walker.finish()?;
        if writer.out.is_empty() {
            // In JSON-RPC no parameters and an empty object of them are two things; servers may tell them apart.
            writer.out.push_str("null");
        }
        Ok(Self(writer.out))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What of a message's `params` an approval is for, as JSON: `null` where there are none.
///
/// # Errors
/// When the parameters could be read in two ways, nest too deeply, or are no object.
pub fn canonical_params(body: &[u8], round: Round) -> Result<String, Unreadable> {
    Canonical::params_of(body, round).map(|Canonical(params)| params)
}

/// A member of an object that is being written.
struct Written {
    name: String,
    /// Name and value in `out`, without a comma.
    span: Range<usize>,
}

struct Writer {
    out: String,
}

impl Writer {
    fn params(&mut self, walker: &mut Walker<'_>, round: Round) -> Result<(), Unreadable> {
        self.object(walker, &PARAMS, |writer, walker, name| {
            let is_counted = match (name, round) {
                (META, _) | (STATE | RESPONSES, Round::Continuation) => false,
                (STATE, Round::First) => !is_own_state(walker)?,
                (RESPONSES, Round::First) => return writer.responses(walker),
                _ => true,
            };
            if is_counted {
                writer.value(walker, limits::MAX_JSON_DEPTH)?;
            } else {
                walker.skip()?;
            }
            Ok(is_counted)
        })
    }

    /// `inputResponses` without the answer to the gateway; not at all when there was nothing else.
    fn responses(&mut self, walker: &mut Walker<'_>) -> Result<bool, Unreadable> {
        if walker.peek() != Some(b'{') {
            return self.value(walker, limits::MAX_JSON_DEPTH).map(|()| true);
        }
        let (mut others, mut is_asked) = (false, false);
        self.object(walker, &[APPROVAL_INPUT], |writer, walker, name| {
            if name == APPROVAL_INPUT {
                is_asked = true;
                return walker.skip().map(|_| false);
            }
            others = true;
            writer.value(walker, limits::MAX_JSON_DEPTH).map(|()| true)
        })?;
        Ok(others || !is_asked)
    }

    /// Recursive, as deep as the text nests; `depth` bounds that.
    fn value(&mut self, walker: &mut Walker<'_>, depth: usize) -> Result<(), Unreadable> {
        match walker.peek() {
            Some(b'{') => {
                let depth = deeper(depth)?;
                self.object(walker, &[], |writer, walker, _| writer.value(walker, depth).map(|()| true))
            }
            Some(b'[') => {
                let depth = deeper(depth)?;
                walker.enter_array();
                self.out.push('[');
                let mut is_first = true;
                while walker.next_element()? {
                    if !std::mem::take(&mut is_first) {
                        self.out.push(',');
                    }
                    self.value(walker, depth)?;
                }
                self.out.push(']');
                Ok(())
            }
            Some(b'"') => {
                let text = walker.string_value()?.ok_or(Unreadable::NotJson)?;
                self.string(&text)
            }
            _ => {
                let span = walker.skip()?;
                self.out.push_str(walker.slice(span));
                Ok(())
            }
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Unreadable> {
        self.out.push_str(&serde_json::to_string(text).map_err(|_| Unreadable::NotJson)?);
        Ok(())
    }

    /// Writes each member that `write` says counts, then puts them in order.
    fn object<'a>(
        &mut self,
        walker: &mut Walker<'a>,
        known: &[&str],
        mut write: impl FnMut(&mut Self, &mut Walker<'a>, &str) -> Result<bool, Unreadable>,
    ) -> Result<(), Unreadable> {
        let start = self.out.len();
        let mut members: Vec<Written> = Vec::new();
        self.out.push('{');
        walker.members(known, |walker, name, _| {
            let start = self.out.len();
            self.string(name)?;
            self.out.push(':');
            if write(self, walker, name)? {
                members.push(Written { name: name.to_owned(), span: start..self.out.len() });
                self.out.push(',');
            } else {
                self.out.truncate(start);
            }
            Ok(())
        })?;
        if members.is_empty() {
            self.out.push('}');
            return Ok(());
        }
        if !members.is_sorted_by(|one, other| one.name < other.name) {
            members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            let mut sorted = String::with_capacity(self.out.len().saturating_sub(start));
            sorted.push('{');
            for Written { span, .. } in members {
                sorted.push_str(self.out.get(span).unwrap_or_default());
                sorted.push(',');
            }
            self.out.truncate(start);
            self.out.push_str(&sorted);
        }
        // In place of the last comma.
        self.out.pop();
        self.out.push('}');
        Ok(())
    }
}

fn deeper(depth: usize) -> Result<usize, Unreadable> {
    depth.checked_sub(1).ok_or(Unreadable::Defect(Defect::TooDeep))
}

/// Whether the next value is a `requestState` of the gateway's own; the walker stays before it.
fn is_own_state(walker: &Walker<'_>) -> Result<bool, Unreadable> {
    let mut ahead = *walker;
    Ok(ahead.string_value()?.is_some_and(|state| SessionKeys::is_approval_state(&state)))
}

/// The message as the upstream gets it: without the gateway's own fields, and every other byte as it was.
///
/// A `requestState` of the gateway's own becomes `upstream_state`, which it carried, or is cut out where there is none.
/// The answer to the gateway is cut out of `inputResponses`, which goes too when it held nothing else. Fields that are not
/// the gateway's stay.
///
/// A batch stays as it is: the revision that has batches knows none of this, and nothing in a batch is approved.
///
/// # Errors
/// When the message could be read in two ways. One that was read strictly cannot.
pub fn without_own_fields<'a>(body: &'a [u8], upstream_state: Option<&str>) -> Result<Cow<'a, [u8]>, Unreadable> {
    let mut walker = Walker::new(body)?;
    if walker.peek() != Some(b'{') {
        walker.skip()?;
        return walker.finish().map(|()| Cow::Borrowed(body));
    }
    let mut edits = Edits::default();
    walker.members(&["params"], |walker, name, _| {
        if name == "params" && walker.peek() == Some(b'{') {
            params(walker, upstream_state, &mut edits)
        } else {
            walker.skip().map(drop)
        }
    })?;
    walker.finish()?;
    if edits.is_empty() { Ok(Cow::Borrowed(body)) } else { edits.apply(body).map(Cow::Owned) }
}

fn params(walker: &mut Walker<'_>, upstream_state: Option<&str>, edits: &mut Edits) -> Result<(), Unreadable> {
    let mut sieve = Sieve::default();
    walker.members(&PARAMS, |walker, name, start| {
        let (is_kept, end) = match name {
            STATE if is_own_state(walker)? => {
                let span = walker.skip()?;
                let end = span.end;
                if let Some(state) = upstream_state {
                    edits.replace(span, serde_json::to_string(state).map_err(|_| Unreadable::NotJson)?);
                }
                (upstream_state.is_some(), end)
            }
            RESPONSES if walker.peek() == Some(b'{') => responses(walker, edits)?,
            _ => (true, walker.skip()?.end),
        };
        sieve.take(start..end, is_kept, edits);
        Ok(())
    })?;
    Ok(())
}

/// Cuts the answer to the gateway out; says whether anything else stays, and where all of it ends.
fn responses(walker: &mut Walker<'_>, edits: &mut Edits) -> Result<(bool, usize), Unreadable> {
    let undo = edits.count();
    let mut sieve = Sieve::default();
    let mut is_asked = false;
    let span = walker.members(&[APPROVAL_INPUT], |walker, name, start| {
        let is_own = name == APPROVAL_INPUT;
        is_asked |= is_own;
        let end = walker.skip()?.end;
        sieve.take(start..end, !is_own, edits);
        Ok(())
    })?;
    let is_kept = sieve.any_kept() || !is_asked;
    if !is_kept {
        edits.undo_to(undo);
    }
    Ok((is_kept, span.end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const OWN: &str = "tga1.k1.AAAA.BBBB";

    fn canonical(body: &str, round: Round) -> String {
        Canonical::params_of(body.as_bytes(), round).unwrap().0
    }

    fn cut(body: &str, upstream_state: Option<&str>) -> String {
        String::from_utf8(without_own_fields(body.as_bytes(), upstream_state).unwrap().into_owned()).unwrap()
    }

    #[test]
    fn the_canonical_form_does_not_depend_on_how_it_is_written() {
        for (params, expected) in [
            ("{}", "{}"),
            (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#),
            (" { \"b\" :\t[ 1 , 2 ] ,\r\n\"a\":{ } } ", r#"{"a":{},"b":[1,2]}"#),
            (r#"{"\u0061":"\u00e9\/\ud83d\ude00\u0008\u001f","é":"é"}"#, r#"{"a":"é/😀\b\u001f","é":"é"}"#),
            (r#"{"a\"":1,"a!":2,"a#":3,"a":4}"#, r#"{"a":4,"a!":2,"a\"":1,"a#":3}"#),
            // U+FF5E is before U+1F600 as UTF-8, and after it as UTF-16.
            ("{\"\u{1f600}\":1,\"\u{ff5e}\":2}", "{\"\u{ff5e}\":2,\"\u{1f600}\":1}"),
            (
                r#"{"n":[1,1.0,1e0,-0,1E+2,100000000000000000000]}"#,
                r#"{"n":[1,1.0,1e0,-0,1E+2,100000000000000000000]}"#,
            ),
            (r#"{"x":[true,false,null,"",[],[[]]]}"#, r#"{"x":[true,false,null,"",[],[[]]]}"#),
            (r#"{"z":{"y":{"b":1,"a":{"d":1,"c":1}}}}"#, r#"{"z":{"y":{"a":{"c":1,"d":1},"b":1}}}"#),
            (r#"{"_meta":{"x":1},"a":1,"\u005fmeta ":2}"#, r#"{"_meta ":2,"a":1}"#),
        ] {
            // A blank after `_meta` is a misspelling of it.
            let body = format!(r#"{{"params":{params},"id":1}}"#);
            if params.contains("meta ") {
                assert!(Canonical::params_of(body.as_bytes(), Round::First).is_err());
                continue;
            }
            assert_eq!(canonical(&body, Round::First), expected, "{params}");
            assert!(expected.len() <= body.len());
        }
        assert_eq!(canonical(r#"{"method":"x"}"#, Round::First), "null");
    }

    #[test]
    fn what_is_the_gateways_own_does_not_count() {
        let of = |params: Value, round| canonical(&json!({ "params": params }).to_string(), round);
        for (params, first, later) in [
            (json!({"requestState": OWN}), "{}", "{}"),
            (json!({"requestState": "tga1"}), r#"{"requestState":"tga1"}"#, "{}"),
            (json!({"requestState": 5}), r#"{"requestState":5}"#, "{}"),
            (json!({"inputResponses": {}}), r#"{"inputResponses":{}}"#, "{}"),
            (json!({"inputResponses": [1]}), r#"{"inputResponses":[1]}"#, "{}"),
            (json!({"inputResponses": {"dev.toolgate/approval": {"action": "accept"}}}), "{}", "{}"),
            (json!({"inputResponses": {"dev.toolgate/approval": 5, "a": 1}}), r#"{"inputResponses":{"a":1}}"#, "{}"),
            (
                json!({"arguments": {"requestState": OWN, "_meta": 1}}),
                r#"{"arguments":{"_meta":1,"requestState":"tga1.k1.AAAA.BBBB"}}"#,
                r#"{"arguments":{"_meta":1,"requestState":"tga1.k1.AAAA.BBBB"}}"#,
            ),
        ] {
            assert_eq!(of(params.clone(), Round::First), first, "{params}");
            assert_eq!(of(params, Round::Continuation), later);
        }
        let body = format!(r#"{{"params":{{"request\u0053tate":"\u0074ga1.{OWN}","a":1}}}}"#);
        assert_eq!(canonical(&body, Round::First), r#"{"a":1}"#);
    }

    #[test]
    fn what_could_be_read_in_two_ways_has_no_canonical_form() {
        for body in [
            r#"{"params":{"a":1,"\u0061":2}}"#,
            r#"{"params":{"x":[{"a":1,"a":2}]}}"#,
            r#"{"params":{"RequestState":"x"}}"#,
            r#"{"params":{"x":"\ud800"}}"#,
            r#"{"params":{"\ud800":1}}"#,
            r#"{"params":[]}"#,
            r#"{"params":{}} x"#,
            r#"{"params":{}"#,
            "[]",
            "",
        ] {
            assert!(Canonical::params_of(body.as_bytes(), Round::First).is_err(), "{body}");
        }
        let nested = |levels: usize| format!("{{\"params\":{{\"a\":{}{}}}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(Canonical::params_of(nested(limits::MAX_JSON_DEPTH).as_bytes(), Round::First).is_ok());
        for levels in [limits::MAX_JSON_DEPTH + 1, 100_000] {
            assert!(Canonical::params_of(nested(levels).as_bytes(), Round::First).is_err());
        }
    }

    #[test]
    fn own_fields_are_cut_out_and_nothing_else_changes() {
        for (body, expected) in [
            (r#"{"params":{"requestState":"tga1.x"}}"#, r#"{"params":{}}"#),
            (r#"{"params":{ "requestState" : "tga1.x" , "name":"t"}}"#, r#"{"params":{ "name":"t"}}"#),
            (r#"{"params":{"name":"t" , "requestState":"tga1.x" } }"#, r#"{"params":{"name":"t" } }"#),
            (r#"{"params":{"a":1,"request\u0053tate":"\u0074ga1.x","b":2}}"#, r#"{"params":{"a":1,"b":2}}"#),
            (
                r#"{"params":{"a":1,"inputResponses":{"dev.toolgate\/approval":{"action":"accept"}},"b":2}}"#,
                r#"{"params":{"a":1,"b":2}}"#,
            ),
            (
                r#"{"params":{"inputResponses":{"x":{}, "dev.toolgate/approval":{} ,"y":{"a":"\u0061"}}}}"#,
                r#"{"params":{"inputResponses":{"x":{} ,"y":{"a":"\u0061"}}}}"#,
            ),
            (
                r#"{"params":{"inputResponses":{"dev.toolgate/approval":{},"y":1},"requestState":"tga1.x"}}"#,
                r#"{"params":{"inputResponses":{"y":1}}}"#,
            ),
            (
                r#"{"params":{"requestState":"tga1.x","inputResponses":{"dev.toolgate/approval":[1,{"a":2}]}},"id":1}"#,
                r#"{"params":{},"id":1}"#,
            ),
        ] {
            assert_eq!(cut(body, None), expected);
        }
        for body in [
            r#"{"params":{"requestState":"tga1","inputResponses":{}}}"#,
            r#"{"params":{"requestState":{"a":"tga1.x"},"inputResponses":"dev.toolgate/approval"}}"#,
            r#"{"params":{"arguments":{"requestState":"tga1.x","inputResponses":{"dev.toolgate/approval":1}}}}"#,
            r#"{"requestState":"tga1.x"}"#,
            r#"{"params":[{"requestState":"tga1.x"}]}"#,
            r#"[{"params":{"requestState":"tga1.x"}}]"#,
            "{}",
        ] {
            assert!(matches!(without_own_fields(body.as_bytes(), Some("s")), Ok(Cow::Borrowed(_))), "{body}");
        }
    }

    #[test]
    fn a_continuation_gets_the_upstreams_state_back() {
        let body = r#"{"params":{"requestState":"tga1.x","inputResponses":{"dev.toolgate/approval":1,"a":2}}}"#;
        let expected = r#"{"params":{"requestState":"s\"\\é\u0001","inputResponses":{"a":2}}}"#;
        assert_eq!(cut(body, Some("s\"\\é\u{1}")), expected);
        assert_eq!(
            cut(r#"{"params":{"requestState":"theirs"}}"#, Some("s")),
            r#"{"params":{"requestState":"theirs"}}"#
        );
        assert_eq!(cut(r#"{"params":{"requestState":"tga1.x"}}"#, Some("")), r#"{"params":{"requestState":""}}"#);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ -~é\n\u{1f600}]{0,6}".prop_map(Value::from),
            Just(json!(OWN)),
        ];
        let name = prop_oneof!["[a-cé\"\\\\]{0,2}", Just(APPROVAL_INPUT.to_owned()), Just(STATE.to_owned())];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name.clone(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn any_params() -> impl Strategy<Value = Value> {
        let state = prop_oneof![Just(json!(OWN)), Just(json!("theirs")), any_json()];
        let responses = prop_oneof![
            any_json(),
            (any_json(), any_json()).prop_map(|(own, other)| json!({APPROVAL_INPUT: own, "x": other})),
            any_json().prop_map(|own| json!({ APPROVAL_INPUT: own })),
        ];
        let name = prop_oneof!["[a-c]", Just("arguments".to_owned()), Just(META.to_owned())];
        let others = prop::collection::vec((name, any_json()), 0..4);
        (prop::option::of(state), prop::option::of(responses), others).prop_map(|(state, responses, others)| {
            let mut params: serde_json::Map<String, Value> = others.into_iter().collect();
            params.extend(state.map(|state| (STATE.to_owned(), state)));
            params.extend(responses.map(|responses| (RESPONSES.to_owned(), responses)));
            Value::Object(params)
        })
    }

    /// The same JSON in other words: another order, blanks, and escapes where none are needed.
    fn respelt(value: &Value, seed: u32) -> String {
        let blank = |number: u32| ["", " ", "\n\t ", "\r"][(seed.wrapping_add(number) % 4) as usize];
        match value {
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                if seed % 2 == 1 {
                    members.reverse();
                }
                let middle = members.len() / 2;
                members.rotate_left(if seed % 3 == 1 { middle } else { 0 });
                let texts = members.into_iter().enumerate().map(|(at, (name, value))| {
                    let name = respelt(&Value::from(name.as_str()), seed.wrapping_add(1));
                    let at = u32::try_from(at).unwrap();
                    format!("{}{name}{}:{}{}", blank(at), blank(1), blank(2), respelt(value, seed.wrapping_mul(31)))
                });
                format!("{{{}{}}}", texts.collect::<Vec<_>>().join(","), blank(3))
            }
            Value::Array(elements) => {
                let texts =
                    elements.iter().map(|value| format!("{}{}", respelt(value, seed.wrapping_mul(17)), blank(1)));
                format!("[{}{}]", blank(2), texts.collect::<Vec<_>>().join(","))
            }
            Value::String(text) => {
                let escaped = text.encode_utf16().map(|unit| match char::from_u32(u32::from(unit)) {
                    Some(plain @ ('a'..='z' | ' ' | '.')) if !u32::from(unit).wrapping_add(seed).is_multiple_of(3) => {
                        plain.to_string()
                    }
                    _ => format!("\\u{unit:04X}"),
                });
                format!("\"{}\"", escaped.collect::<String>())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        }
    }

    /// What the specification of the cut says, on values.
    fn without_own(mut params: Value, upstream_state: Option<&str>) -> Value {
        let members = params.as_object_mut().unwrap();
        if members.get(STATE).and_then(Value::as_str).is_some_and(|state| state.starts_with("tga1.")) {
            members.remove(STATE);
            members.extend(upstream_state.map(|state| (STATE.to_owned(), state.into())));
        }
        if let Some(Value::Object(responses)) = members.get_mut(RESPONSES)
            && responses.remove(APPROVAL_INPUT).is_some()
            && responses.is_empty()
        {
            members.remove(RESPONSES);
        }
        params
    }

    fn message(params: &str) -> String {
        format!(r#"{{"id" : 1, "params" :{params} ,"method":"tools/call"}}"#)
    }

    proptest! {
        #[test]
        fn what_remains_is_the_same_json_without_what_is_own(
            params in any_params(),
            seed in any::<u32>(),
            state in prop::option::of("[ -~é]{0,6}"),
        ) {
            let body = message(&respelt(&params, seed));
            let remains: Value = serde_json::from_str(&cut(&body, state.as_deref())).unwrap();
            prop_assert_eq!(&remains["params"], &without_own(params, state.as_deref()));
            prop_assert_eq!(&remains["id"], 1);
            // What was cut does not come back, nor is more cut the second time.
            let once = cut(&body, state.as_deref());
            prop_assert_eq!(cut(&once, None), once);
        }

        #[test]
        fn order_blanks_and_escapes_do_not_matter(params in any_params(), one in any::<u32>(), two in any::<u32>()) {
            let (one, two) = (message(&respelt(&params, one)), message(&respelt(&params, two)));
            for round in [Round::First, Round::Continuation] {
                prop_assert_eq!(canonical(&one, round), canonical(&two, round));
            }
            // The canonical form is that of what the upstream gets.
            prop_assert_eq!(canonical(&one, Round::First), canonical(&cut(&two, None), Round::First));
        }

        #[test]
        fn any_other_difference_does(one in any_params(), two in any_params(), seed in any::<u32>()) {
            let counted = |params: &Value| {
                let mut params = without_own(params.clone(), None);
                params.as_object_mut().unwrap().remove(META);
                params
            };
            let (a, b) = (message(&respelt(&one, seed)), message(&respelt(&two, seed)));
            let same = canonical(&a, Round::First) == canonical(&b, Round::First);
            prop_assert_eq!(same, counted(&one) == counted(&two));
            prop_assert_eq!(serde_json::from_str::<Value>(&canonical(&a, Round::First)).unwrap(), counted(&one));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[{}\\[\\],:\"\\\\a1\u{e9} ]{0,30}|\\{\"params\":\\{\"(requestState|inputResponses)\":.{0,20}") {
            let _ = Canonical::params_of(text.as_bytes(), Round::First);
            let _ = without_own_fields(text.as_bytes(), Some("x"));
        }
    }
}
