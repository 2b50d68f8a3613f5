//! Texts for tests that hold one reader of JSON against another.

use proptest::prelude::*;

/// JSON as clients, servers and attackers write it: of odd values and blanks, in any nesting, and often broken.
pub(crate) fn texts() -> impl Strategy<Value = Vec<u8>> {
    let change = (
        any::<prop::sample::Index>(),
        0..3,
        prop::sample::select(&b"{}[]\",:\\ \n\t\x0c\x000129-+.eEtnu\xc3\xa9\xff"[..]),
    );
    (json(), prop::collection::vec(change, 0..3)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (at, kind, byte) in changes {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        bytes
    })
}

/// One value, with blanks around it.
pub(crate) fn json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        prop::sample::select(
            &[
                "0",
                "-0",
                "17",
                "-1.50",
                "1e5",
                "2E-30",
                "1.7976931348623157e308",
                "1.7976931348623159e308",
                "1e308",
                "1e309",
                "0e999",
                "1e999",
                "-1e99999999999",
                "1e-99999999999",
                "18446744073709551616",
                "true",
                "false",
                "null",
                "tru",
                "01",
                "-",
                "1.",
                "\"\"",
            ][..]
        )
        .prop_map(str::to_owned),
        string(),
        Just(format!("1{}", "0".repeat(320))),
    ];
    let value = scalar.prop_recursive(6, 48, 5, |inner| {
        let member = (prop_oneof![name(), string()], blank(), inner.clone())
            .prop_map(|(name, blank, value)| format!("{name}{blank}:{blank}{value}"));
        prop_oneof![
            (prop::collection::vec(inner, 0..5), blank())
                .prop_map(|(list, blank)| format!("[{blank}{}]", list.join(&format!("{blank},")))),
            (prop::collection::vec(member, 0..5), blank())
                .prop_map(|(list, blank)| format!("{{{}{blank}}}", list.join(&format!(",{blank}")))),
        ]
    });
    (blank(), value, blank()).prop_map(|(before, value, after)| format!("{before}{value}{after}"))
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["", "", "", " ", "\n", "\r\n\t "][..])
}

/// Names that meet often, and some that are only written in another way.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(&["a", "b", "\\u0061", "A", "a ", "\u{212a}", "k", "a\\u0000", "id", "method", "params"][..])
        .prop_map(|name| format!("\"{name}\""))
}

fn string() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(
        &[
            "x",
            "é",
            "\u{1f600}",
            "a longer piece of text",
            "\\n",
            "\\\"",
            "\\\\",
            "\\/",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\ud800",
            "\\udc00",
            "\\x",
            "\\u12",
            "\u{1}",
            "{",
            "]",
        ][..],
    );
    // Most of it is good, or hardly any text would be.
    let good = prop::sample::select(&["", "x", "é", "some words, of which each is good", "\\n", "\\\"", "\\u00e9"][..]);
    prop::collection::vec(prop_oneof![6 => good, 1 => piece], 0..4)
        .prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}
