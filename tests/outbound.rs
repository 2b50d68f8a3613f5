//! What the upstream sends: lists without what a caller may not see, and the server's own requests.
#![cfg(not(target_family = "wasm"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::prelude::{ProptestConfig, TestCaseError, any, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolgate::json::Defect;
use toolgate::limits;
use toolgate::mcp::{
    Caching, ClientFeature, ListKind, Listed, Response, Reviewed, ServerMessage, Shown, Unreadable, View, review,
};

/// Hides what has `hidden` in its name, and refuses what it is told to.
#[derive(Default)]
struct Caller {
    refused: Vec<ClientFeature>,
    duty: Option<&'static str>,
    is_stateless: bool,
    /// What was asked.
    seen: Vec<(ListKind, String, String)>,
}

impl View for Caller {
    fn shows(&mut self, element: Listed<'_>) -> Shown {
        self.seen.push((element.kind, element.key.to_owned(), element.definition.to_owned()));
        match self.duty {
            _ if element.key.contains("hidden") => Shown::No,
            Some(duty) => Shown::WithDuty(RawValue::from_string(duty.to_owned()).unwrap()),
            None => Shown::Yes,
        }
    }

    fn passes(&mut self, message: ServerMessage<'_>) -> bool {
        match message {
            ServerMessage::Asks(feature) => !self.refused.contains(&feature),
            ServerMessage::ResourceUpdated(uri) => !uri.contains("hidden"),
        }
    }

    fn sees(&mut self, _: Response<'_>) {}

    fn caching(&self) -> Caching {
        Caching { most_ttl_ms: 5_000, is_required: self.is_stateless }
    }
}

fn reviewed(text: &str) -> Reviewed {
    review(text.as_bytes(), &mut Caller::default()).unwrap()
}

/// What remains of `text`, which changes.
fn changed_for(caller: &mut Caller, text: &str) -> String {
    match review(text.as_bytes(), caller) {
        Ok(Reviewed::Changed(bytes)) => String::from_utf8(bytes).unwrap(),
        other => format!("{other:?}"),
    }
}

fn changed(text: &str) -> String {
    changed_for(&mut Caller::default(), text)
}

fn result(result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)
}

fn unreadable(text: &str) -> Option<Unreadable> {
    review(text.as_bytes(), &mut Caller::default()).err()
}

const DUPLICATE: Option<Unreadable> = Some(Unreadable::Defect(Defect::DuplicateMember));
const MISLEADING: Option<Unreadable> = Some(Unreadable::Defect(Defect::MisleadingMember));

// --- Lists ----------------------------------------------------------------------------------------------------------

