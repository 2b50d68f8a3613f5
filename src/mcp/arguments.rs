//! The arguments of a call, for the few rules that look at them.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The `params.arguments` of each message of a body that was read before; of a body without a batch, of the only one.
///
/// Reads the body once more: most requests are decided without their arguments, and should not pay for them.
pub fn call_arguments(body: &[u8]) -> Vec<Option<&RawValue>> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        params: Option<Params<'a>>,
    }

    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        arguments: Option<&'a RawValue>,
    }

    let is_batch = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let messages: Vec<Message<'_>> = if is_batch {
        serde_json::from_slice(body).unwrap_or_default()
    } else {
        serde_json::from_slice(body).into_iter().collect()
    };
    messages.into_iter().map(|message| message.params?.arguments).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found_in_single_messages_and_batches() {
        let read = |body: &'static str, index: usize| {
            call_arguments(body.as_bytes()).get(index).copied().flatten().map(RawValue::get)
        };
        assert_eq!(read(r#" {"params":{"name":"t","\u0061rguments":{"a":[1]}}}"#, 0), Some(r#"{"a":[1]}"#));
        assert_eq!(read(r#"[{"id":1},{"params":{"arguments":{"b":2}}}]"#, 1), Some(r#"{"b":2}"#));
        assert_eq!(read(r#"[{"id":1},{"params":{"arguments":{"b":2}}}]"#, 0), None);
        assert_eq!(read(r#"{"params":{}}"#, 0), None);
    }
}
