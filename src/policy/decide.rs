//! The decision function.

use super::{PatternMap, ScopeCatalogue, ScopeSet};
use crate::mcp::{Call, Target};
use crate::units::Seconds;

/// What a policy asks of a caller for the targets of one rule.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Scopes that the token must grant, all of them.
    pub scopes: ScopeSet,
    /// Longest lifetime (`exp - iat`) of a token that may be used here.
    pub max_token_lifetime: Option<Seconds>,
}

/// The rules of a policy, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// The rules, in the order of the document.
    pub rules: Vec<Rule>,
    /// Rules by tool name.
    pub tools: PatternMap,
    /// Rules by prompt name.
    pub prompts: PatternMap,
    /// Rules by resource URI.
    pub resources: PatternMap,
    /// The declared scopes.
    pub scopes: ScopeCatalogue,
}

/// Who asks, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// Everything that the token's scopes grant.
    pub granted: &'a ScopeSet,
    /// `exp - iat` of the token.
    pub token_lifetime: Seconds,
    /// What each message of the request asks for.
    pub calls: &'a [Call<'a>],
}

/// Proof that [`decide`] allowed a request. Nothing goes upstream without one, and nothing else makes one.
#[derive(Debug, Eq, PartialEq)]
pub struct Permit(());

/// The answer of the decision function.
#[derive(Debug, Eq, PartialEq)]
pub enum Decision {
    /// Every message of the request is allowed.
    Permit(Permit),
    /// One is not; no message of the request may pass.
    Deny {
        /// Its place in [`AccessRequest::calls`].
        call: usize,
        /// Why.
        denial: Denial,
    },
}

/// Why a request is denied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Denial {
    /// No rule names the target.
    NoRule,
    /// A pattern fits, but different readers could resolve this URI to different resources.
    AmbiguousUri,
    /// Tasks are not bound to their creators here, so a handle could be anyone's.
    TaskNotBound,
    /// The token lives longer than the rule allows.
    TokenLifetime {
        /// The longest lifetime that is allowed.
        at_most: Seconds,
    },
    /// The token lacks scopes. Getting them would help.
    InsufficientScope {
        /// All scopes that the rule requires.
        required: Vec<String>,
        /// Those that the token does not grant.
        missing: Vec<String>,
    },
}

impl Denial {
    /// Stable reason code for metrics and records.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::AmbiguousUri => "ambiguous_uri",
            Self::TaskNotBound => "task_not_bound",
            Self::TokenLifetime { .. } => "token_lifetime",
            Self::InsufficientScope { .. } => "insufficient_scope",
        }
    }
}

/// Decides a request: permitted only if each of its messages is.
pub fn decide(policy: &RuleSet, request: AccessRequest<'_>) -> Decision {
    for (index, call) in request.calls.iter().enumerate() {
        if let Err(denial) = check(policy, request, &call.target) {
            return Decision::Deny { call: index, denial };
        }
    }
    Decision::Permit(Permit(()))
}

fn check(policy: &RuleSet, request: AccessRequest<'_>, target: &Target<'_>) -> Result<(), Denial> {
    match target {
        // Handshake, lists and notifications name nothing: a verified token is enough.
        Target::Protocol => Ok(()),
        Target::Tool(name) => {
            let found = policy.tools.find(name).ok_or(Denial::NoRule)?;
            check_rule(policy, request, found.rule)
        }
        Target::Prompt(name) => {
            let found = policy.prompts.find(name).ok_or(Denial::NoRule)?;
            check_rule(policy, request, found.rule)
        }
        Target::Resources(uris) => uris.iter().try_for_each(|uri| {
            let found = policy.resources.find(uri).ok_or(Denial::NoRule)?;
            if !found.exact && !is_plain(uri) {
                return Err(Denial::AmbiguousUri);
            }
            check_rule(policy, request, found.rule)
        }),
        Target::Task => Err(Denial::TaskNotBound),
    }
}

