//! JSON objects that are written from front to back into one buffer, without values in between.

use serde::Serialize;

/// An object in the making. Its members must come in the order of their names, as the canonical form has them.
#[derive(Debug)]
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    /// Begins an object at the end of `out`.
    pub(super) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// Ends it.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// A member that is an object.
    pub(super) fn object(&mut self, name: &str) -> Object<'_> {
        self.name(name);
        Object::begin(self.out)
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        push_text(self.out, text);
    }

    /// A text, if there is one.
    pub(super) fn optional_text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// A text of which it is known that nothing in it needs to be escaped: letters, digits and the like.
    pub(super) fn plain(&mut self, name: &str, text: &str) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    /// A list of texts, unless it is empty.
    pub(super) fn texts(&mut self, name: &str, texts: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut texts = texts.into_iter();
        if let Some(first) = texts.next() {
            self.name(name);
            self.out.push(b'[');
            push_text(self.out, first.as_ref());
            for text in texts {
                self.out.push(b',');
                push_text(self.out, text.as_ref());
            }
            self.out.push(b']');
        }
    }

    /// What serde writes in canonical form.
    pub(super) fn value(&mut self, name: &str, value: &impl Serialize) {
        self.name(name);
        push_value(self.out, value);
    }

    /// The same, if there is a value.
    pub(super) fn optional_value(&mut self, name: &str, value: Option<&impl Serialize>) {
        if let Some(value) = value {
            self.value(name, value);
        }
    }

    /// A list of values, unless it is empty.
    pub(super) fn values(&mut self, name: &str, values: &[impl Serialize]) {
        if !values.is_empty() {
            self.value(name, &values);
        }
    }

    /// What is in canonical form already.
    pub(super) fn json(&mut self, name: &str, json: &str) {
        self.name(name);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Some members in canonical form, or none.
    pub(super) fn members(&mut self, members: &str) {
        if !members.is_empty() {
            self.separate();
            self.out.extend_from_slice(members.as_bytes());
        }
    }

    fn name(&mut self, name: &str) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn separate(&mut self) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
    }
}

/// An object on its own.
pub(super) fn object(write: impl FnOnce(&mut Object<'_>)) -> String {
    let mut out = Vec::with_capacity(USUAL_BYTES);
    let mut object = Object::begin(&mut out);
    write(&mut object);
    object.end();
    // It is made of texts.
    String::from_utf8(out).unwrap_or_default()
}

/// Room for most objects, so that it need not grow step by step.
const USUAL_BYTES: usize = 256;

/// A list of texts on its own.
pub(crate) fn list(texts: &[impl Serialize]) -> String {
    // Texts can be written.
    serde_json::to_string(texts).unwrap_or_default()
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        return push_value(out, &text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Nothing that a record holds has members whose names are not texts, which is what serde_json cannot write.
fn push_value(out: &mut Vec<u8>, value: &impl Serialize) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_separated_and_empty_lists_are_left_out() {
        assert_eq!(object(|_| {}), "{}");
        let written = object(|object| {
            object.members("");
            object.texts("a", [""; 0]);
            object.object("b").end();
            object.members(r#""c":1,"d":2"#);
            object.texts("e", ["x", "\""]);
            object.optional_text("f", None);
            object.json("g", "[]");
            object.plain("h", "x");
            object.value("i", &7);
        });
        assert_eq!(written, r#"{"b":{},"c":1,"d":2,"e":["x","\""],"g":[],"h":"x","i":7}"#);
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_writes_it(text in any::<String>(), ascii in "[ -~\n\u{1}\u{7f}]{0,20}") {
            for text in [text, ascii] {
                let expected = json!({"a": text, "b": [text, text]}).to_string();
                let written = object(|object| {
                    object.text("a", &text);
                    object.texts("b", [&text, &text]);
                });
                prop_assert_eq!(&written, &expected);
            }
        }
    }
}
