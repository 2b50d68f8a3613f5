//! Conditions: what loads, what a condition results in, and that no input makes an error grant, a panic, or much work.
#![cfg(not(target_family = "wasm"))]
#![expect(clippy::panic, reason = "a test that cannot go on has failed")]

use std::iter;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest};
use serde_json::{Value, json};
use toolgate::limits;
use toolgate::policy::{Condition, ConditionError, Inputs, Known, Place};
use toolgate::units::UnixSeconds;

/// Friday 2026-11-20T13:45:10Z.
const NOW: u64 = 1_795_182_310;

fn compile(text: &str) -> Condition {
    Condition::compile(text, Place::When).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn problem(text: &str) -> String {
    match Condition::compile(text, Place::When) {
        Ok(_) => panic!("{text} loads"),
        Err(error) => error.to_string(),
    }
}

/// Evaluates with these arguments, by a caller with all there is.
fn with(text: &str, arguments: &str) -> Result<bool, ConditionError> {
    let (roles, groups) = (["analyst".into(), "scheduler".into()], ["eu".into()]);
    let inputs = Inputs {
        arguments: Known::Yes(Some(arguments)),
        claims: r#"{"sub":"u7","acr":"mfa","level":3,"nested":{"list":[1,2,3]}}"#,
        client: Some("demo"),
        agent: Some("booking_agent"),
        subject: "u7",
        issuer: "https://idp.example",
        tenant: Some("acme"),
        roles: &roles,
        groups: &groups,
        target_kind: "tool",
        target_name: "send_message",
        now: UnixSeconds::new(NOW),
    };
    let condition = compile(text);
    let result = condition.evaluate(&inputs);
    assert_eq!(condition.grants(&inputs), result == Ok(true), "{text}");
    assert_eq!(condition.triggers(&inputs), result != Ok(false), "{text}");
    result
}

#[test]
fn conditions_see_arguments_claims_caller_target_and_time() {
    let arguments = json!({"channel": "email", "contacts": [{"id": 1, "eu": true}, {"id": 2, "eu": true}],
        "tenant": "acme", "price": 2.5, "count": 3, "empty": null, "text": "a\u{e9}\"b"})
    .to_string();
    for text in [
        "true",
        "arguments.channel != 'sms'",
        "arguments['channel'] in ['email', 'letter']",
        "size(arguments.contacts) == 2 && arguments.contacts.size() < 50",
        "size(arguments) == 7",
        "arguments.contacts.all(c, c.eu)",
        "arguments.contacts.exists_one(c, c.id == 2)",
        "arguments.contacts.map(c, c.id) == [1, 2]",
        "arguments.contacts.filter(c, c.id > 1).size() == 1",
        "arguments.contacts.all(c, claims.nested.list.exists(n, n == c.id))",
        "arguments.contacts[1].id == 2",
        "'channel' in arguments && !('other' in arguments)",
        "has(arguments.channel) && !has(arguments.other)",
        "!has(arguments.other) || arguments.other > 3",
        "arguments.tenant == tenant",
        "arguments.price * 2.0 == 5.0 && arguments.price > 2",
        "arguments.count + 1 == 4 && arguments.count % 2 == 1 && -arguments.count < 0",
        "arguments.empty == null",
        "arguments.text == 'a\\u00e9\"b' && size(arguments.text) == 4",
        "arguments.channel.startsWith('em') && arguments.channel.endsWith('il') && arguments.channel.contains('mai')",
        "int('3') == arguments.count && string(arguments.count) == '3' && double(3) == 3.0 && uint(3) == 3u",
        "claims.acr == 'mfa' && claims.level >= 3 && claims.sub == subject",
        "client.id == 'demo' && client.agent == 'booking_agent' && client.id != null",
        "issuer == 'https://idp.example' && tenant == 'acme'",
        "'analyst' in roles && groups.exists(g, g.startsWith('e')) && !('x' in groups)",
        "target.kind == 'tool' && target.name.startsWith('send_')",
        "time.unix == 1795182310 && time.hour == 13 && time.minute == 45 && time.weekday == 5",
        "time.weekday in [1, 2, 3, 4, 5] && time.hour >= 8 && time.hour < 18",
        "(arguments.count > 2 ? 'a' : 'b') == 'a'",
        "[1, 2].map(x, [x, x]).exists(p, p[0] == 2)",
        "{'a': 1}.a == 1 && {'a': 1}['a'] == 1",
        "// a comment\n true",
    ] {
        assert_eq!(with(text, &arguments), Ok(true), "{text}");
        assert_eq!(with(&format!("!(\n{text}\n)"), &arguments), Ok(false), "!({text})");
    }
}

#[test]
fn what_is_absent_is_null_or_empty() {
    let inputs = Inputs { claims: "{}", ..Inputs::default() };
    let evaluate = |text| compile(text).evaluate(&inputs);
    for text in ["tenant == null", "client.id == null && client.agent == null", "roles == [] && size(groups) == 0"] {
        assert_eq!(evaluate(text), Ok(true), "{text}");
    }
    assert_eq!(evaluate("size(arguments) == 0 && !has(arguments.x)"), Ok(true));
    assert_eq!(evaluate("arguments.x == null"), Err(ConditionError::MissingMember));
    assert_eq!(evaluate("tenant.startsWith('a')"), Err(ConditionError::WrongType));
    assert_eq!(evaluate("time.unix == 0 && time.weekday == 4"), Ok(true));
}

#[test]
fn only_what_is_named_is_looked_at() {
    let condition = compile("client.id == 'demo'");
    assert!(!condition.depends_on_arguments());
    assert!(compile("has(arguments.x)").depends_on_arguments());
    // Neither arguments nor claims are read, so that it does not matter what they are.
    let inputs = Inputs { arguments: Known::Yes(Some("{")), claims: "?", client: Some("demo"), ..Inputs::default() };
    assert!(condition.grants(&inputs));
    let many = json!({"x": 1, "large": vec![0; limits::MAX_CONDITION_VALUES]}).to_string();
    assert_eq!(with("arguments.x == 1", &many), Ok(true));
    assert_eq!(with("arguments['x'] == 1", &many), Ok(true));
    for text in ["arguments == {}", "size(arguments.large) > 0", "arguments[string(arguments.x)] == 1"] {
        assert_eq!(with(text, &many), Err(ConditionError::InputTooLarge("arguments")), "{text}");
    }
}

/// Text, the column that the error names, and a part of what it says.
const BROKEN: &[(&str, usize, &str)] = &[
    ("", 1, "mismatched input"),
    ("arguments.x ==", 15, ""),
    ("arguments.x == 1)", 17, "mismatched input ')'"),
    ("(arguments.x", 13, "expected ')'"),
    ("arguments.x = 1", 13, ""),
    ("arguments.x == 'a", 16, "unterminated string literal"),
    ("arguments.x & 1", 13, "unexpected single '&'"),
    ("argument.x == 1", 1, "variable `argument` is not known; known are arguments, claims"),
    ("true && int", 9, "variable `int` is not known"),
    (".arguments.x == 1", 1, "variable `.arguments` is not known"),
    ("true || client.agnet == 'a'", 15, "`client` has no member `agnet`; it has id, agent"),
    ("time.hours > 3", 5, "`time` has no member `hours`; it has unix, hour, minute, weekday"),
    ("target['nam'] == 'a'", 8, "`target` has no member `nam`; it has kind, name"),
    ("has(client.nam)", 1, "`client` has no member `nam`"),
    ("size(client) == 2", 6, "`client` is used as a whole; name a member: id, agent"),
    ("subject.name == 'a'", 8, "`subject` is string and has no members"),
    ("arguments.x.matches('a+')", 20, "function `matches` is not known; known are size, contains"),
    ("timestamp('x') == 1", 1, "function `timestamp` is not known"),
    ("arguments.?x == 1", 10, "unsupported syntax"),
    ("optional.of(1) == 1", 12, "`of` is not known"),
    ("size(arguments.x, 1) == 1", 1, "`size` is not called like this; write size(x) or x.size()"),
    ("contains(arguments.x, 'a')", 1, "`contains` is not called like this; write text.contains(part)"),
    ("arguments.x.all(c)", 16, "`all` is not called like this; write list.all(element, condition)"),
    ("has(arguments)", 5, "invalid argument to has() macro"),
    ("arguments.x.all(c.d, true)", 18, "argument must be a simple name"),
    ("Message{a: 1} == 1", 1, "message `Message` is not known"),
    ("size(arguments)", 1, "results in int; a condition results in a bool"),
    ("'yes'", 1, "results in string"),
    ("arguments.x ? 1 : 'b'", 13, "results in int or string"),
    ("1 + 'a' == 2", 3, "`+` does not go between int and string"),
    ("arguments.x + 1 == 'a'", 17, "`==` does not go between int and string"),
    ("time.hour == '9'", 11, "`==` does not go between int and string"),
    ("tenant > 3", 8, "`>` does not go between string or null and int"),
    ("subject == null", 9, "`==` does not go between string and null"),
    ("3 in roles", 3, "`in` does not go between int and list of string"),
    ("'a' in 'abc'", 5, "`in` does not go between string and string"),
    ("roles[0] == 1", 10, "`==` does not go between string and int"),
    ("roles['a'] == 'b'", 7, "`roles` is list and has no members"),
    ("size(time.hour) == 1", 10, "what `size` takes cannot be int; give it string or bytes or list or map"),
    ("time.hour && true", 5, "a condition cannot be int"),
    ("!tenant", 2, "a condition cannot be string or null"),
    ("-subject == 'a'", 2, "the operand of `-` cannot be string"),
    ("roles.all(r, r > 3)", 16, "`>` does not go between string and int"),
    ("roles.all(r, size(r))", 14, "a condition cannot be int; give it bool"),
    ("subject.all(c, true)", 1, "string has no elements"),
    ("roles.all(subject, true)", 10, "`subject` cannot name the element"),
    ("roles.all(a, roles.all(a, true))", 23, "`a` cannot name the element"),
    ("roles.all(a, roles.all(b, roles.all(c, true)))", 36, "nested deeper than 2"),
    ("arguments.a.b.é == 1", 15, "unexpected character"),
];

#[test]
fn what_cannot_be_right_does_not_load_and_says_why() {
    let mut failures = Vec::new();
    for (text, column, message) in BROKEN {
        let found = problem(text);
        let place = format!("`when`, line 1, column {column}: ");
        if !found.starts_with(&place) || !found.contains(message) {
            failures.push(format!("{text}\n  found    {found}\n  expected {place}{message}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(problem("true &&\n  nothing").contains("line 2, column 3"));
    let denied = Condition::compile("x", Place::DenyWhen).unwrap_err().to_string();
    assert!(denied.starts_with("`deny_when`, line 1"), "{denied}");
}

#[test]
fn texts_beyond_a_bound_do_not_load() {
    let repeated = |part: &str, times: usize| part.repeat(times);
    let (depth, nodes) = (limits::MAX_CONDITION_NESTING, limits::MAX_CONDITION_NODES);
    assert!(problem(&format!("true{}", repeated(" ", limits::MAX_CONDITION_BYTES))).contains("longer than"));
    assert!(problem(&format!("{}1 == 1", repeated("true||", nodes / 2))).contains("tokens"));
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("!(", ")"), ("size(", ")"), ("[1][", "]")] {
        let text = format!("{}1{} == 1", repeated(open, depth + 1), repeated(close, depth + 1));
        assert!(problem(&text).contains("nested deeper"), "{text}");
    }
    assert!(problem(&repeated("true ? true : ", depth + 1)).contains("nested deeper"));
    for text in [
        format!("arguments{} == 1", repeated(".a", limits::MAX_CONDITION_DEPTH)),
        format!("{}1 == 1", repeated("1+", limits::MAX_CONDITION_DEPTH)),
        format!("{}true", repeated("!-", limits::MAX_CONDITION_DEPTH)),
        format!("arguments{} == 1", repeated("[0]", limits::MAX_CONDITION_DEPTH)),
    ] {
        assert!(problem(&text).contains("deeper than"), "{text}");
    }
    // Chains of logic are balanced by the parser.
    assert_eq!(with(&format!("{}true", repeated("false || ", 200)), "{}"), Ok(true));
}

#[test]
fn errors_never_grant_and_always_trigger() {
    let arguments = json!({"n": 1, "s": "a", "l": [1, "a", null], "m": {"k": 1}, "z": 0, "b": true,
        "max": i64::MAX, "min": i64::MIN, "big": u64::MAX, "half": 0.5});
    for (text, error) in [
        ("arguments.missing", ConditionError::MissingMember),
        ("arguments.missing == null", ConditionError::MissingMember),
        ("arguments.missing != 'sms'", ConditionError::MissingMember),
        ("arguments.m.missing.deeper == 1", ConditionError::MissingMember),
        ("!arguments.missing", ConditionError::MissingMember),
        ("!(arguments.missing in [1])", ConditionError::MissingMember),
        ("has(arguments.missing.deeper)", ConditionError::MissingMember),
        ("has(arguments.s.deeper)", ConditionError::WrongType),
        ("arguments.s.deeper == 1", ConditionError::WrongType),
        ("arguments.n", ConditionError::WrongType),
        ("arguments.l", ConditionError::WrongType),
        ("arguments.n ? true : true", ConditionError::WrongType),
        ("!arguments.n", ConditionError::WrongType),
        ("arguments.s > 1", ConditionError::WrongType),
        ("arguments.l > 1", ConditionError::WrongType),
        ("arguments.n + arguments.s == 1", ConditionError::WrongType),
        ("arguments.n + 0.5 == 1.5", ConditionError::WrongType),
        ("size(arguments.n) == 1", ConditionError::WrongType),
        ("arguments.n.startsWith('1')", ConditionError::WrongType),
        ("arguments.s.contains(arguments.n)", ConditionError::WrongType),
        ("1 in arguments.n", ConditionError::WrongType),
        ("arguments.m[arguments.l] == 1", ConditionError::WrongType),
        ("arguments.l['a' + arguments.s] == 1", ConditionError::WrongType),
        ("arguments.l[3] == 1", ConditionError::OutOfRange),
        ("arguments.l[-1] == 1", ConditionError::OutOfRange),
        ("arguments.n / arguments.z == 1", ConditionError::OutOfRange),
        ("arguments.n % arguments.z == 1", ConditionError::OutOfRange),
        ("arguments.min / -1 == 1", ConditionError::OutOfRange),
        ("arguments.min % -1 == 0", ConditionError::OutOfRange),
        ("-arguments.min > 0", ConditionError::OutOfRange),
        ("arguments.max + 1 > 0", ConditionError::OutOfRange),
        ("arguments.max * 2 > 0", ConditionError::OutOfRange),
        ("arguments.min - 1 < 0", ConditionError::OutOfRange),
        ("arguments.big + 1u > 0u", ConditionError::OutOfRange),
        ("int(arguments.big) > 0", ConditionError::OutOfRange),
        ("uint(arguments.min) > 0u", ConditionError::OutOfRange),
        ("int(arguments.s) == 1", ConditionError::OutOfRange),
        ("double(arguments.s) == 1.0", ConditionError::OutOfRange),
        ("{'a': 1, arguments.s: 2}.a == 1", ConditionError::OutOfRange),
        ("arguments.l.all(x, x > 0)", ConditionError::WrongType),
        ("arguments.l.exists_one(x, x > 0)", ConditionError::WrongType),
        ("arguments.l.map(x, x + 1) == []", ConditionError::WrongType),
        ("arguments.l.filter(x, x) == []", ConditionError::WrongType),
        ("arguments.s.all(x, true)", ConditionError::WrongType),
        ("arguments.missing || false", ConditionError::MissingMember),
        ("false || arguments.missing", ConditionError::MissingMember),
        ("true && arguments.missing", ConditionError::MissingMember),
        ("arguments.missing && true", ConditionError::MissingMember),
        ("arguments.n || arguments.missing", ConditionError::MissingMember),
    ] {
        assert_eq!(with(text, &arguments.to_string()), Err(error), "{text}");
    }
}

#[test]
fn an_operand_that_decides_does_so_beside_an_error() {
    for (text, result) in [
        ("true || arguments.missing", true),
        ("arguments.missing || true", true),
        ("false && arguments.missing", false),
        ("arguments.missing && false", false),
        ("[1, 2].exists(x, x == 2 || arguments.missing)", true),
        ("[1, 2].all(x, x == 2 && arguments.missing)", false),
        // Not the same kind is not equal, and no error.
        ("arguments.x == 'a'", false),
        ("arguments.x != 'a'", true),
    ] {
        assert_eq!(with(text, r#"{"x": 1}"#), Ok(result), "{text}");
    }
}

#[test]
fn numbers_are_exact_or_an_error() {
    for (number, text, result) in [
        ("42", "arguments.x == 42 && arguments.x + 1 == 43", Ok(true)),
        ("42.0", "arguments.x == 42 && arguments.x + 1.0 == 43.0", Ok(true)),
        ("42.0", "arguments.x + 1 == 43", Err(ConditionError::WrongType)),
        ("4.2e1", "arguments.x + 1.0 == 43.0", Ok(true)),
        ("-0", "arguments.x == 0 && arguments.x <= 0", Ok(true)),
        ("9007199254740993", "arguments.x == 9007199254740993 && arguments.x != 9007199254740992", Ok(true)),
        ("9223372036854775807", "arguments.x == 9223372036854775807", Ok(true)),
        ("-9223372036854775808", "arguments.x == -9223372036854775808", Ok(true)),
        ("9223372036854775808", "arguments.x == 9223372036854775808u && arguments.x > 1", Ok(true)),
        ("18446744073709551615", "arguments.x == 18446744073709551615u", Ok(true)),
        ("18446744073709551616", "arguments.x > 0", Err(ConditionError::InputUnreadable("arguments"))),
        ("-9223372036854775809", "arguments.x < 0", Err(ConditionError::InputUnreadable("arguments"))),
        ("1e19", "arguments.x > 0", Err(ConditionError::InputUnreadable("arguments"))),
        ("1e400", "arguments.x > 0", Err(ConditionError::InputUnreadable("arguments"))),
    ] {
        assert_eq!(with(text, &format!("{{\"x\":{number}}}")), result, "{number}: {text}");
    }
}

#[test]
fn inputs_that_are_large_deep_or_not_strict_are_errors() {
    use ConditionError::{InputTooLarge, InputUnreadable};
    let nested = |depth: usize| format!("{{\"x\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    let text = "size(arguments.x) >= 0";
    assert_eq!(with(text, &nested(limits::MAX_JSON_DEPTH - 1)), Ok(true));
    for (arguments, error) in [
        (nested(limits::MAX_JSON_DEPTH), InputUnreadable("arguments")),
        (nested(10_000), InputUnreadable("arguments")),
        (json!({"x": "a".repeat(limits::MAX_CONDITION_INPUT_BYTES)}).to_string(), InputTooLarge("arguments")),
        (json!({"x": vec![0; limits::MAX_CONDITION_VALUES]}).to_string(), InputTooLarge("arguments")),
        (r#"{"x":[1],"x":[1]}"#.to_owned(), InputUnreadable("arguments")),
        (r#"{"x":[{"a":1,"a":2}]}"#.to_owned(), InputUnreadable("arguments")),
        (r#"{"x":[1],"y":{"a":1,"\u0061":2}}"#.to_owned(), InputUnreadable("arguments")),
        (r#"{"x":[1]} 1"#.to_owned(), InputUnreadable("arguments")),
        (r#"{"x":[1]"#.to_owned(), InputUnreadable("arguments")),
        (r#"{"x":"\ud800"}"#.to_owned(), InputUnreadable("arguments")),
        ("[1]".to_owned(), InputUnreadable("arguments")),
        ("null".to_owned(), InputUnreadable("arguments")),
        (String::new(), InputUnreadable("arguments")),
    ] {
        assert_eq!(with(text, &arguments), Err(error), "{arguments:.60}");
    }
}

/// Conditions that are quick with small inputs and would not end with these.
const EXPENSIVE: [&str; 9] = [
    "arguments.l.all(a, arguments.l.all(b, a != b || true))",
    "arguments.l.all(a, a in arguments.l)",
    "arguments.l.exists(a, arguments.l == [a])",
    "arguments.l.map(a, arguments.l).size() > 0",
    "arguments.l.all(a, [a, a, a].all(b, arguments == arguments))",
    "[arguments.l].map(a, a + a).map(b, b + b).map(c, c + c).map(d, d + d).map(e, e + e).size() == 1",
    "true || arguments.l.all(a, arguments.l.all(b, a != b || true)) || true",
    "arguments.l.all(a, arguments.l.all(b, a != b || true)) || true",
    "arguments.l.exists(a, arguments.l.all(b, a != b || true) || true)",
];

#[test]
fn work_beyond_its_bound_is_an_error_whatever_stands_beside_it() {
    let arguments = json!({"l": (0..5000).collect::<Vec<_>>()}).to_string();
    for text in EXPENSIVE {
        let result = with(text, &arguments);
        // What is decided before the work is begun takes none.
        let expected = if text.starts_with("true ||") { Ok(true) } else { Err(ConditionError::TooMuchWork) };
        assert_eq!(result, expected, "{text}");
        with(text, r#"{"l":[1,2]}"#).unwrap();
    }
    // What real conditions do with as much as they may see.
    let contact = json!({"id": "c-1", "mail": "anna@example.com", "eu": true});
    let contacts = json!({"contacts": vec![contact; 900], "allowed": ["a", "b", "c-1"]}).to_string();
    assert_eq!(with("arguments.contacts.all(c, c.eu && c.id.startsWith('c-'))", &contacts), Ok(true));
    assert_eq!(with("arguments.contacts.all(c, c.id in arguments.allowed)", &contacts), Ok(true));
    assert_eq!(with("size(arguments.contacts) <= 500", &contacts), Ok(false));
}

// --- Random expressions and inputs ----------------------------------------------------------------------------------

const LEAVES: &[&str] = &[
    "arguments",
    "arguments.a",
    "arguments.b",
    "arguments.l",
    "arguments.m.a",
    "claims",
    "claims.a",
    "client.id",
    "client",
    "subject",
    "tenant",
    "roles",
    "groups[0]",
    "target.name",
    "time.hour",
    "x",
    "y",
    "true",
    "false",
    "null",
    "0",
    "1",
    "-1",
    "2u",
    "0.5",
    "-0.0",
    "'a'",
    "''",
    "b'a'",
    "'é'",
    "[]",
    "{}",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615u",
    "1e308",
    "r'\\'",
    "'\\u00e9'",
    "'''a'''",
];

/// Expressions of the grammar, sensible or not.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(LEAVES).prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operators = vec![
            "+",
            "-",
            "*",
            "/",
            "%",
            "==",
            "!=",
            "<",
            "<=",
            ">",
            ">=",
            "&&",
            "||",
            "in",
            ".startsWith",
            ".contains",
        ];
        let macros = vec!["all", "exists", "exists_one", "map", "filter"];
        let functions = vec!["size", "int", "uint", "double", "string", "bytes", "bool", "dyn", "!", "-", "has", "f"];
        prop_oneof![
            (inner.clone(), prop::sample::select(operators), inner.clone()).prop_map(|(left, operator, right)| {
                if operator.starts_with('.') {
                    format!("({left}){operator}({right})")
                } else {
                    format!("({left} {operator} {right})")
                }
            }),
            (prop::sample::select(functions), inner.clone()).prop_map(|(name, operand)| format!("{name}({operand})")),
            (inner.clone(), prop::sample::select(macros), prop::sample::select(vec!["x", "y"]), inner.clone())
                .prop_map(|(range, name, variable, body)| format!("({range}).{name}({variable}, {body})")),
            (inner.clone(), inner.clone()).prop_map(|(list, index)| format!("({list})[{index}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.prop_map(|operand| format!("({operand}).a")),
        ]
    })
}

/// JSON of any shape with the members that expressions name.
fn inputs() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[aé]{0,3}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abml]", inner, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    });
    prop::collection::btree_map("[abml]", value, 0..5).prop_map(|members| members.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_expression_and_no_input_panics(text in expressions(), arguments in inputs(), claims in inputs()) {
        let (arguments, claims) = (arguments.to_string(), claims.to_string());
        let roles = ["a".into()];
        let inputs =
            Inputs { arguments: Known::Yes(Some(&arguments)), claims: &claims, subject: "a", roles: &roles, ..Inputs::default() };
        for text in [text.clone(), format!("({text}) == true"), format!("({text}) || true")] {
            if let Ok(condition) = Condition::compile(&text, Place::When) {
                let result = condition.evaluate(&inputs);
                prop_assert!(condition.grants(&inputs) == (result == Ok(true)));
                prop_assert!(condition.triggers(&inputs) == (result != Ok(false)));
            }
        }
    }

    #[test]
    fn no_text_panics(text in prop_oneof!["\\PC{0,60}", "[(){}\\[\\]?:.,!+a1'\"`\\\\br&|=<é \n/-]{0,60}"]) {
        let _ = Condition::compile(&text, Place::When);
    }

    #[test]
    fn no_input_text_panics(arguments in "[{}\\[\\]:,\"a1.e\\\\u-]{0,30}") {
        let inputs = Inputs { arguments: Known::Yes(Some(&arguments)), ..Inputs::default() };
        let _ = compile("arguments.a == 1 || size(arguments) > 1").evaluate(&inputs);
    }
}

/// A stack of the size that the module has, less what callers use.
#[test]
fn the_deepest_condition_and_input_fit_the_stack() {
    let depth = limits::MAX_CONDITION_DEPTH;
    let nesting = limits::MAX_CONDITION_NESTING - 2;
    let texts: Vec<String> = vec![
        format!("{}1 == 1", "1+".repeat(depth - 2)),
        format!("arguments{} == 1", "[0]".repeat(depth - 2)),
        format!("{}true{}", "!(".repeat(nesting), ")".repeat(nesting)),
        format!("{}1{} == []", "[".repeat(nesting), "]".repeat(nesting)),
        format!("{}true", "true ? true : ".repeat(limits::MAX_CONDITION_NESTING)),
        format!("roles.all(a, roles.all(b, {}true{}))", "!(".repeat(nesting), ")".repeat(nesting)),
        iter::repeat_n("(", 5000).collect(),
        iter::repeat_n("!", 4000).collect(),
        iter::repeat_n("a.", 2000).collect(),
        iter::repeat_n("1<", 1000).collect(),
        iter::repeat_n("a?", 1000).collect(),
    ];
    let run = move || {
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(62), "]".repeat(62));
        let roles = ["a".into()];
        let inputs = Inputs { arguments: Known::Yes(Some(&deep)), roles: &roles, ..Inputs::default() };
        for text in &texts {
            if let Ok(condition) = Condition::compile(text, Place::When) {
                let _ = condition.evaluate(&inputs);
            }
        }
        for text in ["arguments == arguments", "[arguments.x].map(c, [c, c]) == [[arguments.x, arguments.x]]"] {
            assert_eq!(compile(text).evaluate(&inputs), Ok(true));
        }
    };
    // An unoptimised build needs several times the stack of a release.
    let stack = if cfg!(debug_assertions) { 2 << 20 } else { 512 << 10 };
    std::thread::Builder::new().stack_size(stack).spawn(run).unwrap().join().unwrap();
}
