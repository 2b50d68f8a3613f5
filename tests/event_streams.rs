//! Event streams: what goes out is the same however the stream is cut, and as soon as it can be.
#![cfg(not(target_family = "wasm"))]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

use std::borrow::Cow;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use toolgate::limits;
use toolgate::mcp::sse::{Edit, EventStream, EventTooLarge};

/// Keeps all events but those whose data begins with `drop` or `new`.
fn edit(data: &[u8]) -> Edit {
    if data.starts_with(b"drop") {
        Edit::Drop
    } else if data.starts_with(b"new") {
        Edit::Replace(b"{\"new\":\n1}".to_vec())
    } else {
        Edit::Keep
    }
}

/// What goes out is added to `out`.
fn feed(stream: &mut EventStream, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), EventTooLarge> {
    stream.feed(chunk, &mut edit).map(|fed| out.extend_from_slice(&fed))
}

fn filtered<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = EventStream::default();
    let mut out = Vec::new();
    for chunk in chunks {
        feed(&mut stream, chunk, &mut out).unwrap();
    }
    stream.end();
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a client that follows the standard gets: last event id, event type and data of each event.
fn dispatched(stream: &[u8]) -> Vec<(String, String, String)> {
    let stream = String::from_utf8_lossy(stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream)).into_owned();
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut id, mut kind, mut data) = (Vec::new(), String::new(), String::new(), String::new());
    // What follows the last line end is no line.
    let mut lines: Vec<&str> = stream.split('\n').collect();
    lines.pop();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            _ if line.is_empty() => {
                if !data.is_empty() {
                    data.pop();
                    events.push((id.clone(), kind.clone(), data.clone()));
                }
                (kind, data) = (String::new(), String::new());
            }
            "data" => data = format!("{data}{value}\n"),
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "event" => value.clone_into(&mut kind),
            _ => {}
        }
    }
    events
}

const RECORDED: &[(&str, &str)] = &[
    (
        "LF",
        ": hello\n\nid: 1\ndata: \n\nid: 2\nevent: message\ndata: {\"a\":\"é€😀\"}\n\ndata: drop\n\nid: 3\nretry: 5\ndata: drop\n\n",
    ),
    (
        "CRLF",
        ": hello\r\n\r\nid: 1\r\ndata: \r\n\r\nid: 2\r\ndata: {\"a\":\"é€😀\"}\r\n\r\ndata: drop\r\n\r\nid: 3\r\ndata: new\r\n: c\r\n\r\ndata: x\r\n\r\n",
    ),
    (
        "CR",
        ": hello\r\rid: 1\rdata\r\rid: 2\rdata:{\"a\":\"é€😀\"}\r\rdata: drop\r\rid: 3\revent: e\rdata: new\r\rdata: y\r\r",
    ),
    ("mixed", "data: a\r\ndata: b\rdata: c\n\r\ndata: drop\r\r\ndata: new\n\ndata: d\n\r: e\r\n\ndata: drop\n\r\n\r\n"),
    ("BOM", "\u{feff}data: new\n\n\u{feff}data: not a field\n\ndata: z\n\n"),
    ("only a BOM", "\u{feff}"),
    ("several lines", "data: new\ndata:\ndata:  two\nid: 7\ndata: é\n\ndata: drop\ndata: é\n\n"),
    ("unfinished", "data: a\n\nid: 9\ndata: drop\n"),
    ("unfinished in a line", "data: a\n\ndata: hidden"),
    ("no colon", "data\n\nid\n\nunknown\ndata\ndata\n\nevent\ndata: new\n\n"),
];

