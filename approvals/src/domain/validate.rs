//! Bounds of what a gateway may ask for.

use super::{Request, Requester, Requirement, Scalar};

/// Seconds that an approval can stay open: a day.
pub const MAX_EXPIRES_IN: u32 = 86_400;

/// Bytes of a name, role or identifier.
const MAX_NAME_BYTES: usize = 512;
/// Bytes of a URI.
const MAX_URI_BYTES: usize = 2048;
/// Bytes of the purpose.
const MAX_PURPOSE_BYTES: usize = 4096;
/// Arguments that are shown.
const MAX_ARGUMENTS: usize = 256;
/// Bytes of the text of an argument.
const MAX_ARGUMENT_BYTES: usize = 8192;
/// Gates of one call.
const MAX_REQUIREMENTS: usize = 32;
/// Roles in one list.
const MAX_ROLES: usize = 64;
/// People who must approve.
const MAX_COUNT: u32 = 10;

/// What is wrong with a request. It names the member and never holds its value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{member} {problem}")]
pub struct Invalid {
    /// The member.
    pub member: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

const fn require(holds: bool, member: &'static str, problem: &'static str) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { member, problem }) }
}

/// Whether the text is that many lower-case hexadecimal digits.
#[must_use]
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Text that is there, is not too long and has no control characters.
fn line(text: &str, max: usize, member: &'static str) -> Result<(), Invalid> {
    require(!text.is_empty(), member, "is empty")?;
    require(text.len() <= max, member, "is too long")?;
    require(!text.chars().any(char::is_control), member, "has control characters")
}

fn optional(text: Option<&str>, member: &'static str) -> Result<(), Invalid> {
    text.map_or(Ok(()), |text| line(text, MAX_NAME_BYTES, member))
}

fn list(texts: &[String], max: usize, member: &'static str) -> Result<(), Invalid> {
    require(texts.len() <= max, member, "has too many items")?;
    texts.iter().try_for_each(|text| line(text, MAX_NAME_BYTES, member))
}

impl Request {
    /// Checks every bound.
    ///
    /// # Errors
    /// With the first member that does not keep to its bound.
    pub fn validate(&self) -> Result<(), Invalid> {
        require(is_hex(&self.binding, 64), "binding", "must be 64 lower-case hexadecimal digits")?;
        require(is_hex(&self.policy, 64), "policy", "must be 64 lower-case hexadecimal digits")?;
        require(is_hex(&self.decision_id, 32), "decision_id", "must be 32 lower-case hexadecimal digits")?;
        line(&self.audience, MAX_URI_BYTES, "audience")?;
        require((1..=MAX_EXPIRES_IN).contains(&self.expires_in), "expires_in", "must be 1 to 86400")?;
        optional(self.escalated_from.as_deref(), "escalated_from")?;
        self.requester.validate()?;
        self.validate_call()?;
        require(!self.requirements.is_empty(), "requirements", "is empty")?;
        require(self.requirements.len() <= MAX_REQUIREMENTS, "requirements", "has too many items")?;
        self.requirements.iter().try_for_each(Requirement::validate)
    }

    fn validate_call(&self) -> Result<(), Invalid> {
        let call = &self.call;
        line(&call.revision, MAX_NAME_BYTES, "call.revision")?;
        line(&call.method, MAX_NAME_BYTES, "call.method")?;
        line(&call.name, MAX_URI_BYTES, "call.name")?;
        let purpose = call.purpose.as_deref().unwrap_or_default();
        require(purpose.len() <= MAX_PURPOSE_BYTES, "call.purpose", "is too long")?;
        require(call.arguments.len() <= MAX_ARGUMENTS, "call.arguments", "has too many members")?;
        for (pointer, value) in &call.arguments {
            require(pointer.is_empty() || pointer.starts_with('/'), "call.arguments", "has a name that is no pointer")?;
            require(pointer.len() <= MAX_URI_BYTES, "call.arguments", "has a name that is too long")?;
            let bytes = match value {
                Scalar::Text(text) | Scalar::Number(text) => text.len(),
                Scalar::Bool(_) => 0,
            };
            require(bytes <= MAX_ARGUMENT_BYTES, "call.arguments", "has a value that is too long")?;
        }
        Ok(())
    }
}

impl Requester {
    fn validate(&self) -> Result<(), Invalid> {
        line(&self.issuer, MAX_URI_BYTES, "requester.issuer")?;
        line(&self.subject, MAX_NAME_BYTES, "requester.subject")?;
        optional(self.client_id.as_deref(), "requester.client_id")?;
        optional(self.agent.as_deref(), "requester.agent")?;
        optional(self.tenant.as_deref(), "requester.tenant")?;
        list(&self.roles, MAX_ROLES, "requester.roles")?;
        list(&self.actors, MAX_ROLES, "requester.actors")
    }
}

impl Requirement {
    fn validate(&self) -> Result<(), Invalid> {
        line(&self.name, MAX_URI_BYTES, "requirements.name")?;
        require(!self.approvers.is_empty(), "requirements.approvers", "is empty")?;
        list(&self.approvers, MAX_ROLES, "requirements.approvers")?;
        require((1..=MAX_COUNT).contains(&self.count), "requirements.count", "must be 1 to 10")?;
        let Some(escalate) = &self.escalate else { return Ok(()) };
        require(escalate.after <= MAX_EXPIRES_IN, "requirements.escalate.after", "must be at most 86400")?;
        require(!escalate.approvers.is_empty(), "requirements.escalate.approvers", "is empty")?;
        list(&escalate.approvers, MAX_ROLES, "requirements.escalate.approvers")
    }
}
