//! What a record shows of the arguments of a call: nothing but what the policy names.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::by_tool::ByTool;
use super::mask::masked;
use super::pointer::{Pointer, PointerSet, Some32, Step};
use super::pseudonym::Pseudonyms;
use super::scalar::shown;
use super::text::clean;
use crate::json::{self, Text};
use crate::limits;
use crate::mcp::Unreadable;
use crate::mcp::walk::Walker;

/// What is shown of the arguments of which tools. Without an entry for a tool, nothing.
pub type Redaction = ByTool<ToolRedaction>;

/// Label of the pseudonyms of arguments. They are the same for all arguments of all tools, so that calls can be joined.
const ARGUMENT: &str = "argument";

/// The member that says how many arguments are left out.
const LEFT_OUT: &str = "…";

/// What a record shows of a value.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// The value itself, up to 256 bytes. E-mail addresses, telephone and card numbers, keys and tokens in it are masked.
    Keep,
    /// Nothing.
    Drop,
    /// A hash, salted for each record: equal values of one record can be told, those of two records cannot.
    Hash,
    /// A keyed pseudonym: equal values can be told in all records of the resource.
    Pseudonymise,
}

/// What is shown of the arguments of a tool. What no pointer names is not.
#[derive(Clone, Debug)]
pub struct ToolRedaction {
    pointers: PointerSet,
    treatments: Vec<Treatment>,
}

impl ToolRedaction {
    /// Treatments by pointer into the arguments. One is for the value there and all below it, but for what a more
    /// specific pointer names: a longer one, then one that names a member where the other has `*`.
    ///
    /// `None` if there are more than [`limits::MAX_AUDIT_POINTERS`].
    pub fn new(mut rules: Vec<(Pointer, Treatment)>) -> Option<Self> {
        rules.sort_by_cached_key(|(pointer, _)| Reverse(pointer.rank()));
        let (pointers, treatments) = rules.into_iter().unzip();
        Some(Self { pointers: PointerSet::new(pointers)?, treatments })
    }

    /// What a record shows of `arguments`, by JSON Pointer; arguments that are not JSON have nothing to show. They are walked
    /// through once, and only what is shown takes memory.
    ///
    /// Integers below 2^53 stay numbers, other numbers become strings as they were sent; `null` is left out. What does
    /// not fit is counted in a member `…`. Names that the policy does not spell out are masked and cut like values. The
    /// order of the names is that of RFC 8785.
    pub fn apply(&self, arguments: &str, keys: &Pseudonyms, salt: &str) -> BTreeMap<String, Value> {
        let mut view = View {
            rules: self,
            keys,
            salt,
            place: String::new(),
            shown: BTreeMap::new(),
            size: 0,
            is_full: false,
            left_out: 0,
        };
        let mut walker = Walker::of(arguments);
        let read = view.value(&mut walker, self.pointers.all(), 0, Treatment::Drop);
        if read.and_then(|()| walker.finish()).is_err() {
            return BTreeMap::new();
        }
        if view.left_out > 0 {
            view.shown.insert(LEFT_OUT.to_owned(), view.left_out.into());
        }
        view.shown
    }

    /// Which of the `open` pointers go on below a value that is `depth` steps down, and how it is treated where those above
    /// say `treatment`.
    fn at(&self, open: Some32, depth: usize, treatment: Treatment) -> (Some32, Treatment) {
        let ended = self.pointers.ended(open, depth);
        (open & !ended, self.first(ended).unwrap_or(treatment))
    }

    /// The treatment by the most specific of these pointers.
    fn first(&self, ended: Some32) -> Option<Treatment> {
        self.treatments.get(usize::try_from(ended.trailing_zeros()).ok()?).copied()
    }
}

/// The arguments as far as they were read.
struct View<'a> {
    rules: &'a ToolRedaction,
    keys: &'a Pseudonyms,
    salt: &'a str,
    /// The pointer to the value that is being read.
    place: String,
    shown: BTreeMap<String, Value>,
    /// Bytes of what is shown.
    size: usize,
    /// Whether something did not fit. Then all that follows is left out, and only counted.
    is_full: bool,
    left_out: u64,
}

