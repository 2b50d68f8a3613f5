//! Names and `*` patterns, with the most specific match found without trying each.

use std::collections::{BTreeMap, BTreeSet};

/// An exact name, or a pattern with one `*` that stands for any text, the empty one included.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Pattern {
    /// The name itself.
    Exact(String),
    /// Whatever starts and ends so, without overlap.
    Wildcard {
        /// Text before the `*`.
        prefix: String,
        /// Text after the `*`.
        suffix: String,
    },
}

impl Pattern {
    /// Reads a name or pattern; `None` when it is empty, has a second `*` or control characters.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return None;
        }
        match text.split_once('*') {
            None => Some(Self::Exact(text.to_owned())),
            Some((_, suffix)) if suffix.contains('*') => None,
            Some((prefix, suffix)) => Some(Self::Wildcard { prefix: prefix.to_owned(), suffix: suffix.to_owned() }),
        }
    }

    /// Whether a name fits.
    pub fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Wildcard { prefix, suffix } => {
                name.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.ends_with(suffix.as_str()))
            }
        }
    }
}

/// Names and patterns without an order: a name is in or out.
#[derive(Clone, Debug, Default)]
pub struct PatternList(Vec<Pattern>);

impl PatternList {
    /// Whether a name fits any of them.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.fits(name))
    }
}

impl FromIterator<Pattern> for PatternList {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}

/// Patterns and the index of the rule that each belongs to.
///
/// The longest literal text wins; an exact name beats every pattern. A lookup costs the logarithm of the number of
/// patterns, for each length that their literal texts have.
#[derive(Clone, Debug, Default)]
pub struct PatternMap {
    exact: BTreeMap<String, usize>,
    prefixes: ByLength<ByLength<usize>>,
    wildcard_count: usize,
}

/// Values by text, and the lengths of these texts: whatever starts a name is found without trying each of its starts.
#[derive(Clone, Debug)]
struct ByLength<T> {
    values: BTreeMap<String, T>,
    lengths: BTreeSet<usize>,
}

impl<T> Default for ByLength<T> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), lengths: BTreeSet::new() }
    }
}

impl<T: Default> ByLength<T> {
    fn entry(&mut self, text: String) -> &mut T {
        self.lengths.insert(text.len());
        self.values.entry(text).or_default()
    }

    /// The values of all texts that start `name`, with the rest of it.
    fn starts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a T, &'a str)> {
        let cuts = self.lengths.iter().filter_map(|&length| name.split_at_checked(length));
        cuts.filter_map(|(start, rest)| self.values.get(start).map(|value| (start, value, rest)))
    }

    /// The value of the longest text that ends `name`.
    fn longest_end<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a T)> {
        let cuts = self.lengths.iter().rev().filter_map(|&length| name.get(name.len().checked_sub(length)?..));
        cuts.filter_map(|end| self.values.get(end).map(|value| (end, value))).next()
    }
}

/// Two patterns that fit the same names, and none is more specific.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tie {
    /// The rule of the pattern that was there before.
    pub with: usize,
}

/// A rule that was found for a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Match {
    /// The rule.
    pub rule: usize,
    /// Whether the name is spelt out in the policy.
    pub exact: bool,
    /// Bytes of the name that the policy spells out: of two matches the one with more is the more specific.
    pub literal: usize,
}

impl PatternMap {
    /// Adds a pattern of rule `rule`.
    ///
    /// # Errors
    /// When a pattern that is there already fits some of the same names and is equally specific.
    pub fn insert(&mut self, pattern: Pattern, rule: usize) -> Result<(), Tie> {
        match pattern {
            Pattern::Exact(name) => match self.exact.insert(name, rule) {
                None => Ok(()),
                Some(with) => Err(Tie { with }),
            },
            Pattern::Wildcard { prefix, suffix } => {
                if let Some(with) = self.tied(&prefix, &suffix) {
                    return Err(Tie { with });
                }
                *self.prefixes.entry(prefix).entry(suffix) = rule;
                self.wildcard_count = self.wildcard_count.saturating_add(1);
                Ok(())
            }
        }
    }

    /// The pattern of the same literal length that overlaps: one prefix starts the other, one suffix ends the other.
    fn tied(&self, prefix: &str, suffix: &str) -> Option<usize> {
        let literal = prefix.len().saturating_add(suffix.len());
        let pairs = self.prefixes.values.iter();
        let all = pairs.flat_map(|(p, suffixes)| suffixes.values.iter().map(move |(s, &rule)| (p, s, rule)));
        all.filter(|(p, s, _)| p.len().saturating_add(s.len()) == literal)
            .find(|(p, s, _)| are_for_some_name((p.as_str(), s.as_str()), (prefix, suffix)))
            .map(|(_, _, rule)| rule)
    }

    /// The most specific rule for `name`.
    pub fn find(&self, name: &str) -> Option<Match> {
        if let Some(&rule) = self.exact.get(name) {
            return Some(Match { rule, exact: true, literal: name.len() });
        }
        let hits = self.prefixes.starts(name).filter_map(|(prefix, suffixes, rest)| {
            let (suffix, &rule) = suffixes.longest_end(rest)?;
            Some((prefix.len().saturating_add(suffix.len()), rule))
        });
        hits.max_by_key(|&(literal, _)| literal).map(|(literal, rule)| Match { rule, exact: false, literal })
    }

