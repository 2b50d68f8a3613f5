//! What records say of the bearer of a token: the same in each, so it is written once.

use std::borrow::Cow;

use super::Pseudonyms;
use super::object::{Object, list, object};
use super::text::{identity, shortened, text};
use crate::identity::{Directory, Principal};
use crate::jwt::Attributes;
use crate::limits;
use crate::units::UnixSeconds;

/// The bearer of a token under one policy, in canonical JSON.
#[derive(Debug)]
pub struct Portrait {
    /// The member `caller` of a record.
    pub(super) caller: Box<str>,
    /// The scopes of the token, a list.
    pub(super) granted: Box<str>,
    /// Members of the personal part, without braces. Between the first two are `approvers` to `arguments_digest`,
    /// before the third `outcome`, and after it `salt` to `stated_purpose`.
    pub(super) personal: [Box<str>; 4],
}

impl Portrait {
    /// The portrait of a caller. `hiding`: a pseudonym takes the place of each subject.
    pub fn of(principal: &Principal, directory: &Directory, hiding: Option<&Pseudonyms>) -> Self {
        Self {
            caller: object(|caller| write_caller(principal, directory, caller)).into(),
            granted: list(&shortened(principal.token().scopes().map(text), limits::MAX_RECORDED_SCOPES)).into(),
            personal: personal(principal, hiding),
        }
    }
}

fn write_caller(principal: &Principal, directory: &Directory, caller: &mut Object<'_>) {
    let token = principal.token();
    caller.optional_text("agent", principal.agent(directory).map(|agent| agent.name.as_str()));
    caller.optional_text("client", token.client_id().map(identity).as_deref());
    caller.text("credential", "jwt");
    caller.value("expires_at", &token.expires_at().get());
    caller.value("issued_at", &token.issued_at().get());
    caller.text("issuer", &identity(token.issuer()));
    caller.value("machine", &token.attributes().is_machine);
    caller.texts("roles", principal.operator_roles());
    caller.text("sender_constraint", "none");
    caller.optional_text("tenant", principal.tenant().map(identity).as_deref());
}

fn personal(principal: &Principal, hiding: Option<&Pseudonyms>) -> [Box<str>; 4] {
    let token = principal.token();
    let Attributes { roles, groups, department, purpose, agent, actors, acr, amr, auth_time, .. } = token.attributes();
    let pseudonym = |subject: &str| hiding.map(|hiding| hiding.of(token.issuer(), subject.as_bytes()));
    let actor = |actor| pseudonym(actor).map_or_else(|| text(actor), Cow::Owned);
    [
        members(|personal| {
            personal.optional_text("acr", one(acr).as_deref());
            personal.texts("actors", shortened(actors.iter().map(|name| actor(name)), limits::MAX_RECORDED_LIST));
            personal.texts("amr", all(amr));
        }),
        members(|personal| {
            if let Some(time) = auth_time.map(UnixSeconds::get) {
                personal.value("auth_time", &time);
            }
            personal.optional_text("claimed_agent", one(agent).as_deref());
            personal.texts("claimed_groups", all(groups));
            personal.texts("claimed_roles", all(roles));
            personal.optional_text("department", one(department).as_deref());
        }),
        members(|personal| {
            personal.optional_text("pseudonym", pseudonym(token.subject()).as_deref());
            personal.optional_text("purpose", one(purpose).as_deref());
        }),
        members(|personal| {
            if hiding.is_none() {
                personal.text("subject", &identity(token.subject()));
            }
            personal.optional_text("token_id", token.token_id().map(identity).as_deref());
        }),
    ]
}

fn one(claim: &Option<Box<str>>) -> Option<Cow<'_, str>> {
    claim.as_deref().map(text)
}

fn all(claims: &[Box<str>]) -> Vec<Cow<'_, str>> {
    shortened(claims.iter().map(|claim| text(claim)), limits::MAX_RECORDED_LIST)
}

/// Members without the braces around them.
fn members(write: impl FnOnce(&mut Object<'_>)) -> Box<str> {
    let object = object(write);
    let inner = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inner.unwrap_or_default().into()
}