#[test]
fn no_split_position_of_a_recorded_stream_changes_what_comes_out() {
    for (name, stream) in RECORDED {
        let stream = stream.as_bytes();
        let whole = filtered([stream]);
        assert_eq!(filtered(stream.chunks(1)), whole, "{name}, byte by byte");
        for first in 0..=stream.len() {
            let (start, rest) = stream.split_at(first);
            assert_eq!(filtered([start, rest]), whole, "{name}, split at {first}");
            for second in 0..rest.len().min(8) {
                let (middle, end) = rest.split_at(second);
                assert_eq!(filtered([start, middle, &[], end]), whole, "{name}, split at {first} and {second} further");
            }
        }
    }
}

#[test]
fn what_is_kept_goes_out_byte_for_byte() {
    for stream in [
        ": c\r\n\r\nid:1\r\ndata:\r\n\r\n\r\n\n\revent:  x\rdata:a\ndata: b\r\nwhatever: é\n\n",
        "\u{feff}\u{feff}datum: x\n\n",
        "retry: 100\n\nid: 5\n\n:\n\n",
        ": a comment inside\ndata: x\n: of an event\n\n",
    ] {
        assert_eq!(text(&filtered([stream.as_bytes()])), stream);
    }
}

#[test]
fn other_lines_survive_when_data_is_replaced() {
    let stream = b": c\nid: 1\nevent: message\n: d\ndata: new\ndata: old\nretry: 7\nx: y\n\n";
    let expected = ": c\nid: 1\nevent: message\n: d\ndata: {\"new\":\ndata: 1}\nretry: 7\nx: y\n\n";
    assert_eq!(text(&filtered([&stream[..]])), expected);
    assert_eq!(text(&filtered([&b"data:new\r\n\r\n"[..]])), "data: {\"new\":\r\ndata: 1}\r\n\r\n");
}

#[test]
fn a_dropped_event_leaves_what_a_client_needs_to_resume() {
    assert_eq!(text(&filtered([&b"data: a\n\ndata: drop\n\ndata: b\n\n"[..]])), "data: a\n\ndata: b\n\n");
    assert_eq!(text(&filtered([&b"id: 1\nevent: e\ndata: drop\ndata: x\n\n"[..]])), "id: 1\ndata:\n\n");
    assert_eq!(text(&filtered([&b"data: drop\r\nretry: 1\r\n\r\n"[..]])), "data:\r\nretry: 1\r\n\r\n");
    // A blank line stays one when the line before it goes.
    assert_eq!(text(&filtered([&b"id: 1\rdata: drop\ndata: x\n\n"[..]])), "id: 1\rdata:\n\n");
    assert_eq!(text(&filtered([&b"data: drop\rdata: x\nid: 1\rdata: y\n\n"[..]])), "data:\rid: 1\r\r\n");
    // The LF of a dropped blank line is dropped with it, wherever the chunk ends.
    assert_eq!(text(&filtered([&b": c\n\ndata: drop\r\n\r"[..], &b"\n"[..]])), ": c\n\n");
    // A byte order mark within the stream does not become the one at its start.
    assert_eq!(text(&filtered(["data: drop\n\n\u{feff}id: 1\n\n".as_bytes()])), "\n\u{feff}id: 1\n\n");
}

#[test]
fn the_incomplete_last_event_is_discarded() {
    let mut stream = EventStream::default();
    let mut out = Vec::new();
    feed(&mut stream, b"data: a\n\nid: 2\ndata: secret\n", &mut out).unwrap();
    assert_eq!(out, b"data: a\n\n");
    assert!(stream.end());
    assert_eq!(out, b"data: a\n\n");
    // Nothing comes after the end.
    assert!(feed(&mut stream, b"data: b\n\n", &mut out).is_err());
}

