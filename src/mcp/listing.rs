//! The lists of MCP: which elements a caller sees, what the gateway adds to them, and how they may be cached.

use std::borrow::Cow;
use std::ops::Range;

use super::outbound::{Caching, ListKind, Listed, Shown, Unreadable, View};
use super::walk::{Edits, Sieve, Walker};
use crate::json::{self, Text};

pub(super) const META: &str = "_meta";
/// MCP 2026-07-28, caching: for how many milliseconds the client may use a result.
pub(super) const TTL: &str = "ttlMs";
/// MCP 2026-07-28, caching: whether others may use it too.
pub(super) const SCOPE: &str = "cacheScope";

/// The prefix of the gateway's own members of `_meta`. Nobody else's say anything.
const OWN_PREFIX: &str = "dev.toolgate/";
/// What a call of this tool takes besides permission: an approval, or a fresh authentication.
const DUTY: &str = "dev.toolgate/duty";

/// Takes out of a list what `view` does not show.
///
/// A list that is `null` is empty: that is what Go makes of one.
pub(super) fn filter(
    walker: &mut Walker<'_>,
    kind: ListKind,
    view: &mut dyn View,
    edits: &mut Edits,
) -> Result<(), Unreadable> {
    if walker.peek() == Some(b'n') {
        return walker.skip().map(drop);
    }
    if !walker.enter_array() {
        return Err(Unreadable::Malformed);
    }
    let mut sieve = Sieve::default();
    while walker.next_element()? {
        walker.peek();
        let whole = *walker;
        // What has no name that all readers agree on is not shown: nothing could be decided about it.
        let element = element(walker, kind).ok();
        if element.is_none() {
            *walker = whole;
        }
        let (span, key, meta) = match element {
            Some(Element { span, key, meta }) => (span, key, meta),
            None => (walker.skip()?, None, None),
        };
        let shown =
            key.map_or(Shown::No, |key| view.shows(Listed { kind, key: &key, definition: walker.slice(span.clone()) }));
        sieve.take(span.clone(), !matches!(shown, Shown::No), edits);
        let duty = match shown {
            Shown::No => continue,
            Shown::Yes => None,
            Shown::WithDuty(duty) => Some(format!("\"{DUTY}\":{}", duty.get())),
        };
        match (meta, duty) {
            (Some(mut meta), duty) => own_meta(&mut meta, duty, edits)?,
            (None, Some(duty)) => edits.insert(before_end(&span), format!(",\"{META}\":{{{duty}}}")),
            (None, None) => {}
        }
    }
    Ok(())
}

struct Element<'a> {
    span: Range<usize>,
    key: Option<Cow<'a, str>>,
    meta: Option<Walker<'a>>,
}

fn element<'a>(walker: &mut Walker<'a>, kind: ListKind) -> Result<Element<'a>, Unreadable> {
    let (mut key, mut meta) = (None, None);
    let span = walker.members(&[kind.key(), META], |walker, name, _| {
        if name == META {
            walker.peek();
            meta = Some(*walker);
        }
        if name == kind.key() {
            key = walker.string_value()?;
        } else {
            walker.skip()?;
        }
        Ok(())
    })?;
    Ok(Element { span, key, meta })
}

/// Takes the gateway's own members out of a `_meta`, which are not the upstream's to write, and puts `own` in.
pub(super) fn own_meta(walker: &mut Walker<'_>, own: Option<String>, edits: &mut Edits) -> Result<(), Unreadable> {
    if walker.peek() != Some(b'{') {
        let span = walker.skip()?;
        if let Some(own) = own {
            edits.replace(span, format!("{{{own}}}"));
        }
        return Ok(());
    }
    let mut sieve = Sieve::default();
    let span = walker.members(&[], |walker, name, start| {
        let is_own = name.get(..OWN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX));
        let end = walker.skip()?.end;
        sieve.take(start..end, !is_own, edits);
        Ok(())
    })?;
    if let Some(own) = own {
        let comma = if sieve.any_kept() { "," } else { "" };
        edits.insert(before_end(&span), format!("{comma}{own}"));
    }
    Ok(())
}

/// Where the closing brace of an object is.
fn before_end(object: &Range<usize>) -> usize {
    object.end.saturating_sub(1)
}

/// What a result says about caching, as far as it does.
#[derive(Debug, Default)]
pub(super) struct CacheHints {
    pub(super) ttl: Option<Range<usize>>,
    pub(super) scope: Option<Range<usize>>,
}

impl CacheHints {
    /// Lets the list that ends at `end` be cached for its own caller only, and not for longer than is allowed.
    pub(super) fn restrict(self, walker: &Walker<'_>, end: usize, caching: Caching, edits: &mut Edits) {
        let mut missing = String::new();
        match self.ttl {
            Some(span) => {
                let ttl = lowered(walker.slice(span.clone()), caching.most_ttl_ms);
                if let Some(ttl) = ttl {
                    edits.replace(span, ttl.to_string());
                }
            }
            None if caching.is_required => missing.push_str(&format!(",\"{TTL}\":0")),
            None => {}
        }
        match self.scope {
            Some(span) => {
                let is_private =
                    json::parse(walker.slice(span.clone()).as_bytes(), Text).is_ok_and(|it| it == "private");
                if !is_private {
                    edits.replace(span, "\"private\"".to_owned());
                }
            }
            None if caching.is_required => missing.push_str(&format!(",\"{SCOPE}\":\"private\"")),
            None => {}
        }
        if !missing.is_empty() {
            edits.insert(end.saturating_sub(1), missing);
        }
    }
}

/// What is to stand in place of that `ttlMs`, if it may not stay.
fn lowered(text: &str, most: u64) -> Option<u64> {
    match text.parse::<u64>() {
        Ok(ttl) => (ttl > most).then_some(most),
        // A number that large, or nothing that could be trusted.
        Err(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(most),
        Err(_) => Some(0),
    }
}
