//! OAuth scopes (RFC 6749 section 3.3) with a hierarchy: a broad scope implies narrower ones.

use std::collections::BTreeMap;

use crate::grown::grown;
use crate::pattern::Pattern;

/// Whether `text` is one scope token: visible ASCII without quote and backslash (RFC 6749 section 3.3).
pub fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~'))
}

/// A set of declared scopes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ScopeSet(Vec<u64>);

impl ScopeSet {
    fn insert(&mut self, index: usize) {
        let (word, bit) = (index / 64, index % 64);
        if self.0.len() <= word {
            self.0.resize(word.saturating_add(1), 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// How many scopes are in the set.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Adds all scopes of another set.
    pub fn extend(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Takes out all scopes of another set.
    pub fn remove(&mut self, other: &Self) {
        for (word, less) in self.0.iter_mut().zip(&other.0) {
            *word &= !less;
        }
    }

    /// Whether no scope is in both sets.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(word, others)| word & others == 0)
    }

    /// Whether every scope of this set is in `granted`.
    pub fn is_subset_of(&self, granted: &Self) -> bool {
        self.0.iter().enumerate().all(|(index, word)| word & !granted.0.get(index).copied().unwrap_or(0) == 0)
    }
}

/// The scopes that a policy declares, and what each implies.
#[derive(Clone, Debug, Default)]
pub struct ScopeCatalogue {
    names: Vec<String>,
    index: BTreeMap<String, usize>,
    /// For each scope, itself and all that it implies, directly or through others.
    closures: Vec<ScopeSet>,
}

impl ScopeCatalogue {
    /// A catalogue of scopes with the names that each implies directly; names that are not declared are left out.
    pub fn new(declared: &BTreeMap<String, Vec<String>>) -> Self {
        let names: Vec<String> = declared.keys().cloned().collect();
        let index: BTreeMap<String, usize> = grown(names.iter().cloned().zip(0..));
        let direct: Vec<Vec<usize>> = declared
            .values()
            .map(|implied| implied.iter().filter_map(|name| index.get(name).copied()).collect())
            .collect();
        let closures = (0..names.len()).map(|start| closure(start, &direct)).collect();
        Self { names, index, closures }
    }

    /// The set of exactly these scopes; those that are not declared are left out.
    pub fn set<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> ScopeSet {
        let mut set = ScopeSet::default();
        names.into_iter().filter_map(|name| self.index.get(name)).for_each(|&index| set.insert(index));
        set
    }

    /// All that a token with these scopes may do: the declared ones among them, and what those imply.
    pub fn granted<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> ScopeSet {
        let mut set = ScopeSet::default();
        let closures = names.into_iter().filter_map(|name| self.index.get(name)).filter_map(|&i| self.closures.get(i));
        closures.for_each(|closure| set.extend(closure));
        set
    }

    /// The names in `wanted` that are not in `granted`, in alphabetical order.
    pub fn missing<'a>(&'a self, wanted: &'a ScopeSet, granted: &'a ScopeSet) -> impl Iterator<Item = &'a str> {
        let indexed = self.names.iter().enumerate();
        indexed.filter(|&(i, _)| wanted.contains(i) && !granted.contains(i)).map(|(_, name)| name.as_str())
    }

    /// The declared scopes that a name or pattern fits.
    pub fn fitting(&self, pattern: &Pattern) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| pattern.fits(name))
    }

    /// Whether `name` is declared.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Whether `name` implies itself through others.
    pub fn is_cyclic(&self, name: &str, implied: &[String]) -> bool {
        let Some(&own) = self.index.get(name) else { return false };
        implied
            .iter()
            .filter_map(|other| self.index.get(other))
            .filter_map(|&other| self.closures.get(other))
            .any(|closure| closure.contains(own))
    }
}

fn closure(start: usize, direct: &[Vec<usize>]) -> ScopeSet {
    let mut reached = ScopeSet::default();
    let mut open = vec![start];
    while let Some(index) = open.pop() {
        if !reached.contains(index) {
            reached.insert(index);
            open.extend(direct.get(index).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(entries: &[(&str, &[&str])]) -> ScopeCatalogue {
        let declared = entries
            .iter()
            .map(|(name, implied)| ((*name).to_owned(), implied.iter().map(|&s| s.to_owned()).collect()))
            .collect();
        ScopeCatalogue::new(&declared)
    }

    #[test]
    fn broader_scopes_imply_narrower_ones_through_others() {
        let scopes = catalogue(&[("admin", &["bulk"]), ("bulk", &["write"]), ("read", &[]), ("write", &[])]);
        let wanted = scopes.set(["write", "read"]);
        assert!(!wanted.is_subset_of(&scopes.granted(["admin"])));
        assert_eq!(scopes.missing(&wanted, &scopes.granted(["admin"])).collect::<Vec<_>>(), ["read"]);
        assert!(wanted.is_subset_of(&scopes.granted(["admin", "read"])));
        assert_eq!(scopes.missing(&wanted, &scopes.granted(["unheard-of"])).collect::<Vec<_>>(), ["read", "write"]);
    }

    #[test]
    fn many_scopes_do_not_mix_up() {
        let names: Vec<String> = (0..200).map(|i| format!("s{i:03}")).collect();
        let declared = names.iter().map(|name| (name.clone(), Vec::new())).collect();
        let scopes = ScopeCatalogue::new(&declared);
        for name in &names {
            let granted = scopes.granted([name.as_str()]);
            let all = scopes.set(names.iter().map(String::as_str));
            assert_eq!(scopes.missing(&all, &granted).count(), 199);
            assert!(scopes.set([name.as_str()]).is_subset_of(&granted));
        }
    }

    #[test]
    fn cycles_are_seen_and_end() {
        let scopes = catalogue(&[("a", &["b"]), ("b", &["a"]), ("c", &["a"])]);
        assert!(scopes.is_cyclic("a", &["b".to_owned()]));
        assert!(!scopes.is_cyclic("c", &["a".to_owned()]));
    }

    #[test]
    fn scope_tokens_have_no_blank_quote_or_backslash() {
        assert!(is_scope_token("norg:contacts:read"));
        for wrong in ["", "a b", "a\"", "a\\", "é", "a\n"] {
            assert!(!is_scope_token(wrong), "{wrong:?}");
        }
    }
}