#[test]
fn events_comments_and_blank_lines_go_out_at_once() {
    let mut stream = EventStream::default();
    let mut sent = |chunk: &str| {
        let mut out = Vec::new();
        feed(&mut stream, chunk.as_bytes(), &mut out).unwrap();
        text(&out)
    };
    assert_eq!(sent(": keep-alive\n"), ": keep-alive\n");
    assert_eq!(sent("\n"), "\n");
    assert_eq!(sent("data: a\n"), "");
    assert_eq!(sent("\ndata: b\r"), "data: a\n\n");
    assert_eq!(sent("\r"), "data: b\r\r");
    assert_eq!(sent("id: 1\ndata:\n\n"), "id: 1\ndata:\n\n");
    assert_eq!(sent(": x\r"), ": x\r");
    assert_eq!(sent("\n"), "\n");
}

#[test]
fn whatever_type_an_event_has_and_whatever_its_fields_look_like_it_is_judged() {
    assert_eq!(text(&filtered([&b": c\n\nevent: other\ndata: drop\n\n"[..]])), ": c\n\n");
    for name in ["Data", "DATA", " data", "data ", "data\0", "\u{feff}data", "\tdata"] {
        let stream = format!("data: a\n\ndata: b\n{name}: hidden\n\nid: 1\n{name}: hidden\n\n");
        assert_eq!(text(&filtered([stream.as_bytes()])), "data: a\n\nid: 1\ndata:\n\n", "{name:?}");
    }
}

#[test]
fn what_some_languages_take_for_the_end_of_a_line_hides_nothing() {
    for end in ["\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"] {
        let stream = format!(
            ": c{end}data: hidden\n\nevent: e{end}data: hidden\ndata: a\n\nx{end}data: hidden\n\nid: 1{end}data: hidden\n\n\
             data: text{end}of one line\n\n"
        );
        let passed = format!("\ndata:\n\ndata: text{end}of one line\n\n");
        assert_eq!(text(&filtered([stream.as_bytes()])), passed, "{end:?}");
    }
}

#[test]
fn an_event_that_is_too_large_ends_the_stream_for_good() {
    let mut stream = EventStream::new(20);
    let mut out = Vec::new();
    feed(&mut stream, b"data: 12345678\n\ndata: 123456789012", &mut out).unwrap();
    assert_eq!(feed(&mut stream, b"345", &mut out), Err(EventTooLarge));
    assert_eq!(stream.held_bytes(), 0);
    assert_eq!(feed(&mut stream, b"data: a\n\n", &mut out), Err(EventTooLarge));
    assert_eq!(out, b"data: 12345678\n\n");
    let mut default = EventStream::default();
    let half = vec![b'x'; limits::MAX_EVENT_BYTES / 2 + 1];
    assert_eq!(feed(&mut default, &half, &mut out), Ok(()));
    assert_eq!(feed(&mut default, &half, &mut out), Err(EventTooLarge));
}

#[test]
fn ten_megabytes_pass_with_no_more_memory_than_one_event() {
    let event = format!("id: 1\ndata: {}\n\n", "x".repeat(4_000));
    let all = event.repeat(10 * 1024 * 1024 / event.len());
    let mut stream = EventStream::default();
    let mut passed = 0;
    let mut most = 0;
    for chunk in all.as_bytes().chunks(16_000) {
        let mut out = Vec::new();
        feed(&mut stream, chunk, &mut out).unwrap();
        passed += out.len();
        most = most.max(stream.held_bytes());
    }
    assert_eq!(passed, all.len());
    assert!(most < event.len(), "{most}");
}