impl View<'_> {
    /// Reads the next value, which is `depth` steps down. `open` are the pointers that went this way so far, and
    /// `treatment` is what those above say.
    fn value(
        &mut self,
        walker: &mut Walker<'_>,
        open: Some32,
        depth: usize,
        treatment: Treatment,
    ) -> Result<(), Unreadable> {
        let (open, treatment) = self.rules.at(open, depth, treatment);
        if open == 0 && treatment == Treatment::Drop {
            return walker.skip().map(drop);
        }
        if depth > limits::MAX_JSON_DEPTH {
            return Err(Unreadable::Defect(json::Defect::TooDeep));
        }
        let below = |view: &mut Self, walker: &mut Walker<'_>, step: Step<'_>| {
            let open = view.rules.pointers.follow(open, depth, step);
            // What is dropped needs no place. Nearly everything is.
            if view.rules.at(open, depth.saturating_add(1), treatment) == (0, Treatment::Drop) {
                return walker.skip().map(drop);
            }
            let end = view.place.len();
            view.enter(step, view.rules.pointers.is_spelt(open, depth));
            let read = view.value(walker, open, depth.saturating_add(1), treatment);
            view.place.truncate(end);
            read
        };
        match walker.peek() {
            Some(b'{') => walker.members(&[], |walker, name, _| below(self, walker, Step::Member(name))).map(drop),
            Some(b'[') => {
                walker.enter_array();
                let mut index = 0_usize;
                while walker.next_element()? {
                    below(self, walker, Step::Element(index))?;
                    index = index.saturating_add(1);
                }
                Ok(())
            }
            _ => {
                let span = walker.skip()?;
                self.leaf(walker.slice(span), treatment);
                Ok(())
            }
        }
    }

    /// Adds a step to the pointer.
    fn enter(&mut self, step: Step<'_>, is_spelt: bool) {
        if self.is_full {
            return;
        }
        self.place.push('/');
        match step {
            Step::Element(index) => self.place.push_str(&index.to_string()),
            Step::Member(name) => {
                let name = match is_spelt {
                    true => clean(name, limits::MAX_POINTER_BYTES),
                    false => masked(name, limits::MAX_AUDIT_NAME_BYTES).into(),
                };
                for character in name.chars() {
                    match character {
                        '~' => self.place.push_str("~0"),
                        '/' => self.place.push_str("~1"),
                        // RFC 8785 sorts by UTF-16, a map of strings by UTF-8: up to U+FFFF there is no difference.
                        '\u{10000}'.. => self.place.push(char::REPLACEMENT_CHARACTER),
                        _ => self.place.push(character),
                    }
                }
            }
        }
    }

    /// Shows a value that is neither an object nor an array.
    fn leaf(&mut self, raw: &str, treatment: Treatment) {
        if treatment == Treatment::Drop || raw == "null" {
            return;
        }
        if self.is_full || !self.add(raw, treatment) {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// Shows a value in its place. Names that were masked can be the same: then the first one is shown.
    fn add(&mut self, raw: &str, treatment: Treatment) -> bool {
        let value = match treatment {
            Treatment::Drop => None,
            Treatment::Keep => shown(raw),
            Treatment::Hash => Some(self.keys.hash(self.salt, raw.as_bytes()).into()),
            Treatment::Pseudonymise => {
                let text = json::parse(raw.as_bytes(), Text);
                Some(self.keys.of(ARGUMENT, text.as_deref().unwrap_or(raw).as_bytes()).into())
            }
        };
        let Some(value) = value.filter(|_| !self.shown.contains_key(&self.place)) else { return false };
        let size = self.place.len().saturating_add(value.to_string().len()).saturating_add(self.size);
        self.is_full = self.shown.len() >= limits::MAX_AUDIT_ARGUMENTS || size > limits::MAX_AUDIT_ARGUMENTS_BYTES;
        if !self.is_full {
            self.shown.insert(self.place.clone(), value);
            self.size = size;
        }
        !self.is_full
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rules(rules: &[(&str, Treatment)]) -> ToolRedaction {
        let parse = |&(pointer, treatment): &(&str, Treatment)| (Pointer::parse(pointer).unwrap(), treatment);
        ToolRedaction::new(rules.iter().map(parse).collect()).unwrap()
    }

    fn keys() -> Pseudonyms {
        Pseudonyms::new(b"secret", "https://mcp.test/mcp")
    }

    fn apply(list: &[(&str, Treatment)], arguments: &str) -> Value {
        json!(rules(list).apply(arguments, &keys(), "salt"))
    }

    use Treatment::{Drop, Hash, Keep, Pseudonymise};

    const CAMPAIGN: &str = r#"{"contacts":[{"id":7,"email":"jo@example.com","tags":["a",null]},{"id":8.50,"vip":true}],
        "text":"Call +49 170 1234567\n","note":"n","filter":{"a/b~":{"*":"x"}},"none":null,"empty":[{}]}"#;

    #[test]
    fn what_no_pointer_names_is_dropped() {
        assert_eq!(apply(&[], CAMPAIGN), json!({}));
        assert_eq!(apply(&[("/missing", Keep), ("/contacts/2", Keep), ("/text/x", Keep)], CAMPAIGN), json!({}));
        assert_eq!(apply(&[("/note", Keep)], CAMPAIGN), json!({"/note": "n"}));
        assert_eq!(apply(&[("/none", Keep), ("/empty", Keep)], CAMPAIGN), json!({}));
    }

    #[test]
    fn a_pointer_is_for_all_that_is_below_it() {
        assert_eq!(
            apply(&[("", Keep)], CAMPAIGN),
            json!({
                "/contacts/0/id": 7, "/contacts/0/email": "[email]", "/contacts/0/tags/0": "a",
                "/contacts/1/id": "8.50", "/contacts/1/vip": true, "/text": "Call [phone]\u{fffd}", "/note": "n",
                "/filter/a~1b~0/*": "x",
            })
        );
        assert_eq!(apply(&[("/filter", Keep)], CAMPAIGN), json!({"/filter/a~1b~0/*": "x"}));
        assert_eq!(apply(&[("/filter/a~1b~0/*", Keep)], CAMPAIGN), json!({"/filter/a~1b~0/*": "x"}));
        assert_eq!(apply(&[("", Keep)], "7"), json!({"": 7}));
    }

    #[test]
    fn the_most_specific_pointer_counts() {
        let arguments = r#"{"a":{"b":1,"c":2},"d":{"b":3}}"#;
        for (list, expected) in [
            (&[("", Keep), ("/a", Drop)][..], json!({"/d/b": 3})),
            (&[("", Keep), ("/a", Drop), ("/a/b", Keep)], json!({"/a/b": 1, "/d/b": 3})),
            (&[("/*/b", Keep), ("/a", Drop)], json!({"/a/b": 1, "/d/b": 3})),
            (&[("/*/b", Keep), ("/a/b", Drop)], json!({"/d/b": 3})),
            (&[("/*/b", Drop), ("/a/*", Keep)], json!({"/a/b": 1, "/a/c": 2})),
            (&[("/*/*", Keep), ("/*/b", Drop)], json!({"/a/c": 2})),
            (&[("/*", Keep), ("/a", Drop)], json!({"/d/b": 3})),
        ] {
            assert_eq!(apply(list, arguments), expected, "{list:?}");
            let mut reversed = list.to_vec();
            reversed.reverse();
            assert_eq!(apply(&reversed, arguments), expected, "{list:?} reversed");
        }
    }

    #[test]
    fn hashes_are_of_the_text_and_of_the_record() {
        let list = [("", Hash)];
        let shown = apply(&list, r#"{"a":"jo","b":"jo","c":1,"d":"1","e":"j\u006f"}"#);
        assert_eq!(shown["/a"], keys().hash("salt", br#""jo""#));
        assert_eq!(shown["/a"], shown["/b"]);
        assert_ne!(shown["/c"], shown["/d"]);
        assert_ne!(shown["/a"], shown["/e"]);
        assert_ne!(shown["/a"], json!(rules(&list).apply(r#"{"a":"jo"}"#, &keys(), "pepper"))["/a"]);
    }

    #[test]
    fn pseudonyms_are_of_the_value_in_all_records() {
        let list = [("", Pseudonymise)];
        let shown = apply(&list, r#"{"a":"jo","b":"j\u006f","c":7,"d":"ja"}"#);
        assert_eq!(shown["/a"], keys().of("argument", b"jo"));
        assert_eq!(shown["/c"], keys().of("argument", b"7"));
        assert_eq!(shown["/a"], shown["/b"]);
        assert_ne!(shown["/a"], shown["/d"]);
        assert_eq!(json!(rules(&list).apply(r#"{"x":["jo"]}"#, &keys(), "pepper"))["/x/0"], shown["/a"]);
        assert_ne!(json!(rules(&list).apply(r#"{"a":"jo"}"#, &Pseudonyms::new(b"2", "r"), ""))["/a"], shown["/a"]);
    }

    #[test]
    fn names_that_the_client_chose_are_cleaned() {
        let arguments =
            r#"{"jo@example.com":1,"ja@example.com":2,"\u202e😀":3,"NAME":4}"#.replace("NAME", &"n".repeat(70));
        let expected = json!({
            "/[email]": 1, "/\u{fffd}\u{fffd}": 3, format!("/{}…[+6]", "n".repeat(64)): 4,
            // The second address.
            "…": 1,
        });
        assert_eq!(apply(&[("/*", Keep)], &arguments), expected);
        // What the policy says is no news.
        assert_eq!(apply(&[("/jo@example.com", Keep)], &arguments), json!({"/jo@example.com": 1}));
        let long = "n".repeat(70);
        assert_eq!(apply(&[(&format!("/{long}"), Keep)], &arguments), json!({format!("/{long}"): 4}));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let list = |count: usize| json!({"l": vec![7; count], "d": {"x": [1, 2]}}).to_string();
        let rules = [("/l", Keep), ("/d", Drop)];
        assert_eq!(apply(&rules, &list(64)).as_object().unwrap().len(), 64);
        assert_eq!(apply(&rules, &list(64)).get(LEFT_OUT), None);
        let shown = apply(&rules, &list(70));
        assert_eq!((shown.as_object().unwrap().len(), &shown[LEFT_OUT]), (65, &json!(6)));
        assert_eq!((&shown["/l/63"], shown.get("/l/64")), (&json!(7), None));

        // 15 values of 257 bytes, with quotes, another one and their names fill 4096 bytes.
        let fill = |last: usize| {
            let mut values = vec!["v".repeat(255); 15];
            values.push("v".repeat(last));
            json!(values).to_string()
        };
        let used = 10 * "/0".len() + 6 * "/10".len() + 15 * 257 + 2;
        let fits = apply(&[("", Keep)], &fill(4096 - used));
        assert_eq!((fits.as_object().unwrap().len(), fits.get(LEFT_OUT)), (16, None));
        let over = apply(&[("", Keep)], &fill(4096 - used + 1));
        assert_eq!((over.as_object().unwrap().len(), &over[LEFT_OUT]), (16, &json!(1)));
    }

    #[test]
    fn arguments_that_cannot_be_read_are_not_shown() {
        for wrong in ["", "{", r#"{"a":1,}"#, r#"{"a":1,"a":2}"#, r#"{"a":1}{}"#] {
            assert_eq!(apply(&[("", Keep)], wrong), json!({}), "{wrong}");
        }
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_ne!(apply(&[("", Keep)], &nested(64)), json!({}));
        assert_eq!(apply(&[("", Keep)], &nested(65)), json!({}));
        assert_eq!(apply(&[("", Keep)], &nested(100_000)), json!({}));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            "[a-cé~/ ]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab~/é\u{fb01}😀]{0,2}", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    /// Each leaf with its path, the slow way.
    fn leaves(value: &Value, path: &[String], found: &mut Vec<(Vec<String>, Value)>) {
        let mut below = |name: String, value: &Value| leaves(value, &[path, &[name]].concat(), found);
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| below(name.clone(), value)),
            Value::Array(elements) => {
                elements.iter().enumerate().for_each(|(index, value)| below(index.to_string(), value));
            }
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) => found.push((path.to_vec(), value.clone())),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_trying_each_pointer_on_each_leaf(
            value in values(),
            list in prop::collection::btree_map("(/([ab*01]|~0|~1){1,2}){0,3}", prop_oneof![Just(Keep), Just(Drop)], 0..5),
        ) {
            let list: Vec<(&str, Treatment)> = list.iter().map(|(pointer, treatment)| (&**pointer, *treatment)).collect();
            let mut found = Vec::new();
            leaves(&value, &[], &mut found);
            let mut expected = BTreeMap::new();
            for (path, value) in found {
                let fits = |&&(pointer, _): &&(&str, Treatment)| {
                    let tokens: Vec<&str> = pointer.split('/').skip(1).collect();
                    let unescape = |token: &str| token.replace("~1", "/").replace("~0", "~");
                    tokens.len() <= path.len()
                        && tokens.iter().zip(&path).all(|(token, name)| *token == "*" || unescape(token) == *name)
                };
                let rank = |&&(pointer, _): &&(&str, Treatment)| {
                    let tokens: Vec<bool> = pointer.split('/').skip(1).map(|token| token != "*").collect();
                    (tokens.len(), tokens)
                };
                if list.iter().filter(fits).max_by_key(rank).is_some_and(|&(_, treatment)| treatment == Keep) {
                    let escape = |name: &String| {
                        let name: String = name.chars().map(|c| if c > '\u{ffff}' { '\u{fffd}' } else { c }).collect();
                        format!("/{}", name.replace('~', "~0").replace('/', "~1"))
                    };
                    expected.insert(path.iter().map(escape).collect::<String>(), value);
                }
            }
            let shown = rules(&list).apply(&value.to_string(), &keys(), "salt");
            // Arrays in which `01` stands are told from members of that name by the place alone.
            prop_assert_eq!(&shown, &expected);
            let mut by_utf16: Vec<&String> = shown.keys().collect();
            by_utf16.sort_by_key(|name| name.encode_utf16().collect::<Vec<u16>>());
            prop_assert!(by_utf16.iter().eq(&shown.keys().collect::<Vec<_>>()));
        }
    }
}
