//! What people are asked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Case;
use crate::approval::contract::{Creation, Escalate, Requester, Requirement, Shown, written};
use crate::approval::{BindingDigest, Round, canonical_params};
use crate::audit::clean;
use crate::config::CompiledPolicy;
use crate::exchange::account::Account;
use crate::limits;
use crate::mcp::{Method, Target};
use crate::policy::{Gate, ObtainApproval};

/// The request to ask people about a call. Of its arguments they see what records show, treated in the same way.
pub(super) fn creation(
    account: &Account,
    case: &Case<'_>,
    obligation: &ObtainApproval,
    binding: &BindingDigest,
    policy: &CompiledPolicy,
) -> Vec<u8> {
    let (principal, call) = (case.principal, case.call);
    let token = principal.token();
    let (kind, name) = match &call.target {
        Target::Tool(name) => ("tool", name.as_ref()),
        Target::Prompt(name) => ("prompt", name.as_ref()),
        Target::Resources(uris) => ("resource", uris.first().map_or("", AsRef::as_ref)),
        Target::Protocol | Target::Task => ("", ""),
    };
    let (name, arguments) = (clean(name, limits::MAX_URI_BYTES), shown(account, case, policy));
    let purpose = call.context.purpose.as_deref().map(|text| clean(text, limits::MAX_RECORDED_TEXT_BYTES));
    written(&Creation {
        binding: binding.to_string(),
        audience: policy.resource.as_str(),
        policy: &policy.digest,
        decision_id: account.id.to_string(),
        requester: Requester {
            issuer: token.issuer(),
            subject: token.subject(),
            client_id: token.client_id(),
            agent: principal.agent(&policy.directory).map(|agent| agent.name.as_str()),
            tenant: principal.tenant(),
            roles: principal.operator_roles(),
            actors: token.attributes().actors.iter().map(AsRef::as_ref).collect(),
        },
        call: Shown {
            revision: call.revision.name(),
            method: call.method.map_or("", Method::name),
            kind,
            name: &name,
            withheld: pieces(case.bytes) > arguments.len(),
            arguments,
            purpose: purpose.as_deref(),
        },
        requirements: obligation.gates().iter().map(|gate| requirement(gate)).collect(),
        reason_required: obligation.needs_reason(),
        expires_in: obligation.expires().get(),
        escalated_from: None,
    })
}

/// The same, for a service that is asked because the one at `from` did not answer.
pub(super) fn escalated(creation: &[u8], from: &str) -> Vec<u8> {
    let Ok(mut creation) = serde_json::from_slice::<Map<String, Value>>(creation) else { return creation.to_vec() };
    creation.insert("escalated_from".to_owned(), from.into());
    written(&creation)
}

fn shown(account: &Account, case: &Case<'_>, policy: &CompiledPolicy) -> BTreeMap<String, Value> {
    let (Some(audit), Target::Tool(tool), Some(arguments)) = (&policy.audit, &case.call.target, case.call.arguments)
    else {
        return BTreeMap::new();
    };
    let redaction = audit.redaction.of_tool(tool);
    let shown = redaction.map(|redaction| redaction.apply(arguments, &audit.pseudonyms, account.salt()));
    let mut shown = shown.unwrap_or_default();
    // How many did not fit is no argument: `withheld` says that there are more.
    shown.retain(|place, _| place.is_empty() || place.starts_with('/'));
    shown
}

/// How many things a call says beside its name: strings, numbers, booleans, `null`s, and what is empty.
fn pieces(bytes: &[u8]) -> usize {
    fn count(value: &Value) -> usize {
        let parts: usize = match value {
            Value::Array(elements) => elements.iter().map(count).sum(),
            Value::Object(members) => members.values().map(count).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
        };
        parts.max(1)
    }
    let params = canonical_params(bytes, Round::First).ok().and_then(|params| serde_json::from_str(&params).ok());
    let Some(mut params): Option<Map<String, Value>> = params else { return usize::MAX };
    params.retain(|name, value| match name.as_str() {
        "name" | "uri" => !value.is_string(),
        // No arguments and an empty object of them are the same to people.
        "arguments" => value.as_object().is_none_or(|arguments| !arguments.is_empty()),
        _ => true,
    });
    params.values().map(count).sum()
}

fn requirement(gate: &Gate) -> Requirement<'_> {
    Requirement {
        gate: gate.origin.name(),
        name: &gate.name,
        approvers: &gate.approvers,
        count: gate.count,
        escalate: gate
            .escalation
            .as_ref()
            .map(|escalation| Escalate { after: escalation.after.get(), approvers: &escalation.approvers }),
    }
}