#[test]
fn a_large_event_in_small_chunks_takes_linear_time() {
    // Searching the held bytes anew with each chunk would take 2 * 10^11 steps.
    let mut stream = EventStream::default();
    let mut out = Vec::new();
    feed(&mut stream, b"data: ", &mut out).unwrap();
    for _ in 0..(limits::MAX_EVENT_BYTES - 10) / 16 {
        feed(&mut stream, b"0123456789abcdef", &mut out).unwrap();
    }
    feed(&mut stream, b"\n\n", &mut out).unwrap();
    assert!(out.len() > limits::MAX_EVENT_BYTES - 40);
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\r\r",
        "\r\n\r\n",
        "data",
        "data:",
        "data: ",
        "Data: ",
        "id: 1",
        "retry: 5",
        "event: e",
        ":",
        ": c",
        " ",
        "drop",
        "new",
        "{\"a\":1}",
        "é",
        "\u{feff}",
        "\0",
        "x: y",
        "data: drop\n\n",
        "data: new\r\n\r\n",
        "id: 4\ndata: drop\n\n",
    ];
    prop_oneof![
        30 => (0..pieces.len()).prop_map(move |index| pieces[index].as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
        1 => Just(b"\xef\xbb".to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_chunking_of_any_stream_changes_what_comes_out(
        pieces in prop::collection::vec(piece(), 0..40),
        cuts in prop::collection::vec(0_usize..12, 1..20),
    ) {
        let stream = pieces.concat();
        let whole = filtered([&stream[..]]);
        let mut chunks = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle().take(1_000) {
            let (chunk, after) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        prop_assert_eq!(filtered(chunks), whole);
    }

    /// Held against a reader that follows the standard and sees the stream as a whole.
    #[test]
    fn a_client_gets_the_events_that_were_judged_and_no_others(pieces in prop::collection::vec(piece(), 0..40)) {
        let stream = pieces.concat();
        let mut judged = Vec::new();
        let mut events = EventStream::default();
        let mut judge = |data: &[u8]| {
            let edit = edit(data);
            match &edit {
                Edit::Keep => judged.push(String::from_utf8_lossy(data).into_owned()),
                Edit::Replace(data) => judged.push(String::from_utf8_lossy(data).into_owned()),
                Edit::Drop => {}
            }
            edit
        };
        let out = events.feed(&stream, &mut judge).unwrap();
        let received = dispatched(&out).into_iter().map(|(_, _, data)| data).filter(|data| !data.is_empty());
        prop_assert_eq!(received.collect::<Vec<_>>(), judged);
    }

    #[test]
    fn a_client_resumes_where_it_would_have_without_the_gateway(pieces in prop::collection::vec(piece(), 0..40)) {
        let mut stream = pieces.concat();
        // An identifier in which some would see the end of a line is not passed.
        proptest::prop_assume!(!stream.iter().any(|byte| matches!(byte, 0x0b | 0x0c | 0x1c..=0x1e | 0x85)));
        stream.extend_from_slice(b"\n\ndata: last\n\n");
        let last = |stream: &[u8]| dispatched(stream).pop().map(|(id, _, _)| id);
        prop_assert_eq!(last(&filtered([&stream[..]])), last(&stream));
    }

    /// An event that is all there need not be held, and counts as one that is.
    #[test]
    fn what_is_held_and_what_is_too_large_is_the_same_however_a_stream_is_cut(
        pieces in prop::collection::vec(piece(), 0..40),
        most in 4_usize..40,
    ) {
        let stream = pieces.concat();
        let (mut whole, mut pieced) = (EventStream::new(most), EventStream::new(most));
        let mut out = Vec::new();
        let fails = feed(&mut whole, &stream, &mut Vec::new()).is_err();
        let piece_fails = stream.chunks(1).any(|byte| feed(&mut pieced, byte, &mut out).is_err());
        prop_assert_eq!(fails, piece_fails);
        prop_assert_eq!(whole.held_bytes(), pieced.held_bytes());
    }
}

#[test]
fn what_goes_out_as_it_came_in_is_not_copied() {
    let is_copied =
        |chunk: &str| matches!(EventStream::default().feed(chunk.as_bytes(), &mut edit).unwrap(), Cow::Owned(_));
    assert!(!is_copied("id: 1\ndata: a\n\n: c\r\n\rdata: b\rdata: c\r\r"));
    assert!(!is_copied("data: a\n\ndata: b"));
    assert!(!is_copied(": c\n\ndata: drop\n\n"));
    assert!(is_copied("data: a\n\ndata: new\n\n"));
}
