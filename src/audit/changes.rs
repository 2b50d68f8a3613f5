//! What is different between two policies, for people.

use std::collections::BTreeSet;

use serde_json::Value;

use super::clean;
use crate::grown::grown;
use crate::limits;

/// The JSON paths at which two policy documents differ, each after `+` (only in the new one), `-` (only in the old one) or
/// `~` (another value). Lists of the same length are compared element by element; of others it is said how many
/// elements came and went. At most [`limits::MAX_RECORDED_LIST`]; the last one then says how many are left out.
pub fn policy_changes(old: &[u8], new: &[u8]) -> Vec<String> {
    let read = |document: &[u8]| serde_json::from_slice(document).unwrap_or(Value::Null);
    let mut changes = Changes::default();
    changes.compare("", &read(old), &read(new));
    let Changes { mut paths, left_out } = changes;
    if left_out > 0 {
        paths.push(format!("…[+{left_out}]"));
    }
    paths
}

#[derive(Default)]
struct Changes {
    paths: Vec<String>,
    left_out: usize,
}

impl Changes {
    fn compare(&mut self, path: &str, old: &Value, new: &Value) {
        match (old, new) {
            _ if old == new => {}
            (Value::Object(old), Value::Object(new)) => {
                for (name, old) in old {
                    match new.get(name) {
                        Some(new) => self.compare(&within(path, name), old, new),
                        None => self.note('-', &within(path, name)),
                    }
                }
                new.keys().filter(|name| !old.contains_key(*name)).for_each(|name| self.note('+', &within(path, name)));
            }
            (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
                for (index, (old, new)) in old.iter().zip(new).enumerate() {
                    self.compare(&format!("{path}[{index}]"), old, new);
                }
            }
            (Value::Array(old), Value::Array(new)) => {
                let texts = |list: &[Value]| grown::<BTreeSet<_>, _>(list.iter().map(Value::to_string));
                let (old, new) = (texts(old), texts(new));
                let (gone, come) = (old.difference(&new).count(), new.difference(&old).count());
                self.note('~', &format!("{path} (+{come} -{gone})"));
            }
            _ => self.note('~', path),
        }
    }

    fn note(&mut self, sign: char, path: &str) {
        if self.paths.len() < limits::MAX_RECORDED_LIST {
            self.paths.push(clean(&format!("{sign} {path}"), limits::MAX_RECORDED_TEXT_BYTES).into_owned());
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

fn within(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named_by_their_place() {
        let old = br#"{"a":1,"b":{"c":[1,2],"d":0},"rules":[{"t":1},{"t":2}],"gone":{}}"#;
        let new = br#"{"a":1,"b":{"c":[1,3],"d":0,"e":1},"rules":[{"t":2}]}"#;
        assert_eq!(policy_changes(old, new), ["~ b.c[1]", "+ b.e", "- gone", "~ rules (+0 -1)"]);
        assert!(policy_changes(old, old).is_empty());
        let many = |value: usize| {
            let members: serde_json::Map<String, Value> = (0..40).map(|n| (format!("m{n:02}"), value.into())).collect();
            Value::Object(members).to_string().into_bytes()
        };
        let changes = policy_changes(&many(0), &many(1));
        assert_eq!((changes.len(), changes.last().map(String::as_str)), (33, Some("…[+8]")));
    }
}
