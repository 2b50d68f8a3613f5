//! An upstream that asks for input after a call was approved (`input_required` of MCP 2026-07-28).
//!
//! The client brings back one `requestState`. Were it the upstream's, the next round would need an approval again; so the
//! gateway's own takes its place and carries the upstream's within.

use std::ops::Range;

use crate::limits;
use crate::mcp::Unreadable;
use crate::mcp::walk::{Edits, Walker};
use crate::session::SessionKeys;

const STATE: &str = "requestState";
const RESULT_TYPE: &str = "resultType";
/// The type of a result that asks for input.
const INPUT_REQUIRED: &str = "input_required";

/// An answer that asks the client for input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InputRequired<'a> {
    message: &'a [u8],
    upstream_state: Option<String>,
    place: Place,
}

/// Where the state goes.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    /// In place of the upstream's.
    Of(Range<usize>),
    /// At the end of the result, which has other members.
    Before(usize),
}

/// Why an answer cannot be passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WrapError {
    /// It cannot be read, or could be read in two ways.
    #[error("{0}")]
    Unreadable(#[from] Unreadable),
    /// Its `requestState` begins like one of the gateway's own: passed on, it would be taken for one.
    #[error("the upstream's requestState looks like the gateway's own")]
    OwnState,
    /// Its `requestState` is longer than [`limits::MAX_UPSTREAM_STATE_BYTES`].
    #[error("the upstream's requestState is too long")]
    StateTooLong,
}

impl<'a> InputRequired<'a> {
    /// Reads one complete message of an upstream: an answer, or what an event of a stream holds. `None` for what does not
    /// ask for input; that passes as it is.
    ///
    /// # Errors
    /// When the message must not pass.
    pub fn read(message: &'a [u8]) -> Result<Option<Self>, WrapError> {
        let mut walker = Walker::new(message)?;
        let mut found = None;
        walker.members(&["result"], |walker, name, _| {
            if name == "result" && walker.peek() == Some(b'{') {
                found = Some(result(walker)?);
            } else {
                walker.skip()?;
            }
            Ok(())
        })?;
        walker.finish()?;
        let Some(Found { asks: true, state, nothing, end }) = found else { return Ok(None) };
        let (upstream_state, place) = match state {
            None if let Some(span) = nothing => (None, Place::Of(span)),
            None => (None, Place::Before(end.saturating_sub(1))),
            Some((_, None)) => return Err(WrapError::Unreadable(Unreadable::Malformed)),
            Some((_, Some(state))) if SessionKeys::is_approval_state(&state) => return Err(WrapError::OwnState),
            Some((_, Some(state))) if state.len() > limits::MAX_UPSTREAM_STATE_BYTES => {
                return Err(WrapError::StateTooLong);
            }
            Some((span, Some(state))) => (Some(state), Place::Of(span)),
        };
        Ok(Some(Self { message, upstream_state, place }))
    }

    /// The upstream's own `requestState`.
    pub fn upstream_state(&self) -> Option<&str> {
        self.upstream_state.as_deref()
    }

    /// The message with `state` as its `requestState`, and every other byte as it was.
    ///
    /// # Errors
    /// None that could happen: the places were read from the same message.
    pub fn with_state(&self, state: &str) -> Result<Vec<u8>, WrapError> {
        let text = serde_json::to_string(state).map_err(|_| Unreadable::Malformed)?;
        let mut edits = Edits::default();
        match self.place.clone() {
            Place::Of(span) => edits.replace(span, text),
            Place::Before(at) => edits.insert(at, format!(",\"{STATE}\":{text}")),
        }
        Ok(edits.apply(self.message)?)
    }
}

/// What of a result was found.
struct Found {
    asks: bool,
    /// The state: where it is, and what it is if it is a string.
    state: Option<(Range<usize>, Option<String>)>,
    /// Where it is `null`, which some servers write for what is not there.
    nothing: Option<Range<usize>>,
    /// Where the result ends.
    end: usize,
}