#[test]
fn hidden_elements_go_with_their_commas_and_nothing_else_changes() {
    let a = r#"{ "name" : "a", "n": 1.50e1, "x":"\u00e9\ud800" }"#;
    let hidden = r#"{"name":"hidden"}"#;
    let b = "{\"name\":\"b\",\n\"inputSchema\":{\"a\":[1,{\"a\":\"]}\\\"\"}]}}";
    for (tools, left) in [
        (format!("[ {hidden} , {a},\t{b} ]"), format!("[ {a},\t{b} ]")),
        (format!("[ {a} , {hidden} ,\n{b} ]"), format!("[ {a} ,\n{b} ]")),
        (format!("[{a},{b}, {hidden}]"), format!("[{a},{b}]")),
        (format!("[{hidden},{a},{hidden},{hidden},{b},{hidden}]"), format!("[{a},{b}]")),
        (format!("[ {hidden} ]"), "[  ]".to_owned()),
        (format!("[{hidden},{hidden}]"), "[]".to_owned()),
    ] {
        let message = |tools: &str| result(&format!(r#"{{"_x":[1.0, 2], "tools" :{tools}, "nextCursor":""}}"#));
        assert_eq!(changed(&message(&tools)), message(&left), "{tools}");
    }
    for untouched in [format!("[{a} , {b}]"), "[]".to_owned(), "null".to_owned()] {
        let message = format!(" {} ", result(&format!(r#"{{ "tools" : {untouched} }}"#)));
        assert_eq!(reviewed(&message), Reviewed::Unchanged, "{untouched}");
    }
}

#[test]
fn every_kind_of_list_is_filtered_by_what_names_its_elements() {
    for kind in ListKind::ALL {
        let element = |name: &str| json!({kind.key(): name, "title": "hidden is not the name"}).to_string();
        let list = |elements: &[String]| result(&format!(r#"{{"{}":[{}]}}"#, kind.member(), elements.join(",")));
        let mut caller = Caller::default();
        let changed = changed_for(&mut caller, &list(&[element("x://hidden"), element("x://shown")]));
        assert_eq!(changed, list(&[element("x://shown")]), "{kind:?}");
        assert_eq!(caller.seen[1], (kind, "x://shown".to_owned(), element("x://shown")), "{kind:?}");
    }
}

#[test]
fn a_page_that_becomes_empty_keeps_its_cursor() {
    let page = result(r#"{"tools":[{"name":"hidden"}],"nextCursor":"hidden-2"}"#);
    assert_eq!(changed(&page), result(r#"{"tools":[],"nextCursor":"hidden-2"}"#));
}

#[test]
fn an_element_without_a_readable_name_is_not_shown() {
    for element in [
        "1",
        "null",
        "[]",
        "\"a\"",
        "{}",
        r#"{"name":1}"#,
        r#"{"name":["a"]}"#,
        r#"{"name":"\ud800"}"#,
        r#"{"Name":"a"}"#,
        r#"{"name":"a","NAME":"hidden"}"#,
        r#"{"name":"a","name\u0000":"hidden"}"#,
        r#"{"name":"a","n\u0061me":"hidden"}"#,
        r#"{"name":"a","_meta":{},"_meta":{}}"#,
        r#"{"name":"a","x":1,"x":1}"#,
        r#"{"uri":"a"}"#,
    ] {
        let list = result(&format!(r#"{{"tools":[{{"name":"a"}},{element},{{"name":"b"}}]}}"#));
        assert_eq!(changed(&list), result(r#"{"tools":[{"name":"a"},{"name":"b"}]}"#), "{element}");
    }
    // Escapes are not another name.
    assert_eq!(changed(&result(r#"{"tools":[{"n\u0061me":"h\u0069dden"}]}"#)), result(r#"{"tools":[]}"#));
}

#[test]
fn several_lists_in_one_result_are_all_filtered() {
    let both = result(r#"{"prompts":[{"name":"hidden"}],"tools":[{"name":"hidden"},{"name":"a"}]}"#);
    assert_eq!(changed(&both), result(r#"{"prompts":[],"tools":[{"name":"a"}]}"#));
}

#[test]
fn a_list_of_another_type_is_unreadable() {
    for tools in ["{}", "1", "\"x\"", "true", r#"{"0":{"name":"hidden"}}"#] {
        assert_eq!(unreadable(&result(&format!(r#"{{"tools":{tools}}}"#))), Some(Unreadable::Malformed), "{tools}");
    }
}

#[test]
fn a_filtered_list_is_cached_by_nobody_else_and_not_for_long() {
    for (from, to) in [
        (r#""ttlMs":5001,"cacheScope":"public""#, r#""ttlMs":5000,"cacheScope":"private""#),
        (r#""cacheScope": null, "ttlMs": 99999999999999999999999"#, r#""cacheScope": "private", "ttlMs": 5000"#),
        (r#""ttlMs":-1,"cacheScope":"Private""#, r#""ttlMs":0,"cacheScope":"private""#),
        (r#""ttlMs":1e9"#, r#""ttlMs":0"#),
        (r#""ttlMs":"9""#, r#""ttlMs":0"#),
        (r#""cacheScope":{"x":1}"#, r#""cacheScope":"private""#),
    ] {
        // Whether they come before or after the list.
        assert_eq!(changed(&result(&format!(r#"{{{from},"tools":[]}}"#))), result(&format!(r#"{{{to},"tools":[]}}"#)));
        assert_eq!(changed(&result(&format!(r#"{{"tools":[],{from}}}"#))), result(&format!(r#"{{"tools":[],{to}}}"#)));
    }
    let fine = result(r#"{"tools":[],"ttlMs":5000,"cacheScope":"priv\u0061te"}"#);
    assert_eq!(reviewed(&fine), Reviewed::Unchanged);
    // What is no list is not the gateway's to restrict.
    let other = result(r#"{"contents":[],"ttlMs":9999999,"cacheScope":"public"}"#);
    assert_eq!(reviewed(&other), Reviewed::Unchanged);
}

#[test]
fn caching_is_written_where_the_revision_requires_it() {
    let mut caller = Caller { is_stateless: true, ..Caller::default() };
    let list = result(r#"{"tools":[{"name":"hidden"}] }"#);
    assert_eq!(changed_for(&mut caller, &list), result(r#"{"tools":[] ,"ttlMs":0,"cacheScope":"private"}"#));
    let list = result(r#"{"ttlMs":7,"prompts":[]}"#);
    assert_eq!(changed_for(&mut caller, &list), result(r#"{"ttlMs":7,"prompts":[],"cacheScope":"private"}"#));
}

#[test]
fn duties_are_written_into_meta_and_nobody_else_writes_there() {
    let mut caller = Caller { duty: Some(r#"{"approval":"required"}"#), ..Caller::default() };
    let duty = r#""dev.toolgate/duty":{"approval":"required"}"#;
    for (from, to) in [
        (r#"{"name":"a"}"#.to_owned(), format!(r#"{{"name":"a","_meta":{{{duty}}}}}"#)),
        (r#"{"_meta":{ },"name":"a"}"#.to_owned(), format!(r#"{{"_meta":{{ {duty}}},"name":"a"}}"#)),
        (r#"{"_meta":{"x":1},"name":"a"}"#.to_owned(), format!(r#"{{"_meta":{{"x":1,{duty}}},"name":"a"}}"#)),
        (r#"{"_meta":null,"name":"a"}"#.to_owned(), format!(r#"{{"_meta":{{{duty}}},"name":"a"}}"#)),
        (
            r#"{"_meta":{"dev.toolgate/duty":1,"x":1,"DEV.toolgate/y":2},"name":"a"}"#.to_owned(),
            format!(r#"{{"_meta":{{"x":1,{duty}}},"name":"a"}}"#),
        ),
        (r#"{"_meta":{"dev.toolgate/duty":1},"name":"a"}"#.to_owned(), format!(r#"{{"_meta":{{{duty}}},"name":"a"}}"#)),
    ] {
        let list = |tool: &str| result(&format!(r#"{{"tools":[{tool},{tool}]}}"#));
        assert_eq!(changed_for(&mut caller, &list(&from)), list(&to), "{from}");
    }
    let claimed = result(
        r#"{"tools":[{"name":"a","_meta":{"d\u0065v.toolgate/duty":{},"x":1}}],"_meta":{"y":2,"dev.toolgate/z":3}}"#,
    );
    assert_eq!(changed(&claimed), result(r#"{"tools":[{"name":"a","_meta":{"x":1}}],"_meta":{"y":2}}"#));
}

// --- Messages -------------------------------------------------------------------------------------------------------

#[test]
fn answers_that_are_no_lists_pass_byte_for_byte() {
    for message in [
        result("{}"),
        result(
            r#"{"content":[{"type":"text","text":"\ud83d tools"}],"structuredContent":{"tools":[{"name":"hidden"}]}}"#,
        ),
        result(r#"{"capabilities":{"tools":{"listChanged":true}},"protocolVersion":"2025-11-25"}"#),
        r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"x","data":{"tools":[]}}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"x"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"x":1,"x":2}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/whatever"}"#.to_owned(),
    ] {
        assert_eq!(reviewed(&message), Reviewed::Unchanged, "{message}");
    }
}

#[test]
fn what_is_no_message_does_not_pass() {
    for message in [
        "1",
        "null",
        "{}",
        "[]",
        "[1]",
        "[[]]",
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"id":1,"result":{}}"#,
        r#"{"jsonrpc":"1.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","result":{"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":[1],"result":{"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":[{"tools":[]}]}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":"x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":["ping"]}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
    ] {
        assert_eq!(reviewed(message), Reviewed::Nothing, "{message}");
    }
}

#[test]
fn what_two_readers_could_take_for_different_things_is_unreadable() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"result":{},"result":{"tools":[{"name":"hidden"}]}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":{},"r\u0065sult":{"tools":[{"name":"hidden"}]}}"#.to_owned(),
        result(r#"{"tools":[],"tools":[]}"#),
        result(r#"{"tools":[],"\u0074ools":[{"name":"hidden"}]}"#),
        result(r#"{"x":1,"x":2}"#),
        result(r#"{"inputRequests":{"a":{"method":"roots/list","method":"sampling/createMessage"}}}"#),
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a","uri":"b"}}"#.to_owned(),
    ] {
        assert_eq!(unreadable(&text), DUPLICATE, "{text}");
    }
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"Result":{"tools":[{"name":"hidden"}]}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"METHOD":"sampling/createMessage","result":{}}"#.to_owned(),
        result(r#"{"Tools":[{"name":"hidden"}]}"#),
        result("{\"tool\u{17f}\":[{\"name\":\"hidden\"}]}"),
        result(r#"{"RESOURCES":[]}"#),
        result(r#"{"resourcetemplates":[]}"#),
        result(r#"{"tools":[],"cachescope":"public"}"#),
        result(r#"{"tools":[],"TTLMS":9999999}"#),
        result(r#"{"inputrequests":{}}"#),
        result(r#"{"inputRequests":{"a":{"Method":"roots/list"}}}"#),
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a","URI":"b"}}"#.to_owned(),
    ] {
        assert_eq!(unreadable(&text), MISLEADING, "{text}");
    }
}

#[test]
fn what_is_not_json_or_too_deep_is_unreadable() {
    for text in
        ["", "{", "\u{feff}{}", "{}{}", "{\"a\":1,}", "[1 2]", "{\"a\" 1}", "nul", "\"a", "{\"a\":\"\u{1}\"}", "01"]
    {
        assert_eq!(unreadable(text), Some(Unreadable::NotJson), "{text}");
    }
    assert_eq!(review(b"\"\xff\"", &mut Caller::default()), Err(Unreadable::NotJson));
    let deep = |levels: usize| result(&format!(r#"{{"x":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels)));
    assert_eq!(reviewed(&deep(limits::MAX_ANSWER_JSON_DEPTH)), Reviewed::Unchanged);
    let too_deep = Some(Unreadable::Defect(Defect::TooDeep));
    assert_eq!(unreadable(&deep(limits::MAX_ANSWER_JSON_DEPTH + 1)), too_deep);
    assert_eq!(unreadable(&deep(1_000_000)), too_deep);
    let levels = limits::MAX_ANSWER_JSON_DEPTH + 1;
    let tool = format!(r#"{{"name":"a","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert_eq!(unreadable(&result(&format!(r#"{{"tools":[{tool}]}}"#))), too_deep);
}

#[test]
fn batches_are_judged_message_by_message() {
    let list = result(r#"{"tools":[{"name":"hidden"},{"name":"a"}]}"#);
    let filtered = result(r#"{"tools":[{"name":"a"}]}"#);
    let other = result(r#"{"content":[]}"#);
    let asks = r#"{"jsonrpc":"2.0","id":2,"method":"roots/list"}"#;
    let mut caller = Caller { refused: vec![ClientFeature::Roots], ..Caller::default() };
    for (from, to) in [
        (format!("[{list} , {other}]"), format!("[{filtered} , {other}]")),
        (format!("[{asks},{other},{list}]"), format!("[{other},{filtered}]")),
        (format!("[{list},{asks}]"), format!("[{filtered}]")),
        // What a dropped message would have changed is not changed anywhere.
        (format!(r#"[{{"jsonrpc":"2.0","result":{{"tools":[{{"name":"hidden"}}]}}}},{other}]"#), format!("[{other}]")),
    ] {
        assert_eq!(changed_for(&mut caller, &from), to, "{from}");
    }
    assert_eq!(review(format!("[{asks},{asks}]").as_bytes(), &mut caller), Ok(Reviewed::Nothing));
    let many = |count: usize| format!("[{}]", vec![result("{}"); count].join(","));
    assert_eq!(reviewed(&many(limits::MAX_BATCH_MESSAGES)), Reviewed::Unchanged);
    assert_eq!(unreadable(&many(limits::MAX_BATCH_MESSAGES + 1)), Some(Unreadable::Defect(Defect::TooManyMembers)));
}

#[test]
fn requests_of_a_server_are_judged_by_method() {
    for (method, feature) in [
        ("sampling/createMessage", ClientFeature::Sampling),
        ("elicitation/create", ClientFeature::Elicitation),
        ("roots/list", ClientFeature::Roots),
        ("tasks/get", ClientFeature::Tasks),
        ("tasks/result", ClientFeature::Tasks),
        ("tasks/list", ClientFeature::Tasks),
        ("tasks/cancel", ClientFeature::Tasks),
    ] {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"tools": 1}}).to_string();
        assert_eq!(reviewed(&request), Reviewed::Unchanged, "{method}");
        let mut caller = Caller { refused: vec![feature], ..Caller::default() };
        assert_eq!(review(request.as_bytes(), &mut caller), Ok(Reviewed::Nothing), "{method}");
    }
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(reviewed(ping), Reviewed::Unchanged);
    for method in ["tools/call", "Sampling/createMessage", "sampling/createMessage ", "notifications/message", ""] {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
        assert_eq!(reviewed(&request), Reviewed::Nothing, "{method}");
    }
}

#[test]
fn updates_of_hidden_resources_do_not_pass() {
    let updated = |params: &str| {
        reviewed(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{params}}}"#))
    };
    assert_eq!(updated(r#"{"uri":"x://a"}"#), Reviewed::Unchanged);
    assert_eq!(updated(r#"{"uri":"x://hidden/part"}"#), Reviewed::Nothing);
    assert_eq!(updated(r#"{"uri":"x://h\u0069dden"}"#), Reviewed::Nothing);
    assert_eq!(updated("{}"), Reviewed::Nothing);
    assert_eq!(updated(r#"{"uri":["x://a"]}"#), Reviewed::Nothing);
    assert_eq!(reviewed(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated"}"#), Reviewed::Nothing);
    // The method may come last.
    let late = r#"{"jsonrpc":"2.0","params":{"uri":"x://hidden"},"method":"notifications/resources/updated"}"#;
    assert_eq!(reviewed(late), Reviewed::Nothing);
}

#[test]
fn a_result_that_asks_for_what_is_refused_becomes_an_error_with_its_id() {
    let asks = |requests: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","result":{{"resultType":"input_required","inputRequests":{requests},"requestState":"s"}},"id":"a\u0041"}}"#
        )
    };
    let elicits = asks(r#"{"k":{"method":"elicitation/create","params":{}},"l":{"method":"roots/list"}}"#);
    assert_eq!(reviewed(&elicits), Reviewed::Unchanged);
    assert_eq!(reviewed(&asks("{}")), Reviewed::Unchanged);
    assert_eq!(reviewed(&asks("null")), Reviewed::Unchanged);
    let mut caller = Caller { refused: vec![ClientFeature::Elicitation], ..Caller::default() };
    let error = changed_for(&mut caller, &elicits);
    assert!(error.starts_with(r#"{"jsonrpc":"2.0","id":"a\u0041","error":{"code":-33002,"#), "{error}");
    assert!(error.contains("elicitation"), "{error}");
    // Whatever else would have changed in it.
    let list = elicits.replace(r#""requestState":"s""#, r#""tools":[{"name":"hidden"}],"cacheScope":"public""#);
    assert_eq!(changed_for(&mut caller, &list), error);
    for unknown in
        [r#"{"k":{"method":"tools/call"}}"#, r#"{"k":{}}"#, r#"{"k":{"method":1}}"#, r#"{"k":{"method":"tasks/get"}}"#]
    {
        assert!(changed(&asks(unknown)).contains("-33002"), "{unknown}");
    }
    for malformed in ["[]", "1", r#"{"k":[]}"#] {
        assert_eq!(unreadable(&asks(malformed)), Some(Unreadable::Malformed), "{malformed}");
    }
    // In a batch only that answer changes.
    let error = changed_for(&mut caller, &format!("[{},{elicits}]", result("{}")));
    let parsed: Value = serde_json::from_str(&error).unwrap();
    assert_eq!((&parsed[0]["result"], &parsed[1]["error"]["code"]), (&json!({}), &json!(-33002)));
}

#[test]
fn the_other_ways_of_asking_a_client_are_judged_too() {
    let mut caller = Caller { refused: vec![ClientFeature::Elicitation], ..Caller::default() };
    for code in ["-32042", "-32042.0", "-3.2042e4"] {
        let error = format!(r#"{{"jsonrpc":"2.0","id":7,"error":{{"code":{code},"message":"x","data":{{}}}}}}"#);
        assert_eq!(reviewed(&error), Reviewed::Unchanged);
        let refused = changed_for(&mut caller, &error);
        assert!(refused.starts_with(r#"{"jsonrpc":"2.0","id":7,"error":{"code":-33002,"#), "{refused}");
    }
    let task = r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t","status":"input_required",
        "inputRequests":{"k":{"method":"elicitation/create"}}}}"#;
    assert_eq!(reviewed(task), Reviewed::Unchanged);
    assert_eq!(review(task.as_bytes(), &mut caller), Ok(Reviewed::Nothing));
}

// --- Properties -----------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_list_without_what_is_hidden_is_what_remains(
        names in prop::collection::vec("(hidden|a|\\PC{0,8})", 0..12),
        pretty in any::<bool>(),
        before in any::<bool>(),
    ) {
        let tools: Vec<Value> = names.iter().map(|name| json!({"name": name, "inputSchema": {"x": [name, {}]}})).collect();
        let shown: Vec<&Value> = tools.iter().filter(|tool| !tool["name"].as_str().unwrap().contains("hidden")).collect();
        let key = if before { "a" } else { "z" };
        let of = |tools: Value| json!({"jsonrpc": "2.0", "id": 1, "result": {key: [1, {"tools": 1}], "tools": tools}});
        let text = of(json!(tools));
        let text = if pretty { serde_json::to_string_pretty(&text).unwrap() } else { text.to_string() };
        match reviewed(&text) {
            Reviewed::Unchanged => prop_assert_eq!(tools.len(), shown.len()),
            Reviewed::Changed(bytes) => prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), of(json!(shown))),
            Reviewed::Nothing => prop_assert!(false, "{}", text),
        }
    }

    #[test]
    fn whatever_comes_the_outcome_is_json_without_hidden_names(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", " ", "\n", "1", "-0.5e3", "true", "null", "\"a\"", "\"\\\"\\\\\"", "\"tools\":[", "\"name\":",
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{", "\"hidden\"", "\"_meta\":{", "\"dev.toolgate/x\":1", "\"method\":\"ping\"",
                "{\"name\":\"hidden\"},", "{\"name\":\"a\"}", "]}}", "\"cacheScope\":\"public\"", "\"ttlMs\":1e5",
            ]),
            0..16,
        ),
    ) {
        let text = tokens.concat();
        match review(text.as_bytes(), &mut Caller { is_stateless: true, ..Caller::default() }) {
            Ok(Reviewed::Changed(bytes)) => {
                let text = String::from_utf8(bytes).unwrap();
                let changed: Result<Value, _> = serde_json::from_str(&text);
                let Ok(changed) = changed else { return Err(TestCaseError::fail(text)) };
                let tools = changed["result"]["tools"].as_array().cloned().unwrap_or_default();
                prop_assert!(tools.iter().all(|tool| tool["name"] != "hidden"), "{}", text);
            }
            Ok(Reviewed::Unchanged | Reviewed::Nothing) => prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok()),
            Err(_) => {}
        }
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = review(&bytes, &mut Caller::default());
    }
}
