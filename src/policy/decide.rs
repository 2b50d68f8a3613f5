//! The decision function.

use std::sync::Arc;

use serde_json::Value;

use super::condition::{Condition, Inputs, Known};
use super::{Denial, Effort, Gate, ObtainApproval, Rule, RuleSet, StepUp};
use crate::identity::{Definitions, Directory, Failure, Peer, Principal, Revoked, Side, Why};
use crate::json;
use crate::mcp::{Call, Target};
use crate::oauth::ScopeSet;
use crate::units::UnixSeconds;

/// Who asks, when and from where.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The caller.
    pub principal: &'a Principal,
    /// The other end of the connection.
    pub peer: &'a Peer,
    /// Who was cut off, besides those in the policy.
    pub revoked: Revoked<'a>,
    /// Definitions of tools as last seen.
    pub definitions: &'a Definitions,
    /// Now.
    pub now: UnixSeconds,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// Who asks.
    pub subject: Subject<'a>,
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
    /// Its only message is allowed once people have approved it.
    Oblige(ObtainApproval),
    /// One is not; no message of the request may pass.
    Deny {
        /// Its place in [`AccessRequest::calls`].
        call: usize,
        /// Why.
        denial: Denial,
    },
}

/// What a caller must do before a call that is otherwise allowed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Duties {
    /// Authenticate like that.
    pub step_up: Option<StepUp>,
    /// Get an approval.
    pub approval: Approval,
    /// What asks for the approval, where it is required.
    pub gates: Vec<Arc<Gate>>,
}

/// Whether a person must approve a call.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Approval {
    /// No.
    #[default]
    None,
    /// That depends on its arguments.
    Possible,
    /// Yes.
    Required,
}

/// What is known of a call's arguments.
#[derive(Clone, Copy)]
enum Arguments<'a> {
    /// Nothing: the call has not been made.
    Unknown,
    /// Everything: there are these, as JSON, or none.
    Known(Option<&'a str>),
}

/// How an error of a condition settles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Settled {
    /// It does not grant.
    Grants,
    /// It triggers.
    Triggers,
}

/// Decides a request: permitted only if each of its messages is. One that needs an approval must come alone, as it may have
/// to come again.
pub fn decide(rules: &RuleSet, directory: &Directory, request: AccessRequest<'_>) -> Decision {
    let AccessRequest { subject, calls } = request;
    let objections = standing(directory, subject);
    if calls.is_empty() && !objections.is_empty() {
        return Decision::Deny { call: 0, denial: Denial::NotPermitted(objections) };
    }
    let effort = Effort::default();
    for (index, call) in calls.iter().enumerate() {
        let arguments = Arguments::Known(call.arguments);
        let check = Check {
            rules,
            directory,
            subject,
            objections: &objections,
            arguments,
            effort: &effort,
            is_explained: true,
        };
        let gates = match check.target(&call.target).and_then(|duties| open_gates(rules, duties)) {
            Ok(gates) if gates.is_empty() => continue,
            Ok(gates) => gates,
            Err(denial) => return Decision::Deny { call: index, denial },
        };
        if calls.len() > 1 {
            return Decision::Deny { call: index, denial: Denial::ApprovalInBatch };
        }
        return Decision::Oblige(ObtainApproval::new(gates, Permit(())));
    }
    Decision::Permit(Permit(()))
}

/// Whether some arguments of a call could be allowed, and after which duties. `None`: nothing that the caller can do
/// would be allowed, so it need not know that the target exists.
pub fn visibility(
    rules: &RuleSet,
    directory: &Directory,
    subject: Subject<'_>,
    effort: &Effort,
    target: &Target<'_>,
) -> Option<Duties> {
    let objections = effort.standing(|| standing(directory, subject));
    let arguments = Arguments::Unknown;
    Check { rules, directory, subject, objections, arguments, effort, is_explained: false }.target(target).ok()
}

/// As [`visibility`], with the reason.
///
/// # Errors
/// Why no call of the target would be allowed, whatever its arguments.
pub fn prospect(
    rules: &RuleSet,
    directory: &Directory,
    subject: Subject<'_>,
    effort: &Effort,
    target: &Target<'_>,
) -> Result<Duties, Denial> {
    let objections = effort.standing(|| standing(directory, subject));
    let arguments = Arguments::Unknown;
    Check { rules, directory, subject, objections, arguments, effort, is_explained: true }.target(target)
}

/// The gates that a call has still to pass. Any other duty that is open denies, and so does a gate where nobody can be
/// asked.
fn open_gates(rules: &RuleSet, duties: Duties) -> Result<Vec<Arc<Gate>>, Denial> {
    match duties {
        Duties { step_up: Some(step_up), .. } => Err(Denial::InsufficientAuthentication(step_up)),
        Duties { approval: Approval::None, .. } => Ok(Vec::new()),
        Duties { approval: Approval::Required, gates, .. } if rules.has_approvers && !gates.is_empty() => Ok(gates),
        Duties { approval: Approval::Possible | Approval::Required, .. } => Err(Denial::ApprovalUnavailable),
    }
}