fn result(walker: &mut Walker<'_>) -> Result<Found, Unreadable> {
    let mut found = Found { asks: false, state: None, nothing: None, end: 0 };
    let span = walker.members(&[RESULT_TYPE, STATE], |walker, name, _| {
        match name {
            // Whoever cannot be understood may be asking.
            RESULT_TYPE => found.asks = walker.string_value()?.ok_or(Unreadable::Malformed)? == INPUT_REQUIRED,
            STATE => {
                let is_null = walker.peek() == Some(b'n');
                let mut ahead = *walker;
                let text = ahead.string_value()?.map(|text| text.into_owned());
                let span = walker.skip()?;
                if is_null {
                    found.nothing = Some(span);
                } else {
                    found.state = Some((span, text));
                }
            }
            _ => {
                walker.skip()?;
            }
        }
        Ok(())
    })?;
    found.end = span.end;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn wrapped(message: &str) -> (Option<String>, String) {
        let found = InputRequired::read(message.as_bytes()).unwrap().unwrap();
        let text = String::from_utf8(found.with_state("tga1.x").unwrap()).unwrap();
        (found.upstream_state, text)
    }

    #[test]
    fn the_state_takes_the_place_of_the_upstreams_or_is_added() {
        for (message, upstream, expected) in [
            (
                r#"{"result":{"resultType":"input_required","requestState":"s\u0031","inputRequests":{}}, "id":1}"#,
                Some("s1"),
                r#"{"result":{"resultType":"input_required","requestState":"tga1.x","inputRequests":{}}, "id":1}"#,
            ),
            (
                r#"{"id":1,"result":{ "request\u0053tate" : "" ,"resultTyp\u0065":"input\u005frequired"} }"#,
                Some(""),
                r#"{"id":1,"result":{ "request\u0053tate" : "tga1.x" ,"resultTyp\u0065":"input\u005frequired"} }"#,
            ),
            (
                r#"{"id":1,"result":{"resultType":"input_required","inputRequests":{"a":{"requestState":"x"}} } }"#,
                None,
                r#"{"id":1,"result":{"resultType":"input_required","inputRequests":{"a":{"requestState":"x"}} ,"requestState":"tga1.x"} }"#,
            ),
        ] {
            assert_eq!(wrapped(message), (upstream.map(str::to_owned), expected.to_owned()));
        }
    }

    #[test]
    fn a_state_that_is_null_is_none() {
        let message = r#"{"result":{"requestState" : null ,"resultType":"input_required"}}"#;
        let expected = r#"{"result":{"requestState" : "tga1.x" ,"resultType":"input_required"}}"#;
        assert_eq!(wrapped(message), (None, expected.to_owned()));
    }

    #[test]
    fn what_does_not_ask_passes() {
        for message in [
            r#"{"id":1,"result":{"resultType":"complete","requestState":"tga1.x"}}"#,
            r#"{"id":1,"result":{"content":[{"resultType":"input_required"}]}}"#,
            r#"{"id":1,"result":{"_meta":{"resultType":"input_required"}}}"#,
            r#"{"id":1,"result":{}}"#,
            r#"{"id":1,"result":[{"resultType":"input_required"}]}"#,
            r#"{"id":1,"error":{"code":1,"message":"x"}}"#,
            r#"{"method":"notifications/progress","params":{"resultType":"input_required"}}"#,
            "{}",
        ] {
            assert_eq!(InputRequired::read(message.as_bytes()), Ok(None), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_wrapped_does_not_pass() {
        let asking = |state: &str| format!(r#"{{"result":{{"resultType":"input_required","requestState":{state}}}}}"#);
        let long = format!("\"{}\"", "x".repeat(limits::MAX_UPSTREAM_STATE_BYTES + 1));
        assert_eq!(InputRequired::read(asking(&long).as_bytes()), Err(WrapError::StateTooLong));
        for state in [r#""tga1.""#, r#""\u0074ga1.x""#] {
            assert_eq!(InputRequired::read(asking(state).as_bytes()), Err(WrapError::OwnState));
        }
        let nested = format!(r#"{{"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        let messages = [
            asking("5"),
            asking(r#"{"a":1}"#),
            asking(r#""\ud800""#),
            asking(r#""a","requestState":"b""#),
            asking(r#""a","request\u0053tate":"b""#),
            asking(r#""a","resultType":"complete""#),
            asking(r#""a","RequestState":"b""#),
            r#"{"result":{"ResultType":"input_required"}}"#.to_owned(),
            r#"{"result":{"resultType":"\ud800"}}"#.to_owned(),
            r#"{"result":{"resultType":["input_required"]}}"#.to_owned(),
            r#"{"result":{},"result":{"resultType":"input_required"}}"#.to_owned(),
            r#"[{"result":{"resultType":"input_required"}}]"#.to_owned(),
            nested,
            String::new(),
            "{".to_owned(),
            "{} x".to_owned(),
            "\"x\"".to_owned(),
        ];
        for message in messages {
            let read = InputRequired::read(message.as_bytes());
            assert!(matches!(read, Err(WrapError::Unreadable(_))), "{message}: {read:?}");
        }
        assert!(InputRequired::read(b"{\"a\":\"\xff\"}").is_err());
    }

    proptest! {
        #[test]
        fn only_the_state_changes(
            state in prop::option::of("[ -~é\u{1f600}]{0,8}"),
            others in prop::collection::btree_map("[a-c\"é]{1,2}", "[ -~]{0,4}", 0..4),
            ours in "tga1\\.[A-Za-z0-9_.-]{0,8}",
            is_pretty in any::<bool>(),
        ) {
            let mut result = json!({"resultType": "input_required", "inputRequests": others});
            if let Some(state) = &state {
                result["requestState"] = state.as_str().into();
            }
            prop_assume!(!state.as_ref().is_some_and(|state| state.starts_with("tga1.")));
            let mut message = json!({"jsonrpc": "2.0", "id": "1", "result": result});
            let text = if is_pretty { format!("{message:#}") } else { message.to_string() };
            let found = InputRequired::read(text.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(found.upstream_state(), state.as_deref());
            let after: Value = serde_json::from_slice(&found.with_state(&ours).unwrap()).unwrap();
            message["result"]["requestState"] = ours.into();
            prop_assert_eq!(after, message);
        }

        #[test]
        fn nothing_makes_it_panic(text in "[{}\\[\\],:\"\\\\a1 ]{0,30}|\\{\"result\":\\{\"(requestState|resultType)\":.{0,20}") {
            if let Ok(Some(found)) = InputRequired::read(text.as_bytes()) {
                prop_assert!(found.with_state("x").is_ok());
            }
        }
    }
}
