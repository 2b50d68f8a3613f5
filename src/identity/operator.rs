//! Operator roles: what people may do, by the roles and groups that their issuer gives them.

use crate::jwt::VerifiedToken;
use crate::oauth::ScopeSet;
use crate::pattern::PatternList;

/// What a kind of person may do.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Name of the role in the policy.
    pub name: String,
    /// Who has it.
    pub matches: RoleMatch,
    /// What it may do.
    pub scopes: ScopeSet,
}

/// Which people have an operator role: those with any of the roles or groups.
#[derive(Clone, Debug, Default)]
pub struct RoleMatch {
    /// Values of the role claim.
    pub roles: PatternList,
    /// Values of the group claim.
    pub groups: PatternList,
    /// Issuers whose word counts; `None` for every trusted one.
    pub issuers: Option<Vec<String>>,
}

impl RoleMatch {
    /// Whether the bearer of this token has the role.
    pub fn fits(&self, token: &VerifiedToken) -> bool {
        let attributes = token.attributes();
        self.issuers.as_ref().is_none_or(|issuers| issuers.iter().any(|issuer| issuer == token.issuer()))
            && (attributes.roles.iter().any(|role| self.roles.contains(role))
                || attributes.groups.iter().any(|group| self.groups.contains(group)))
    }
}