/// What speaks against a caller whatever it asks for.
pub(super) fn standing(directory: &Directory, subject: Subject<'_>) -> Vec<Failure> {
    subject.principal.objections(directory, subject.revoked, subject.peer, subject.now)
}

/// The value at a JSON Pointer, if no careless reader could find another one there: some match names in any case.
fn unmistakable<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    pointer.split('/').skip(1).try_fold(value, |value, token| {
        let name = token.replace("~1", "/").replace("~0", "~");
        let is_mistakable = |members: &serde_json::Map<String, Value>| {
            members.keys().any(|member| json::is_misspelling_of(member, &name))
        };
        match value {
            Value::Object(members) if is_mistakable(members) => None,
            Value::Object(members) => members.get(&name),
            Value::Array(_) => value.pointer(&format!("/{token}")),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    })
}

/// One question to the policy.
struct Check<'a> {
    rules: &'a RuleSet,
    directory: &'a Directory,
    subject: Subject<'a>,
    /// What speaks against the caller whatever it asks for.
    objections: &'a [Failure],
    arguments: Arguments<'a>,
    effort: &'a Effort,
    /// Whether somebody reads why something is denied: of the elements of a list it is only asked whether they are.
    is_explained: bool,
}

impl Check<'_> {
    fn target(&self, target: &Target<'_>) -> Result<Duties, Denial> {
        let tenant = self.subject.principal.tenant();
        match target {
            // Handshake, lists and notifications name nothing: a caller that nothing speaks against may.
            Target::Protocol => self.caller().map(|()| Duties::default()),
            Target::Resources(uris) if uris.is_empty() => self.caller().map(|()| Duties::default()),
            Target::Tool(name) => self.rule(self.rules.of_tool(tenant, name), "tool", name),
            Target::Prompt(name) => self.rule(self.rules.of_prompt(tenant, name), "prompt", name),
            Target::Resources(uris) => uris.iter().try_fold(Duties::default(), |duties, uri| {
                let more = self.rule(self.rules.of_resource(tenant, uri), "resource", uri)?;
                Ok(duties.and(more))
            }),
            Target::Task => self.caller().and(Err(Denial::TaskNotBound)),
        }
    }

    fn caller(&self) -> Result<(), Denial> {
        if self.objections.is_empty() { Ok(()) } else { Err(Denial::NotPermitted(self.objections.to_vec())) }
    }

    fn rule(&self, rule: Result<&Rule, Denial>, kind: &str, name: &str) -> Result<Duties, Denial> {
        let rule = match rule {
            Ok(rule) => rule,
            Err(denial) => return self.caller().and(Err(denial)),
        };
        let Subject { principal, now, .. } = self.subject;
        self.sides(rule, (kind == "tool").then_some(name))?;
        self.tenant(rule)?;
        let approval = self.conditions(rule, kind, name).ok_or(Denial::Condition)?;
        if let Some(at_most) = rule.max_token_lifetime
            && principal.token().lifetime() > at_most
        {
            return Err(Denial::TokenLifetime { at_most });
        }
        if !rule.scopes.is_subset_of(principal.granted()) {
            let required = self.names_missing(rule, &ScopeSet::default());
            return Err(Denial::InsufficientScope { required, missing: self.missing(rule) });
        }
        let is_met = |step_up: &&StepUp| step_up.is_met(principal.token().attributes(), now);
        let step_up = rule.authentication.as_ref().filter(|step_up| !is_met(step_up)).cloned();
        let gates = self.gates(rule, approval);
        let approval = if gates.is_empty() { approval } else { Approval::Required };
        Ok(Duties { step_up, approval, gates })
    }

    /// The gates that catch a call for certain; `approval` is what the rule itself says.
    fn gates(&self, rule: &Rule, approval: Approval) -> Vec<Arc<Gate>> {
        let of_rule = rule.approval.as_ref().filter(|_| approval == Approval::Required).map(|approval| &approval.gate);
        let agent = self.subject.principal.agent(self.directory).and_then(|agent| agent.approval.as_ref());
        let of_agent =
            agent.filter(|approval| !approval.scopes.is_disjoint(&rule.scopes)).map(|approval| &approval.gate);
        of_rule.into_iter().chain(of_agent).chain(&rule.risk_gates).map(Arc::clone).collect()
    }

    /// Every side but the token must allow it. If one does not, the token's lack is listed too, but getting more
    /// scopes would not help.
    fn sides(&self, rule: &Rule, tool: Option<&str>) -> Result<(), Denial> {
        let Subject { principal, definitions, .. } = self.subject;
        let mut failures = self.objections.to_vec();
        failures.extend(principal.lacking(self.directory, &self.rules.scopes, &rule.scopes));
        failures.extend(tool.into_iter().flat_map(|tool| principal.tool_objections(self.directory, tool, definitions)));
        if failures.is_empty() {
            return Ok(());
        }
        if !rule.scopes.is_subset_of(principal.granted()) {
            failures.push(Failure { side: Side::Token, why: Why::MissingScopes(self.missing(rule)) });
        }
        failures.sort_by_key(|failure| failure.side);
        Err(Denial::NotPermitted(failures))
    }

    /// The rule's tenant argument must be the caller's tenant. A caller without one has nothing there.
    fn tenant(&self, rule: &Rule) -> Result<(), Denial> {
        let Some(pointer) = &rule.tenant_argument else { return Ok(()) };
        let tenant = self.subject.principal.tenant().ok_or(Denial::OtherTenant)?;
        let Arguments::Known(arguments) = self.arguments else { return Ok(()) };
        let arguments: Option<Value> = arguments.and_then(|text| serde_json::from_str(text).ok());
        let named = arguments.as_ref().and_then(|arguments| unmistakable(arguments, pointer)).and_then(Value::as_str);
        if named == Some(tenant) { Ok(()) } else { Err(Denial::OtherTenant) }
    }

    /// What must hold, what must not, and what needs an approval: `None` is a denial. As long as that depends on arguments
    /// which are unknown, nothing is denied.
    fn conditions(&self, rule: &Rule, kind: &str, name: &str) -> Option<Approval> {
        let judge = || {
            let grants = rule.when.as_ref().map(|when| self.result(when, Settled::Grants, kind, name));
            let triggers = rule.deny_when.as_ref().map(|deny| self.result(deny, Settled::Triggers, kind, name));
            let is_denied = grants == Some(Some(false)) || triggers == Some(Some(true));
            (!is_denied).then(|| self.approval(rule, kind, name))
        };
        match self.arguments {
            Arguments::Unknown if !rule.looks_at_target() => self.effort.once(rule, judge),
            Arguments::Unknown | Arguments::Known(_) => judge(),
        }
    }

    fn approval(&self, rule: &Rule, kind: &str, name: &str) -> Approval {
        let Some(approval) = &rule.approval else { return Approval::None };
        match approval.when.as_ref().map(|when| self.result(when, Settled::Triggers, kind, name)) {
            None | Some(Some(true)) => Approval::Required,
            Some(Some(false)) => Approval::None,
            Some(None) => Approval::Possible,
        }
    }

    /// The result of a condition; `None` if it depends on arguments that are unknown. What is too much effort is an error.
    fn result(&self, condition: &Condition, settled: Settled, kind: &str, name: &str) -> Option<bool> {
        if !self.effort.spend() {
            return Some(settled == Settled::Triggers);
        }
        let Subject { principal, now, .. } = self.subject;
        let token = principal.token();
        let inputs = Inputs {
            arguments: match self.arguments {
                Arguments::Known(arguments) => Known::Yes(arguments),
                Arguments::Unknown => Known::No,
            },
            claims: token.claims(),
            client: token.client_id(),
            agent: principal.agent(self.directory).map(|agent| agent.name.as_str()),
            subject: token.subject(),
            issuer: token.issuer(),
            tenant: principal.tenant(),
            roles: &token.attributes().roles,
            groups: &token.attributes().groups,
            target_kind: kind,
            target_name: name,
            now,
        };
        match self.arguments {
            // The rest of the condition may decide by itself: `tenant == 'a' && arguments.x` is false for others.
            Arguments::Unknown if condition.depends_on_arguments() => condition.evaluate(&inputs).ok(),
            Arguments::Unknown | Arguments::Known(_) => Some(match settled {
                Settled::Grants => condition.grants(&inputs),
                Settled::Triggers => condition.triggers(&inputs),
            }),
        }
    }

    fn missing(&self, rule: &Rule) -> Vec<String> {
        self.names_missing(rule, self.subject.principal.granted())
    }

    /// The scopes of a rule that are not among `granted`, by name.
    fn names_missing(&self, rule: &Rule, granted: &ScopeSet) -> Vec<String> {
        if !self.is_explained {
            return Vec::new();
        }
        self.rules.scopes.missing(&rule.scopes, granted).map(str::to_owned).collect()
    }
}

impl Duties {
    /// The duties of two targets in one call.
    fn and(mut self, other: Self) -> Self {
        let is_new = |gate: &Arc<Gate>| !self.gates.iter().any(|known| Arc::ptr_eq(known, gate));
        let more: Vec<_> = other.gates.into_iter().filter(is_new).collect();
        self.gates.extend(more);
        Self { step_up: self.step_up.or(other.step_up), approval: self.approval.max(other.approval), gates: self.gates }
    }
}