fn check_rule(policy: &RuleSet, request: AccessRequest<'_>, rule: usize) -> Result<(), Denial> {
    let rule = policy.rules.get(rule).ok_or(Denial::NoRule)?;
    if let Some(at_most) = rule.max_token_lifetime
        && request.token_lifetime > at_most
    {
        return Err(Denial::TokenLifetime { at_most });
    }
    if rule.scopes.is_subset_of(request.granted) {
        return Ok(());
    }
    let names = |granted: &ScopeSet| policy.scopes.missing(&rule.scopes, granted).map(str::to_owned).collect();
    Err(Denial::InsufficientScope { required: names(&ScopeSet::default()), missing: names(request.granted) })
}

/// Whether every reader takes `uri` for the same resource, so that a pattern can speak for it.
///
/// Servers fold case in scheme and host, undo escapes, cut off parameters and queries, and join slashes (RFC 3986
/// section 6.2.2, and beyond). Any of that could turn the URI that a lax pattern fits into one that a strict rule names.
/// What is plain looks the same after all of it. A URI that is not can still be named exactly.
fn is_plain(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        None => ("", rest.strip_prefix('/').unwrap_or(rest)),
    };
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-._".contains(&byte);
    scheme.bytes().all(is_lower)
        && authority.bytes().all(|byte| is_lower(byte) || byte == b':')
        && (path.is_empty() || path.split('/').all(is_plain_segment))
}

/// Letters, digits and marks that no server gives a meaning, and escapes of blanks and of what is not ASCII.
fn is_plain_segment(segment: &str) -> bool {
    let mut pieces = segment.split('%');
    let mut text = pieces.next().unwrap_or_default().as_bytes().to_vec();
    let marks = b"-._~:@!$&'()*+,={}";
    if !text.iter().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(byte)) {
        return false;
    }
    for piece in pieces {
        let Some((escape, rest)) = piece.split_at_checked(2) else { return false };
        let is_hex = escape.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u8::from_str_radix(escape, 16) {
            Ok(byte @ (b' ' | 0x80..)) if is_hex => text.push(byte),
            Ok(_) | Err(_) => return false,
        }
        if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte)) {
            return false;
        }
        text.extend_from_slice(rest.as_bytes());
    }
    core::str::from_utf8(&text)
        .is_ok_and(|text| !matches!(text.trim(), "" | "." | "..") && !text.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_speaks_for_plain_uris_only() {
        for uri in [
            "norg://reports/../secrets",
            "norg://reports/..",
            "norg://reports/./a",
            "norg://reports/%2e%2E/a",
            "norg://reports%2fsecrets",
            "norg://reports/a\\..\\b",
            "norg://reports/%252e",
            "norg://reports/a%00",
            "norg://reports/a%",
            "norg://reports/a%+1",
            "norg://reports/a b",
            "norg://reports/a?x=/public",
            "norg://reports/a#/public",
            "norg://sec%72et/x",
            "norg://reports/sec%72et",
            "NORG://reports/x",
            "norg://REPORTS/x",
            "norg://reports//secret",
            "norg://reports/secret/",
            "norg://r/..;/s",
            "norg://r/a;x=1/s",
            "norg://r/..%3fx",
            "norg://r/%c0%ae%c0%ae/s",
            "norg://r/..%20/s",
            "norg://user@reports/x",
            "norg://r/%c2%85",
            "reports",
        ] {
            assert!(!is_plain(uri), "{uri}");
        }
        for uri in [
            "norg://reports/weekly",
            "norg://reports",
            "norg://reports/a..b",
            "norg://reports/a%20b",
            "norg://reports/%C3%A9t%C3%A9",
            "norg://contacts/{contact_id}",
            "file:///Srv/Data.txt",
            "urn:isbn:0451450523",
        ] {
            assert!(is_plain(uri), "{uri}");
        }
    }
}