    /// Whether some name fits `pattern` and one of these.
    pub fn meets(&self, pattern: &Pattern) -> bool {
        match pattern {
            Pattern::Exact(name) => self.find(name).is_some(),
            Pattern::Wildcard { prefix, suffix } => {
                let pairs = self.prefixes.values.iter();
                let mut all =
                    pairs.flat_map(|(p, suffixes)| suffixes.values.keys().map(move |s| (p.as_str(), s.as_str())));
                self.exact.keys().any(|name| pattern.fits(name))
                    || all.any(|other| are_for_some_name(other, (prefix, suffix)))
            }
        }
    }

    /// All names and patterns, as they were written.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        let wildcards = self.prefixes.values.iter();
        let wildcards =
            wildcards.flat_map(|(prefix, ends)| ends.values.keys().map(move |suffix| format!("{prefix}*{suffix}")));
        self.exact.keys().cloned().chain(wildcards)
    }

    /// How many patterns with a `*` there are.
    pub const fn wildcard_count(&self) -> usize {
        self.wildcard_count
    }
}

/// Whether some name has both prefixes and both suffixes: one prefix starts the other, one suffix ends the other.
fn are_for_some_name(one: (&str, &str), other: (&str, &str)) -> bool {
    (one.0.starts_with(other.0) || other.0.starts_with(one.0)) && (one.1.ends_with(other.1) || other.1.ends_with(one.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(patterns: &[&str]) -> PatternMap {
        let mut map = PatternMap::default();
        for (rule, pattern) in patterns.iter().enumerate() {
            map.insert(Pattern::parse(pattern).unwrap(), rule).unwrap();
        }
        map
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let map = map(&["*", "delete_*", "*_contact", "delete_crm_*", "delete_crm_record", "norg://*/x"]);
        for (name, rule, exact) in [
            ("anything", 0, false),
            ("delete_booking", 1, false),
            ("read_contact", 2, false),
            ("delete_contact", 2, false),
            ("delete_crm_", 3, false),
            ("delete_crm_record", 4, true),
            ("norg://reports/x", 5, false),
            ("", 0, false),
        ] {
            assert_eq!(map.find(name).map(|hit| (hit.rule, hit.exact)), Some((rule, exact)), "{name}");
        }
    }

    #[test]
    fn prefix_and_suffix_do_not_overlap() {
        assert_eq!(map(&["aba*aba"]).find("aba"), None);
        assert_eq!(map(&["aba*aba"]).find("ababa"), None);
        assert!(map(&["aba*aba"]).find("abaaba").is_some());
    }

    #[test]
    fn equally_specific_patterns_that_overlap_are_a_tie() {
        for (one, two) in [("a", "a"), ("a*", "a*"), ("ab*", "*cd"), ("a*d", "ab*"), ("*", "*")] {
            let mut map = map(&[one]);
            assert_eq!(map.insert(Pattern::parse(two).unwrap(), 1), Err(Tie { with: 0 }), "{one} {two}");
        }
        map(&["ab*", "cd*", "*abc", "a*"]);
    }

    #[test]
    fn patterns_meet_where_a_name_fits_both() {
        let map = map(&["read_contact", "send_*", "*_booking"]);
        for meets in
            ["read_contact", "send_mail", "send_", "read_*", "*contact", "*", "s*", "*mail", "send_x*y", "x*_booking"]
        {
            assert!(map.meets(&Pattern::parse(meets).unwrap()), "{meets}");
        }
        for lone in ["read_contacts", "read", "read_c*s", "x*y", "sent*s", "write_*x", "read_contact*contact"] {
            assert!(!map.meets(&Pattern::parse(lone).unwrap()), "{lone}");
        }
    }

    #[test]
    fn what_is_not_a_pattern_is_refused() {
        for wrong in ["", "a**", "*a*", "a\nb", "a\0"] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        /// The map finds what a search through all patterns finds.
        #[test]
        fn lookup_agrees_with_trying_each(patterns in prop::collection::vec("[abé]{0,3}\\*?[abé]{0,2}", 0..12), name in "[abé]{0,6}") {
            let mut map = PatternMap::default();
            let mut kept = Vec::new();
            for (rule, text) in patterns.iter().enumerate() {
                if let Some(pattern) = Pattern::parse(text) && map.insert(pattern.clone(), rule).is_ok() {
                    kept.push((pattern, rule));
                }
            }
            let expected = kept.iter().filter_map(|(pattern, rule)| match pattern {
                Pattern::Exact(exact) => (*exact == name).then_some((usize::MAX, *rule)),
                Pattern::Wildcard { prefix, suffix } => name
                    .strip_prefix(prefix.as_str())
                    .is_some_and(|rest| rest.ends_with(suffix.as_str()))
                    .then_some((prefix.len().saturating_add(suffix.len()), *rule)),
            }).max_by_key(|&(literal, _)| literal).map(|(_, rule)| rule);
            // An exact name that is there twice keeps the last rule in the map; the load fails anyway.
            if kept.len() == patterns.iter().filter(|text| Pattern::parse(text).is_some()).count() {
                prop_assert_eq!(map.find(&name).map(|found| found.rule), expected);
            }
        }
    }
}
